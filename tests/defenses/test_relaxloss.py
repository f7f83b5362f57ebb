"""RelaxLoss step by step, and where it leaves the training loss."""

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from medleak.api import ConfigError, GradientRule, Step
from medleak.defenses.train._recipes import changed
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.relaxloss import RelaxedGradient, RelaxLoss, flattening
from medleak.targets._rules import MeanGradient
from medleak.targets._training import losses


def gradient(rule, model, x, y, epoch):
    task = "multilabel" if y.ndim == 2 else "multiclass"
    with rule.attached(model, losses(task), 0) as backward:
        getattr(backward, "begins", lambda _: None)(epoch)
        value = backward(x, y)
    return value.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


def batch(small, labels=None):
    data = small.records(12, labels=labels)
    return torch.from_numpy(data.x).float() / 255, torch.from_numpy(data.y)


@pytest.mark.parametrize("labels", [None, 3])
def test_at_alpha_zero_it_is_plain_training_bit_by_bit(small, labels):
    recipe = changed(small.recipe, epochs=12)
    plain, zero, relaxed, again = (
        small.fit(*(RelaxLoss(alpha=a) for a in alphas), labels=labels, recipe=recipe)
        for alphas in ((), (0,), (0.6,), (0.6,))
    )
    assert small.same(zero, plain)
    assert small.same(relaxed, again)
    assert not small.same(relaxed, plain)
    assert relaxed.facts["relaxloss_alpha"] == 0.6
    assert relaxed.facts["relaxloss_upper"] == 1


@pytest.mark.parametrize("labels", [None, 3])
def test_above_alpha_it_descends_and_below_it_ascends_or_flattens(small, labels):
    x, y = batch(small, labels)
    model = small.network(labels or 2)
    loss, plain = gradient(MeanGradient(), model, x, y, 1)
    for epoch in (1, 2):
        assert torch.equal(plain, gradient(RelaxedGradient(loss / 2, 1.0), model, x, y, epoch)[1])
    value, up = gradient(RelaxedGradient(2 * loss, 1.0), model, x, y, 1)
    assert value == pytest.approx(loss)
    assert torch.equal(up, -plain)
    _, flat = gradient(RelaxedGradient(2 * loss, 1.0), model, x, y, 2)
    z = model(x)
    task = "multilabel" if labels else "multiclass"
    objective = (flattening(z, y, 1.0) - losses(task)(z, y)).mean()
    want = torch.autograd.grad(objective, list(model.parameters()))
    assert torch.allclose(flat, torch.cat([w.flatten() for w in want]), atol=1e-6)
    assert not torch.allclose(flat, up, atol=1e-3)


@pytest.mark.parametrize("upper", [1.0, 0.2])
def test_flattening_record_by_record(upper):
    z, y = np.random.default_rng(0).normal(size=(50, 5)) * 2, np.arange(50) % 5
    got = flattening(torch.from_numpy(z), torch.from_numpy(y), upper).numpy()
    for row, label, value in zip(z, y, got, strict=True):
        p = np.exp(row) / np.exp(row).sum()
        kept = min(p[label], upper)
        target = np.full(5, (1 - kept) / 4)
        target[label] = kept
        want = 0 if row.argmax() == label else -(target * np.log(p)).sum()
        assert value == pytest.approx(want, abs=1e-5)
    assert (got > 0).any()
    assert (got == 0).any()


def test_a_label_of_several_is_a_problem_of_two_classes():
    z, y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 2
    y = y.view(20, 3)
    pairs = torch.stack([torch.zeros(20, 3), z], -1)
    each = torch.stack([flattening(pairs[:, j], y[:, j], 0.4) for j in range(3)], 1)
    assert torch.allclose(flattening(z, y, 0.4), each.mean(1))


def test_the_training_loss_settles_at_alpha(small):
    recipe = changed(small.recipe, epochs=150, lr=0.05, momentum=0.9)
    plain, relaxed = (small.fit(*d, recipe=recipe).facts for d in ((), (RelaxLoss(alpha=0.4),)))
    assert plain["train_loss"] < 0.05
    assert relaxed["train_loss"] == pytest.approx(0.4, abs=0.12)


def test_rules_hear_of_each_epoch_before_its_first_batch(small):
    heard = []

    class Ear(GradientRule):
        def attached(self, model, loss, seed):
            class Hearing(Step):
                def begins(self, epoch):
                    heard.append(epoch)

            with MeanGradient().attached(model, loss, seed) as plain:
                return nullcontext(Hearing(lambda x, y: heard.append("batch") or plain(x, y)))

    small.recipe.__class__(epochs=2, batch_size=30, gradient=Ear()).fit(
        small.network(), small.records(), problem=small.problem(), seed=0
    )
    assert heard == [1, "batch", "batch", 2, "batch", "batch"]


def test_an_empty_batch_is_a_step_of_no_change(small):
    x, y = torch.rand(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)
    for epoch in (1, 2):
        assert not gradient(RelaxedGradient(0.3, 1.0), small.network(), x, y, epoch)[1].any()


def test_refusals(small):
    public = small.problem()
    (reason,) = RelaxLoss(alpha=0.7).incompatibilities(public, small.recipe)
    assert "0.7 is not below 0.693" in reason
    assert RelaxLoss(alpha=0.7).incompatibilities(small.problem(labels=5), small.recipe)
    private = DPSGD(epsilon=8).apply(small.recipe, problem=public)
    assert "do not compose" in RelaxLoss().incompatibilities(public, private)[0]
    assert len(RelaxLoss(alpha=math.log(2)).incompatibilities(public, private)) == 2


@pytest.mark.parametrize(
    ("keywords", "named"),
    [({"alpha": -1}, "alpha -1"), ({"alpha": None}, "alpha None"), ({"upper": 0}, "upper 0"),
     ({"upper": 2}, "upper 2")],
)  # fmt: skip
def test_impossible_settings_are_named(small, keywords, named):
    assert named in RelaxLoss(**keywords).invalid_parameters()[0]
    with pytest.raises(ConfigError, match=named):
        RelaxLoss(**keywords).apply(small.recipe, problem=small.problem())

"""The smoothed loss against soft targets, and against nothing where there is nothing to smooth."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medleak.api import ConfigError, ProblemSpec, Records
from medleak.defenses.train._private import PrivateGradient
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.label_smoothing import LabelSmoothing, Smoothed, smoothed
from medleak.defenses.train.relaxloss import RelaxedGradient
from medleak.targets._rules import MeanGradient
from medleak.targets._training import losses
from medleak.targets.recipes import SGD


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_it_is_torchs_own_smoothing(epsilon):
    z, y = 5 * torch.randn(40, 7, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 7
    want = functional.cross_entropy(z, y, reduction="none", label_smoothing=epsilon)
    assert torch.allclose(smoothed(losses("multiclass"), epsilon)(z, y), want, atol=1e-5)


@pytest.mark.parametrize("epsilon", [-0.5, 0.3])
def test_it_is_the_cross_entropy_with_the_soft_target(epsilon):
    z, y = torch.randn(30, 4, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 4
    target = (1 - epsilon) * functional.one_hot(y, 4) + epsilon / 4
    want = -(target * z.log_softmax(1)).sum(1)
    assert torch.allclose(smoothed(losses("multiclass"), epsilon)(z, y), want, atol=1e-5)
    y = (z > 0.3).long()
    target = (1 - epsilon) * y + epsilon / 2
    want = functional.binary_cross_entropy_with_logits(z, target, reduction="none").mean(1)
    assert torch.allclose(smoothed(losses("multilabel"), epsilon)(z, y), want, atol=1e-5)


@pytest.mark.parametrize("labels", [None, 3])
def test_without_smoothing_it_is_plain_training_bit_by_bit(small, labels):
    assert small.same(small.fit(LabelSmoothing(epsilon=0), labels=labels), small.fit(labels=labels))
    changed = small.fit(LabelSmoothing(epsilon=0.1), labels=labels)
    assert not small.same(changed, small.fit(labels=labels))
    assert small.same(changed, small.fit(LabelSmoothing(epsilon=0.1), labels=labels))
    assert changed.facts["label_smoothing"] == 0.1


def test_confidence_settles_where_the_target_is(one_thread):
    y = np.arange(40) % 2
    data = Records(np.float32(2 * y - 1)[:, None], y, np.arange(40))
    problem = ProblemSpec(40, 40, 1, (1,), 2)
    recipe = LabelSmoothing(epsilon=0.2).apply(SGD(epochs=300, lr=0.1), problem=problem)
    torch.manual_seed(0)
    model = recipe.fit(nn.Linear(1, 2), data, problem=problem, seed=0).model
    p = model(torch.from_numpy(data.x)).softmax(1).detach().numpy()
    assert p[np.arange(40), y] == pytest.approx(0.9, abs=1e-3)


def test_inside_dp_sgd_each_record_is_clipped_under_the_smoothed_loss(small):
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y, clip, model = torch.tensor([0, 1, 1] * 3), 0.3, small.network()
    want = [torch.zeros_like(p) for p in model.parameters()]
    for i in range(9):
        loss = functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1], label_smoothing=0.4)
        each = torch.autograd.grad(loss, list(model.parameters()))
        norm = sum(float(g.square().sum()) for g in each) ** 0.5
        for s, g in zip(want, each, strict=True):
            s += g * min(1, clip / norm)
    rule = Smoothed(0.4, PrivateGradient(clip, 0.0, 1))
    with rule.attached(model, losses("multiclass"), 0) as backward:
        backward(x, y)
    for p, w in zip(model.parameters(), want, strict=True):
        assert torch.allclose(p.grad, w, atol=1e-5)
    facts = small.fit(DPSGD(noise_multiplier=1), LabelSmoothing()).facts
    assert (facts["sigma"], facts["label_smoothing"]) == (1, 0.1)


@pytest.mark.parametrize("labels", [None, 3])
def test_until_its_start_training_is_plain_bit_by_bit(small, labels):
    plain = small.fit(labels=labels)
    assert small.same(
        small.fit(LabelSmoothing(epsilon=-0.2, start=1, full=1), labels=labels), plain
    )
    late = LabelSmoothing(epsilon=-0.2, start=0.75, full=0.75)  # the last of four epochs
    fit = small.fit(late, labels=labels)
    assert not small.same(fit, plain)
    assert small.same(fit, small.fit(late, labels=labels))
    assert not small.same(fit, small.fit(LabelSmoothing(epsilon=-0.2), labels=labels))
    assert fit.facts["label_smoothing"] == -0.2


def test_epsilon_grows_evenly_between_two_shares_of_the_epochs():
    rule = Smoothed(-0.2, MeanGradient(), start=0.5, full=0.75, epochs=8)
    assert [rule.at(t) for t in range(1, 10)] == pytest.approx([0] * 5 + [-0.1] + [-0.2] * 3)
    step = Smoothed(-0.2, MeanGradient(), start=0.5, full=0.5, epochs=4)
    assert [step.at(t) for t in range(1, 5)] == [0, 0, -0.2, -0.2]
    assert Smoothed(0.1, MeanGradient()).at(1) == 0.1


def test_the_schedule_counts_the_epochs_that_the_recipe_has(small):
    late, public = LabelSmoothing(epsilon=-0.2, start=0.5, full=0.5), small.problem()
    assert late.apply(small.recipe, problem=public).gradient.epochs == 4
    longer = DPSGD(noise_multiplier=1, epochs=9).apply(small.recipe, problem=public)
    assert late.apply(longer, problem=public).gradient.epochs == 9


def test_a_rule_inside_hears_of_the_epochs_too(small):
    z, y = small.network(), torch.tensor([0, 1] * 4)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    rule = Smoothed(-0.2, RelaxedGradient(0.1, 1.0), start=0.5, full=0.5, epochs=4)
    with rule.attached(z, losses("multiclass"), 0) as backward:
        for epoch in (1, 2, 3):
            backward.begins(epoch)
            assert backward.backward.even == (epoch % 2 == 1)
            assert backward(x, y).item() == pytest.approx(
                smoothed(losses("multiclass"), 0 if epoch < 3 else -0.2)(z(x), y).mean().item()
            )


def test_a_negative_target_sharpens_and_a_positive_one_softens(small):
    recipe = SGD(epochs=60, batch_size=16, lr=0.05)
    gaps = []
    for epsilon in (0.1, 0.0, -0.05):
        defense = LabelSmoothing(epsilon=epsilon, start=0.5, full=0.75)
        fit = small.fit(defense, recipe=recipe)
        assert fit.facts["train_accuracy"] > 0.85
        z = fit.model(torch.from_numpy(small.records().x).float() / 255)
        gaps.append((z[:, 0] - z[:, 1]).abs().mean().item())
    assert gaps[0] < gaps[1] < gaps[2]


def test_dp_sgd_after_it_is_refused(small):
    smooth = LabelSmoothing().apply(small.recipe, problem=small.problem())
    assert "already replaced" in DPSGD(epsilon=8).incompatibilities(small.problem(), smooth)[0]


@pytest.mark.parametrize(
    ("start", "full"), [(0.5, 0.2), (-0.1, 0.5), (0.5, 1.1), (None, 0.5), (0.1, "late"), (0.5, 0)]
)
def test_impossible_shares_are_named(small, start, full):
    (fault,) = LabelSmoothing(start=start, full=full).invalid_parameters()
    assert repr(start) in fault
    assert repr(full) in fault


@pytest.mark.parametrize("epsilon", [1, -1, "some", None, float("nan"), True])
def test_impossible_settings_are_named(small, epsilon):
    defense = LabelSmoothing(epsilon=epsilon)
    assert repr(epsilon) in defense.invalid_parameters()[0]
    with pytest.raises(ConfigError, match="between -1 and 1"):
        defense.apply(small.recipe, problem=small.problem())

"""The mixed loss against explicit soft targets, and plain training where nothing is mixed."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from medleak.api import ConfigError
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.label_smoothing import LabelSmoothing
from medleak.defenses.train.mixup import MixedGradient, MixUp
from medleak.defenses.train.relaxloss import RelaxLoss
from medleak.targets._training import losses


@pytest.mark.parametrize("labels", [None, 3])
def test_without_mixing_it_is_plain_training_bit_by_bit(small, labels):
    assert small.same(small.fit(MixUp(alpha=0), labels=labels), small.fit(labels=labels))
    mixed = small.fit(MixUp(alpha=1), labels=labels)
    assert not small.same(mixed, small.fit(labels=labels))
    assert small.same(mixed, small.fit(MixUp(alpha=1), labels=labels))
    assert mixed.facts["mixup_alpha"] == 1


@pytest.mark.parametrize("labels", [None, 3])
def test_the_gradient_is_that_of_the_mixed_target(small, labels):
    data, model = small.records(10, labels=labels), small.network(labels or 2)
    x, y = torch.from_numpy(data.x).float() / 255, torch.from_numpy(data.y)
    rng = np.random.default_rng(5)
    share = rng.beta(0.4, 0.4)
    partner = rng.permutation(10)
    assert 0.001 < share < 0.999
    target = y.float() if labels else functional.one_hot(y, 2).float()
    target = share * target + (1 - share) * target[partner]
    z = model(share * x + (1 - share) * x[partner])
    if labels:
        loss = functional.binary_cross_entropy_with_logits(z, target)
    else:
        loss = functional.cross_entropy(z, target)
    want = torch.autograd.grad(loss, list(model.parameters()))
    task = "multilabel" if labels else "multiclass"
    with MixedGradient(0.4).attached(model, losses(task), 5) as backward:
        assert backward(x, y) == pytest.approx(loss.item(), rel=1e-5)
    for p, w in zip(model.parameters(), want, strict=True):
        assert torch.allclose(p.grad, w, atol=1e-6)


def test_an_empty_batch_is_a_step_of_no_change(small):
    model = small.network()
    with MixedGradient(1.0).attached(model, losses("multiclass"), 0) as backward:
        assert backward(torch.rand(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)) == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("alpha", [1e-3, 1e3])
def test_the_limits_of_alpha_give_numbers(alpha):
    drawn = np.random.default_rng(0).beta(alpha, alpha, 1000)
    assert np.isfinite(drawn).all()
    assert drawn.mean() == pytest.approx(0.5, abs=0.07)


def test_it_composes_inwards_only(small):
    public = small.problem()
    facts = small.fit(MixUp(alpha=0.4), LabelSmoothing()).facts
    assert (facts["mixup_alpha"], facts["label_smoothing"]) == (0.4, 0.1)
    for first in (DPSGD(epsilon=8), LabelSmoothing(), RelaxLoss(), MixUp()):
        (reason,) = MixUp().incompatibilities(public, first.apply(small.recipe, problem=public))
        assert "do not compose" in reason
    mixed = MixUp().apply(small.recipe, problem=public)
    assert "already replaced" in DPSGD(epsilon=8).incompatibilities(public, mixed)[0]


@pytest.mark.parametrize("alpha", [-1, 1e-4, 1e4, "some", float("inf")])
def test_impossible_settings_are_named(small, alpha):
    assert repr(alpha) in MixUp(alpha=alpha).invalid_parameters()[0]
    with pytest.raises(ConfigError, match="alpha"):
        MixUp(alpha=alpha).apply(small.recipe, problem=small.problem())

"""What is dropped, when, and that nothing of it stays."""

import pytest
import torch
from torch import nn

from medleak.api import ConfigError
from medleak.defenses.train._layers import last_linear
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.dropout import Dropout, Dropped
from medleak.defenses.train.mixup import MixUp
from medleak.targets._rules import MeanGradient
from medleak.targets._training import losses


@pytest.mark.parametrize("labels", [None, 3])
def test_without_dropping_it_is_plain_training_bit_by_bit(small, labels):
    assert small.same(small.fit(Dropout(rate=0), labels=labels), small.fit(labels=labels))
    thinned = small.fit(Dropout(rate=0.5), labels=labels)
    assert not small.same(thinned, small.fit(labels=labels))
    assert small.same(thinned, small.fit(Dropout(rate=0.5), labels=labels))
    assert not small.same(thinned, small.fit(Dropout(rate=0.5), labels=labels, seed=1))
    assert thinned.facts["dropout"] == 0.5


def test_it_is_a_dropout_layer_in_front_of_the_last_linear_one(small):
    with_layer = small.network()
    with_layer.insert(5, nn.Dropout(0.5))
    layered = small.recipe.fit(with_layer, small.records(), problem=small.problem(), seed=0).model
    hooked = small.fit(Dropout(rate=0.5)).model
    for want, got in zip(layered.parameters(), hooked.parameters(), strict=True):
        assert torch.equal(want, got)


def test_inputs_are_dropped_at_the_stated_rate_in_training_only():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4000, 2))
    x, y = torch.ones(1, 4000), torch.tensor([0])
    with Dropped(0.3, MeanGradient()).attached(model, losses("multiclass"), 0) as backward:
        backward(x, y)
        dropped = (model[1].weight.grad[0] == 0).float().mean().item()
        assert dropped == pytest.approx(0.3, abs=4 * (0.21 / 4000) ** 0.5)
        model.eval()
        inside = model(x)
    assert torch.equal(inside, model(x))
    model.train()
    assert torch.equal(inside, model(x)), "the hook outlived the training"


def test_the_global_generator_is_left_alone(small):
    before = torch.get_rng_state()
    small.network()  # seeds the generator itself
    state = torch.get_rng_state()
    small.fit(Dropout(rate=0.5))
    small.network()
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


def test_the_hook_leaves_when_training_fails(small):
    model = small.network()
    with pytest.raises(RuntimeError), Dropped(0.5, MeanGradient()).attached(model, None, 0):
        raise RuntimeError
    assert not last_linear(model, who="Dropout")[1]._forward_pre_hooks


def test_it_serves_around_other_rules(small):
    private = small.fit(DPSGD(noise_multiplier=0.5), Dropout(rate=0.5)).facts
    assert (private["sigma"], private["dropout"]) == (0.5, 0.5)
    mixed = small.fit(MixUp(alpha=0.4), Dropout(rate=0.25)).facts
    assert (mixed["mixup_alpha"], mixed["dropout"]) == (0.4, 0.25)


def test_a_network_without_linear_layers_is_refused_at_fit(small):
    trainer = Dropout().apply(small.recipe, problem=small.problem())
    model = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten())
    with pytest.raises(ConfigError, match="Sequential has no linear layer"):
        trainer.fit(model, small.records(), problem=small.problem(), seed=0)


@pytest.mark.parametrize("rate", [1, -0.1, "half", None])
def test_impossible_settings_are_named(small, rate):
    assert repr(rate) in Dropout(rate=rate).invalid_parameters()[0]
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        Dropout(rate=rate).apply(small.recipe, problem=small.problem())

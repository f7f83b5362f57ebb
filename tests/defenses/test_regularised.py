"""Regularised recipes are the recipes that they say they are."""

import pytest

from medleak.api import ConfigError, Trained, Trainer
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.regularised import EarlyStopping, WeightDecay
from medleak.targets.recipes import SGD


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_is_the_recipe_with_it(small, optimizer):
    plain = {"epochs": 4, "batch_size": 16, "lr": 0.01, "optimizer": optimizer}
    defended = small.fit(WeightDecay(weight_decay=0.7), recipe=SGD(**plain, weight_decay=0.1))
    assert small.same(defended, small.fit(recipe=SGD(**plain, weight_decay=0.7)))
    assert not small.same(defended, small.fit(recipe=SGD(**plain)))
    assert small.same(small.fit(WeightDecay(weight_decay=0), recipe=SGD(**plain)),
                      small.fit(recipe=SGD(**plain)))  # fmt: skip
    assert defended.facts["weight_decay"] == 0.7


def test_a_strong_penalty_shrinks_the_weights(small):
    sizes = [
        sum(
            float(p.detach().square().sum())
            for p in small.fit(WeightDecay(weight_decay=w)).model.parameters()
        )
        for w in (0.0, 0.1, 1.0)
    ]
    assert sizes[0] > sizes[1] > sizes[2]


def test_early_stopping_is_the_recipe_with_it(small):
    keywords = {"epochs": 40, "batch_size": 16, "lr": 0.1}
    validation = small.records(seed=1)
    stopped = small.fit(EarlyStopping(patience=2), recipe=SGD(**keywords), validation=validation)
    again = small.fit(recipe=SGD(**keywords, early_stopping={"patience": 2}), validation=validation)
    assert small.same(stopped, again)
    facts = stopped.facts
    assert facts["patience"] == 2
    assert facts["epochs"] == facts["best_epoch"] + 2 < 40


def test_early_stopping_needs_validation_patients(small):
    with pytest.raises(ConfigError, match="n_validation is 0"):
        small.fit(EarlyStopping())


def test_what_is_private_does_not_stop_early_in_either_order(small):
    private = DPSGD(epsilon=8).apply(small.recipe, problem=small.problem())
    (reason,) = EarlyStopping().incompatibilities(small.problem(), private)
    assert "last iterate" in reason
    with pytest.raises(ConfigError, match="EarlyStopping: early stopping"):
        EarlyStopping().apply(private, problem=small.problem())
    stopping = EarlyStopping().apply(small.recipe, problem=small.problem())
    assert "last iterate" in DPSGD(epsilon=8).incompatibilities(small.problem(), stopping)[0]


def test_a_trainer_without_the_field_is_refused(small):
    class Other(Trainer):
        def fit(self, model, records, **_):
            return Trained(model, {})

    for defense, field in ((WeightDecay(), "weight_decay"), (EarlyStopping(), "early_stopping")):
        (reason,) = defense.incompatibilities(small.problem(), Other())
        assert field in reason
        assert "Other has none" in reason


@pytest.mark.parametrize(
    ("defense", "named"),
    [
        (WeightDecay(weight_decay=-1), "weight_decay -1"),
        (WeightDecay(weight_decay="much"), "weight_decay 'much'"),
        (WeightDecay(weight_decay=float("nan")), "weight_decay nan"),
        (EarlyStopping(patience=0), "patience 0"),
        (EarlyStopping(patience=1.5), "patience 1.5"),
    ],
)
def test_impossible_settings_are_named(small, defense, named):
    assert named in defense.invalid_parameters()[0]
    with pytest.raises(ConfigError, match=named):
        defense.apply(small.recipe, problem=small.problem())

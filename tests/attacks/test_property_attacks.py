"""Property attacks on shadows whose weights or answers carry the share, and on shadows that do not."""

import numpy as np
import pytest

from medleak.api import (
    Knowledge,
    ProblemSpec,
    PropertyChallenge,
    Records,
    Release,
    Shadow,
    multiclass,
)
from medleak.attacks.property.neuron_sets import NeuronSets, invariants
from medleak.attacks.property.score_property import ScoreProperty, confidence

PROBLEM = ProblemSpec(50, 50, 1, (6,), 2)


def layers(rng, shift=0.0):
    first, second = rng.normal(size=(8, 6)), rng.normal(size=(2, 8))
    weights = {"a.weight": first, "a.bias": rng.normal(size=8) + shift}
    weights |= {"b.weight": second, "b.bias": rng.normal(size=2)}
    return {name: array.astype(np.float32) for name, array in weights.items()}


class Network:
    """Only the order of its parameters is asked for."""

    def state_dict(self):
        return layers(np.random.default_rng(0))


def scrambled(weights, rng):
    """The same function: hidden units in another order; and the arrays, too."""
    order = rng.permutation(8)
    moved = {
        "b.bias": weights["b.bias"],
        "b.weight": weights["b.weight"][:, order],
        "a.bias": weights["a.bias"][order],
        "a.weight": weights["a.weight"][order],
    }
    return moved


def suspicion(high):
    return PropertyChallenge("sex", "F", (0.3, 0.7), np.array(high))


def shadow(release):
    nobody = np.zeros(0, dtype=bool)
    return Shadow(nobody, nobody, release)


def judge(seed, shift, truth):
    """The score of a target of the higher share (`truth`) or the lower one."""
    rng = np.random.default_rng(seed)
    high = np.arange(32) % 2 == 0
    shadows = [shadow(Release({"weights": layers(rng, shift * h)})) for h in high]
    target = Release({"weights": scrambled(layers(rng, shift * truth), rng)})
    knowledge = Knowledge(PROBLEM, shadows=shadows, network=lambda weights: Network())
    output = NeuronSets().execute(target, suspicion(high), knowledge)
    assert output.scores.shape == (1,)
    return output.scores[0]


def test_the_order_of_neurons_does_not_matter():
    rng = np.random.default_rng(0)
    weights = layers(rng)
    moved = scrambled(weights, rng)
    again = invariants({name: moved[name] for name in weights})
    assert np.allclose(invariants(weights), again, atol=1e-6)
    other = dict(weights, **{"b.weight": weights["b.weight"][::-1]})  # classes have names
    assert not np.allclose(invariants(weights), invariants(other))


def test_filters_and_deep_layers_are_sets_as_well():
    rng = np.random.default_rng(1)
    weights = {"c.weight": rng.normal(size=(4, 1, 3, 3)), "n.weight": rng.normal(size=4)}
    weights |= {"d.weight": rng.normal(size=(3, 4)), "count": np.array(7)}
    order = [2, 0, 3, 1]
    moved = {
        name: array[order] for name, array in weights.items() if name in ("c.weight", "n.weight")
    }
    moved |= {"d.weight": weights["d.weight"][:, order], "count": np.array(8)}
    assert np.allclose(invariants(weights), invariants(moved))


def test_a_share_that_weights_carry_is_told():
    right = [(judge(seed, 4.0, truth) > 0) == truth for seed in range(6) for truth in (False, True)]
    assert sum(right) >= 11


def test_nothing_is_told_where_weights_carry_nothing():
    scores = [judge(seed, 0.0, truth=seed % 2 == 0) for seed in range(12)]
    right = sum((s > 0) == (i % 2 == 0) for i, s in enumerate(scores))
    assert 1 <= right <= 11


def test_shadows_of_one_share_teach_nothing():
    rng = np.random.default_rng(2)
    shadows = [shadow(Release({"weights": layers(rng)})) for _ in range(12)]
    knowledge = Knowledge(PROBLEM, shadows=shadows, network=lambda weights: Network())
    target = Release({"weights": layers(rng)})
    assert NeuronSets().execute(target, suspicion([True] * 12), knowledge).scores == [0.0]


def answering(rng, sure):
    """A model that is surer of women by `sure`."""
    noise = rng.normal(scale=0.3, size=2)

    def scores(x):
        own, y = x[:, 0] > 0, x[:, 1] > 0
        margin = 1.0 + np.where(own, sure + noise[0], noise[1])
        odds = np.where(y, margin, -margin)
        z = np.stack([np.zeros(len(x)), odds], axis=1)
        return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

    return Release({"scores": scores})


@pytest.mark.parametrize(("sure", "least", "most"), [(1.0, 7, 8), (0.0, 1, 7)])
def test_a_share_is_told_by_how_sure_a_model_is_of_others(sure, least, most):
    rng = np.random.default_rng(0)
    x = np.sign(rng.normal(size=(120, 6))).astype(np.float32)
    groups = {"sex": np.where(x[:, 0] > 0, "F", "M")}
    auxiliary = Records(x, (x[:, 1] > 0).astype(np.int64), np.arange(120), groups)
    high = np.arange(32) % 2 == 0
    right = 0
    for i in range(8):
        shadows = [
            Shadow(np.zeros(0, bool), rng.random(120) < 0.5, answering(rng, sure * h)) for h in high
        ]
        knowledge = Knowledge(PROBLEM, auxiliary=auxiliary, shadows=shadows)
        target = answering(rng, sure * (i % 2))
        told = ScoreProperty().execute(target, suspicion(high), knowledge)
        right += (told.scores[0] > 0) == bool(i % 2)
    assert least <= right <= most


def test_only_those_asked_count_and_nobody_is_nought():
    x = np.array([[1, 1], [1, -1], [-1, 1]], dtype=np.float32)
    records = Records(x, np.array([1, 0, 1]), np.arange(3))
    release = answering(np.random.default_rng(0), 2.0)
    own = x[:, 0] > 0
    everybody = confidence(release, records, own, np.ones(3, bool), task=multiclass)
    fewer = confidence(release, records, own, np.array([True, False, True]), task=multiclass)
    assert everybody.shape == (8,)
    assert fewer[0] == 0.0  # no woman of the first class is left
    assert fewer[2] == everybody[2]

"""SPEAR splits the low-rank gradient of a batch into its records."""

import numpy as np
import pytest
from planted_records import (
    EXACT,
    clipped_sum,
    decibels,
    guessed,
    known,
    message,
    network,
    rebuilt,
    records,
    summed,
)

from medleak.attacks.gradient_inversion import spear
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer
from medleak.attacks.gradient_inversion.spear import SPEAR
from medleak.targets.architectures.mlp import MLP


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_whole_batches_come_back_exactly(n, depth):
    model = network(lambda **k: MLP(hidden=128, depth=depth, **k))
    for seed in (50, 60, 70):
        batch = records(n, seed + n)
        found = rebuilt(SPEAR(), [message(model, batch)], known(model))[0]
        assert decibels(found, batch).min() > EXACT
        if n > 2:
            plain = rebuilt(LinearLayer(), [message(model, batch)], known(model))[0]
            assert decibels(plain, batch).min() < 40


def test_a_sum_over_clients_is_split_too():
    model, batches = network(MLP), [records(2, 61), records(2, 62)]
    both = summed([message(model, b) for b in batches])
    found = rebuilt(SPEAR(), [both], known(model))[0]
    assert all(decibels(found, b).min() > EXACT for b in batches)


def layered(n, *, units=60, features=40, relu=True):
    """Gradients of a layer for n random records, and the records."""
    rng = np.random.default_rng(0)
    x, w, b = rng.random((n, features)), rng.standard_normal((units, features)), np.zeros(units)
    w -= w.mean(axis=1, keepdims=True)
    delta = rng.standard_normal((units, n))
    if relu:
        delta *= w @ x.T + b[:, None] > 0
    return spear.Layer(delta @ x, delta.sum(axis=1), w, b), x


@pytest.mark.parametrize("n", [2, 5, 8])
def test_planted_records_are_told_apart(n):
    layer, x = layered(n)
    found = spear.disaggregated(layer, n, 5000, np.random.default_rng(0))
    assert found.shape == x.shape
    assert (np.abs(found[:, None] - x).max(axis=2).min(axis=0) < 1e-9).all()


def test_without_noughts_nothing_is_found():
    layer, _ = layered(4, relu=False)
    assert not len(spear.disaggregated(layer, 4, 1000, np.random.default_rng(0)))


def test_nor_in_other_gradients_of_the_same_rank():
    layer, _ = layered(4)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((60, 4)) @ rng.random((4, 40))
    layer = layer._replace(weight=noise, bias=rng.standard_normal(60))
    assert not len(spear.disaggregated(layer, 4, 1000, rng))


def test_nor_where_there_are_hardly_more_units_than_records():
    model, batch = network(lambda **k: MLP(hidden=12, **k)), records(8, 8)
    plain, found = (
        rebuilt(attack, [message(model, batch)], known(model))
        for attack in (LinearLayer(), SPEAR())
    )
    assert np.array_equal(plain, found)


def test_under_noise_splitting_is_no_better_than_guessing():
    model, batch = network(MLP), records(4, 7)
    exact = rebuilt(SPEAR(), [clipped_sum(model, batch, 0.0)], known(model))[0]
    assert decibels(exact, batch).min() > EXACT
    noisy = rebuilt(SPEAR(samples=1000), [clipped_sum(model, batch, 1.0)], known(model))[0]
    assert decibels(noisy, batch).max() < 40
    assert decibels(noisy, batch).mean() < guessed(batch)


def test_other_records_are_not_split_off():
    model = network(MLP)
    found = rebuilt(SPEAR(), [message(model, records(4, 9))], known(model))[0]
    assert decibels(found, records(4, 90)).max() < 30


def test_rounding_is_told_by_what_lies_beyond_the_records():
    layer, _ = layered(4, units=200)
    noise = 1e-6 * np.random.default_rng(1).standard_normal(layer.weight.shape)
    parts = spear.parts_of(layer.weight + noise, 4)
    assert parts.u.shape == (200, 4)
    size = np.linalg.svd(layer.weight, compute_uv=False)[:4]
    assert np.allclose(parts.rounding * size, 1e-6, rtol=0.1)
    assert spear.parts_of(layer.weight + 1e6 * noise, 4).u.shape[1] <= 1


def test_directions_are_orthogonal_to_rows_and_independent_ones_are_kept():
    u = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 4)))[0]
    q = spear.orthogonal(u, 6, np.random.default_rng(1))
    assert (spear.Parts(u, u.T, np.full(4, 1e-12)).zero_pattern(q).sum(axis=1) == 3).all()
    rows = np.array([[1.0, 0, 0], [2, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 3]])
    assert np.array_equal(spear.independent(rows), rows[[0, 2, 4]])

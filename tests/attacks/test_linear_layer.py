"""Gradients of a first linear layer: planted records come back, others do not."""

import numpy as np
import pytest
from planted_records import (
    AUXILIARY,
    EXACT,
    SHAPE,
    decibels,
    guessed,
    known,
    message,
    network,
    rebuilt,
    records,
)

from medleak.api import NotApplicable, replace
from medleak.attacks.gradient_inversion import linear_layer
from medleak.attacks.gradient_inversion._transcript import prior_guess
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer, first_layer
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP


@pytest.mark.parametrize("shape", [SHAPE, (3, 8, 8)])
def test_one_record_of_an_mlp_comes_back_exactly(shape):
    model = network(lambda **k: MLP(depth=2, **k), shape)
    batch = records(1, 5, shape)
    knowledge = known(model, auxiliary=records(50, 1, shape), shape=shape)
    found = rebuilt(LinearLayer(), [message(model, batch)], knowledge, shape)
    assert decibels(found[0], batch).min() > EXACT


def test_several_batches_of_different_sizes_are_padded_with_zeros():
    model, batches = network(MLP), [records(1, 5), records(3, 6)]
    found = rebuilt(LinearLayer(), [message(model, b) for b in batches], known(model))
    assert found.shape == (2, 3, *SHAPE)
    assert (found[0, 1:] == 0).all()
    assert decibels(found[0, :1], batches[0]).min() > EXACT


def test_some_of_a_batch_comes_back_and_never_the_same_twice():
    model, batches = network(MLP), [records(4, seed) for seed in range(40, 60)]
    found = rebuilt(LinearLayer(), [message(model, b) for b in batches], known(model))
    exact = [(decibels(f, b) > EXACT).sum() for f, b in zip(found, batches, strict=True)]
    assert 0.2 < np.mean(exact) / 4 < 0.9


def test_rows_that_agree_come_first_and_mixtures_last():
    x = np.random.default_rng(0).random((4, 50))
    mixed = 0.5 * x[1] + 0.5 * x[2]
    signed = 3 * x[1] - 2 * x[3]
    rows = np.stack([x[0], 2 * x[0], signed, x[3], 5 * mixed, np.zeros(50)])
    found = linear_layer.candidates(rows, np.array([1.0, 2.0, 1.0, 1.0, 5.0, 0.0]))
    assert len(found) == 4
    assert np.allclose(found[0], x[0])
    assert np.allclose(found[1], x[3])
    assert np.allclose(found[2], mixed)
    assert np.allclose(found[3], signed)


def test_no_gradient_gives_the_prior_guess():
    model = network(MLP)
    for n in (1, 3):
        sent = message(model, records(n, 1))
        nothing = replace(sent, update={k: 0 * v for k, v in sent.update.items()})
        found = rebuilt(LinearLayer(), [nothing], known(model))[0]
        assert np.array_equal(found, np.repeat(prior_guess(AUXILIARY, SHAPE)[None], n, axis=0))


def test_noise_is_no_record():
    model, rng = network(MLP), np.random.default_rng(0)
    sent = message(model, records(8, 8))
    noise = {n: rng.standard_normal(v.shape) for n, v in sent.update.items()}
    found = rebuilt(LinearLayer(), [replace(sent, update=noise)], known(model))[0]
    assert decibels(found, records(8, 8)).mean() < guessed(records(8, 8))


def test_a_convolution_is_not_a_fully_connected_first_layer():
    model = network(SmallCNN)
    assert first_layer(model, SHAPE) is None
    with pytest.raises(NotApplicable, match="no fully connected layer reads the input"):
        rebuilt(LinearLayer(), [message(model, records(2, 1))], known(model))


def test_the_first_layer_is_found_with_its_scaling():
    found = first_layer(network(MLP), SHAPE)
    assert found.name == "layers.2"
    assert np.allclose(found.scale, 4)
    assert np.allclose(found.shift, -2)

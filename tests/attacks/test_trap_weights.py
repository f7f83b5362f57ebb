"""Rows of weights that few records pass give much of a batch away."""

import numpy as np
import pytest
import torch
from planted_records import EXACT, arrays, decibels, known, message, network, rebuilt, records

from medleak.attacks.gradient_inversion import trap_weights
from medleak.attacks.gradient_inversion._transcript import pixels
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer
from medleak.attacks.gradient_inversion.trap_weights import TrapServer, TrapWeights
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP


@pytest.mark.parametrize(("kind", "front"), [(MLP, False), (MLP, True), (SmallCNN, False)])
def test_traps_return_much_of_a_batch(kind, front):
    model, batches = network(kind), [records(16, seed) for seed in range(60, 66)]
    server = TrapServer(active=0.05, front=front)
    sent = server.module(model, client=0, knowledge=known(model))
    found = rebuilt(TrapWeights(), [message(sent, b) for b in batches], known(model))
    exact = [(decibels(f, b) > EXACT).mean() for f, b in zip(found, batches, strict=True)]
    honest = rebuilt(
        LinearLayer(), [message(network(MLP), b) for b in batches], known(network(MLP))
    )
    curious = [(decibels(f, b) > EXACT).mean() for f, b in zip(honest, batches, strict=True)]
    assert np.mean(exact) > 0.3
    assert np.mean(exact) > 1.4 * np.mean(curious)


@pytest.mark.parametrize("active", [0.02, 0.2])
def test_traps_are_as_rare_as_asked(active):
    model = network(MLP)
    sent = TrapServer(active=active).module(model, client=0, knowledge=known(model))
    x = torch.from_numpy(pixels(records(2000, 70).x))
    with torch.no_grad():
        positive = (sent.layers[:3](x) > 0).float().mean()
    assert float(positive) == pytest.approx(active, rel=0.5)


def test_trap_rows_are_halves_of_the_same_sizes():
    plus, minus = trap_weights.trap_rows(np.random.default_rng(0), (5, 40))
    assert ((plus > 0).sum(axis=1) == 20).all()
    assert ((plus > 0) & (minus > 0)).sum() == 0
    assert np.allclose(np.sort(plus, axis=1), np.sort(minus, axis=1))


def test_an_overwritten_layer_trains_nothing_and_one_in_front_does():
    model, server = network(MLP), TrapServer()
    sent = server.module(model, client=0, knowledge=known(model))
    assert server.kept(message(sent, records(4, 1)).update) is None
    before = TrapServer(front=True).module(model, client=0, knowledge=known(model))
    assert set(server.kept(message(before, records(4, 1)).update)) == set(arrays(model))

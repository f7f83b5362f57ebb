"""Fishing leaves the gradient of one record in that of a batch."""

import numpy as np
import pytest
from planted_records import (
    AUXILIARY,
    EXACT,
    SHAPE,
    decibels,
    known,
    message,
    network,
    rebuilt,
    records,
)

from medleak.attacks.gradient_inversion import fishing
from medleak.attacks.gradient_inversion._transcript import prior_guess
from medleak.attacks.gradient_inversion.fishing import Fishing, FishingServer
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer
from medleak.targets.architectures.mlp import MLP


def test_class_fishing_leaves_the_only_record_of_the_class():
    model, batch = network(MLP), records(60, 80)
    ones, zeros = np.flatnonzero(batch.y == 1), np.flatnonzero(batch.y == 0)
    batch = batch.take(np.concatenate([zeros[:7], ones[:1]]))
    sent = FishingServer(target=1, share=None).module(model, client=0, knowledge=known(model))
    found = rebuilt(Fishing(inner=LinearLayer()), [message(sent, batch)], known(model))[0]
    assert decibels(found[:1], batch.take(np.array([7]))).min() > EXACT
    prior = prior_guess(AUXILIARY, SHAPE)
    assert all(np.array_equal(f, prior) for f in found[1:])


def test_feature_fishing_often_leaves_one_record_and_the_curious_server_never_does():
    model, batches = network(MLP), [records(16, seed) for seed in range(100, 130)]
    sent = FishingServer(share=1 / 16).module(model, client=0, knowledge=known(model))
    exact = {}
    for name, module in (("fished", sent), ("plain", model)):
        found = rebuilt(
            Fishing(inner=LinearLayer()), [message(module, b) for b in batches], known(model)
        )
        best = [decibels(f[:1], b).max() for f, b in zip(found, batches, strict=True)]
        exact[name] = np.mean(np.array(best) > EXACT)
    # One of 16 with probability 1/16 each: exp(-1) at best.
    assert 0.15 < exact["fished"] < 0.6
    assert exact["plain"] == 0


def test_fishing_hands_over_one_record_its_label_and_its_own_gradient():
    model, batch = network(MLP), records(60, 80)
    batch = batch.take(
        np.concatenate([np.flatnonzero(batch.y == 0)[:7], np.flatnonzero(batch.y == 1)[:1]])
    )
    sent = FishingServer(target=1, share=None).module(model, client=0, knowledge=known(model))
    seen = {}

    class Inner(LinearLayer):
        def rebuild(self, observation, n, labels):
            seen.update(update=observation.update, n=n, labels=labels)
            return super().rebuild(observation, n, labels)

    rebuilt(Fishing(inner=Inner()), [message(sent, batch)], known(model))
    single = message(sent, batch.take(np.array([7]))).update
    assert seen["n"] == 1
    assert seen["labels"].tolist() == [1]
    assert np.allclose(
        seen["update"]["layers.2.weight"], single["layers.2.weight"], rtol=1e-3, atol=1e-5
    )


def test_the_cutoff_leaves_the_share_on_the_wrong_side():
    rng = np.random.default_rng(0)
    inside = rng.random(4000) < 0.3
    scores = rng.standard_normal(4000) + 4 * inside
    t = fishing.cutoff(scores, inside, 0.1)
    assert np.mean((scores > t) != inside) == pytest.approx(0.1, abs=2e-3)

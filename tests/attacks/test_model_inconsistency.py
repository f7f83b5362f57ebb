"""Models that differ between clients leave one client in the sum."""

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
    summed,
)

from medleak.attacks.gradient_inversion._transcript import prior_guess
from medleak.attacks.gradient_inversion.model_inconsistency import (
    InconsistentServer,
    ModelInconsistency,
)
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", [SmallCNN, MLP])
def test_inconsistency_finds_the_victim_in_a_sum(kind, sparse):
    model, batches = network(kind), [records(4, seed) for seed in range(200, 210)]
    server = InconsistentServer(bins=1024, sparse=sparse)
    sent = [server.module(model, client=c, knowledge=known(model)) for c in range(10)]
    found = rebuilt(
        ModelInconsistency(),
        [summed([message(m, b) for m, b in zip(sent, batches, strict=True)])],
        known(model),
    )[0]
    assert found.shape == (40, *SHAPE)
    assert (decibels(found[:4], batches[0]) > EXACT).sum() >= 3
    prior = prior_guess(AUXILIARY, SHAPE)
    assert all(np.array_equal(f, prior) for f in found[4:])
    assert all(decibels(found[:4], b).max() < 30 for b in batches[1:])


def test_all_but_the_victim_have_a_gradient_of_exactly_zero_in_the_layer_and_still_train():
    model, server = network(SmallCNN), InconsistentServer()
    sent = server.module(model, client=3, knowledge=known(model))
    update = message(sent, records(8, 1)).update
    assert not update["imprint.weight"].any()
    assert not update["imprint.bias"].any()
    honest = message(model, records(8, 1)).update
    kept = server.kept(update)
    assert all(np.allclose(kept[n], honest[n], atol=1e-6) for n in honest)


def test_the_victim_is_drawn_from_the_first_clients():
    model, server = network(MLP), InconsistentServer(victims=4, bins=16)
    seen = set()
    for seed in range(20):
        live = [
            c
            for c in range(6)
            if message(
                server.module(model, client=c, knowledge=known(model, seed=seed)), records(4, 1)
            )
            .update["imprint.bias"]
            .any()
        ]
        assert len(live) == 1
        seen.update(live)
    assert seen == {0, 1, 2, 3}

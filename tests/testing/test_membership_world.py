"""The world that attacks are checked on leaks what was planted, and nothing else."""

import numpy as np
import pytest
from checked_plugins import Good

from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_the_world_leaks_what_was_planted(pool, task):
    for leak, low, high in ((0.0, 0.4, 0.6), (6.0, 0.9, 1.0)):
        release, challenge, secret, knowledge = membership_world(
            leak=leak, n_shadows=2, pool=pool, task=task
        )
        scores = Good().confidence(release, challenge)
        assert low < auc(scores, secret.member) <= high
        for shadow in [*knowledge.shadows, knowledge.reference]:
            records = challenge.records if pool == "audit" else knowledge.auxiliary
            member = shadow.member if pool == "audit" else shadow.auxiliary_member
            other = shadow.auxiliary_member if pool == "audit" else shadow.member
            assert low < auc(Good().confidence(shadow.release, records), member) <= high
            assert not other.any()


def test_the_world_is_a_function_of_its_seed():
    one, two, other = (membership_world(leak=1.0, n=40, n_shadows=3, seed=s) for s in (1, 1, 2))
    x = one[1].x
    assert np.array_equal(x, two[1].x)
    assert not np.array_equal(x, other[1].x)
    first, again = ([s.release.scores(x) for s in w[3].shadows] for w in (one, two))
    assert np.array_equal(first, again)
    assert len({s.tobytes() for s in first}) == 3
    assert np.allclose(np.exp(first[0]).sum(axis=1), 1)


def test_weights_of_a_world_without_a_leak_do_not_tell():
    release, challenge, secret, _ = membership_world(leak=0.0, n=300, n_shadows=0)
    leaky, *_ = membership_world(leak=1.0, n=300, n_shadows=0)
    rows = ((challenge.x / 255 - 0.5) * np.sqrt(12)).mean(axis=-1).reshape(300, -1)

    def nearest(weights):
        return -np.abs(rows[:, None] - weights["centres"][None]).sum(-1).min(1)

    assert auc(nearest(leaky.weights), secret.member) > 0.99
    assert abs(auc(nearest(release.weights), secret.member) - 0.5) < 0.12

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import MedleakError, Release, multiclass, multilabel
from medleak.attacks.membership.attack_p import AttackP, rarity
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world


def phi(release, records):
    return multiclass.logit_score(release.scores(records.x), records.y)[:, 0]


def test_scores_equal_a_loop_over_auxiliary_records_of_the_class():
    release, challenge, _, knowledge = membership_world(leak=2.0, n=200, n_shadows=0)
    scores = AttackP(least_per_class=1).execute(release, challenge, knowledge).scores
    x, z = phi(release, challenge), phi(release, knowledge.auxiliary)
    for i, y in enumerate(challenge.y):
        peers = z[knowledge.auxiliary.y == y]
        tail = norm.sf((x[i] - peers.mean()) / peers.std())
        assert np.exp(-scores[i]) == pytest.approx(((peers > x[i]).sum() + tail) / (len(peers) + 1))


def test_the_order_within_a_class_is_that_of_the_loss():
    release, challenge, _, knowledge = membership_world(leak=4.0, n=300, n_shadows=0)
    scores = AttackP(least_per_class=1).execute(release, challenge, knowledge).scores
    x = phi(release, challenge)
    for y in range(3):
        own = challenge.y == y
        assert np.array_equal(np.argsort(scores[own]), np.argsort(x[own]))


def test_a_small_class_is_compared_with_all():
    rng = np.random.default_rng(0)
    z, y_z = rng.normal(size=60), np.arange(60) // 50
    x, y = rng.normal(size=20), np.ones(20, dtype=int)
    alone = rarity(x, y, z, y_z, least=10)
    together = rarity(x, y, z, y_z, least=11)
    assert np.array_equal(together, rarity(x, np.zeros(20), z, np.zeros(60), least=1))
    assert not np.allclose(alone, together)


def test_classes_of_different_difficulty_are_told_apart_by_rank():
    """A class with losses that are low throughout: the loss alone sees its records as members."""
    rng = np.random.default_rng(0)
    y, y_z = rng.integers(0, 2, (2, 4000))
    member = rng.random(4000) < 0.5
    x = rng.normal(size=4000) + 5 * y + member
    z = rng.normal(size=4000) + 5 * y_z
    best = norm.cdf(1 / np.sqrt(2))
    assert abs(auc(rarity(x, y, z, y_z, least=50), member) - best) < 0.03
    assert auc(x, member) < best - 0.1


def test_infinite_and_tied_scores_are_ranked():
    release, challenge, secret, knowledge = membership_world(leak=6.0, n=200, n_shadows=0)

    def rounded(x):
        with np.errstate(divide="ignore"):
            return np.log(np.round(np.exp(release.scores(x)), 1))

    output = AttackP().execute(Release({"scores": rounded}), challenge, knowledge)
    assert np.isfinite(output.scores).all()
    assert auc(output.scores, secret.member) > 0.7


def test_labels_add_up_by_fishers_rule():
    release, challenge, _, knowledge = membership_world(
        leak=2.0, n=150, n_shadows=0, task="multilabel"
    )
    scores = AttackP(least_per_class=1).execute(release, challenge, knowledge).scores
    x = multilabel.logit_score(release.scores(challenge.x), challenge.y)
    records = knowledge.auxiliary
    z = multilabel.logit_score(release.scores(records.x), records.y)
    each = [rarity(x[:, j], challenge.y[:, j], z[:, j], records.y[:, j], least=1) for j in range(3)]
    assert np.allclose(scores, sum(each))


def test_budget_and_missing_population():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=100, n_shadows=0)
    assert AttackP().execute(release, challenge, replace(knowledge, budget=130)).queries == 130
    with pytest.raises(MedleakError, match="no auxiliary records"):
        AttackP().execute(release, challenge, replace(knowledge, auxiliary=None))


def test_faults():
    assert AttackP().invalid_parameters() == []
    assert len(AttackP(least_per_class=0, max_population=1.5).invalid_parameters()) == 2

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from medleak.api import MedleakError, ProblemSpec, Release
from medleak.attacks.membership.shokri import Shokri, features, log_odds
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world

PROBLEM = ProblemSpec(50, 50, 1, (1, 8, 8), 3)


def null_slack(n):
    return 3.3 * np.sqrt((n + 1) / (3 * n * n))


def test_features_are_the_true_outcome_then_the_others_sorted():
    log_p = np.log([[0.2, 0.5, 0.1, 0.2], [0.1, 0.2, 0.3, 0.4]])
    found = np.exp(features(log_p[:, None], np.array([[2], [3]]), top=4, floor=-100))[:, 0]
    assert np.allclose(found, [[0.1, 0.5, 0.2, 0.2], [0.4, 0.3, 0.2, 0.1]])
    assert features(log_p[:, None], np.array([[2], [3]]), top=2, floor=-100).shape == (2, 1, 2)
    assert features(log_p[:, None], np.array([[2], [3]]), top=1, floor=-100).shape == (2, 1, 1)
    assert features(log_p.reshape(2, 2, 2), np.array([[0, 1], [1, 1]]), top=9, floor=-9).shape == (2, 2, 2)  # fmt: skip


def test_features_do_not_depend_on_how_the_other_outcomes_are_numbered():
    rng = np.random.default_rng(0)
    log_p, y = np.log(rng.dirichlet(np.ones(6), 50)), rng.integers(0, 6, 50)
    order = rng.permutation(6)
    renamed = np.argsort(order)[y]
    assert np.array_equal(
        features(log_p[:, None, order], renamed[:, None], top=4, floor=-9),
        features(log_p[:, None], y[:, None], top=4, floor=-9),
    )


def test_log_odds_follow_the_true_posterior():
    rng = np.random.default_rng(0)
    member = rng.random(20000) < 0.5
    x = (rng.normal(size=20000) + member)[:, None]  # log-odds of x is x - 1/2
    at = np.linspace(-1, 2, 13)[:, None]
    assert np.abs(expit(log_odds(x, member, at)) - expit(at[:, 0] - 0.5)).max() < 0.1
    assert (log_odds(x, np.ones(20000, dtype=bool), at) == 0).all()


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_it_finds_a_planted_leak_and_nothing_else(pool, task):
    attack = Shokri(max_fit=4000)
    for leak in (0.0, 3.0):
        experiment = membership_world(leak=leak, n=300, n_shadows=6, pool=pool, task=task)
        release, challenge, secret, knowledge = experiment
        value = auc(attack.execute(release, challenge, knowledge).scores, secret.member)
        assert value > 0.85 if leak else abs(value - 0.5) < null_slack(300)


def test_few_records_of_a_class_share_a_classifier():
    release, challenge, secret, knowledge = membership_world(leak=3.0, n=200, n_shadows=4)
    shared = Shokri(least_per_class=10**6).execute(release, challenge, knowledge).scores
    assert auc(shared, secret.member) > 0.85
    alone = Shokri(least_per_class=1).execute(release, challenge, knowledge).scores
    assert not np.allclose(shared, alone)


def test_the_audited_membership_has_no_part():
    """The same shadows, another target: the classifiers are the same."""
    release, challenge, _, knowledge = membership_world(leak=3.0, n=200, n_shadows=4)
    other = knowledge.reference.release
    attack = Shokri()
    one = attack.execute(release, challenge, knowledge).scores
    two = attack.execute(other, challenge, knowledge).scores
    seen = attack._examples(challenge, -100.0)
    vectors = features(
        other.scores(challenge.x)[:, None], challenge.y[:, None], top=10, floor=-100.0
    )[:, 0]
    assert np.array_equal(two, attack._odds(seen, vectors, challenge.y))
    assert not np.array_equal(one, two)


def test_rounded_scores_are_finite():
    release, challenge, _, knowledge = membership_world(leak=3.0, n=100, n_shadows=3)

    def rounded(one):
        def scores(x):
            with np.errstate(divide="ignore"):
                return np.log(np.round(np.exp(one.scores(x)), 1))

        return Release({"scores": scores})

    shadows = [replace(s, release=rounded(s.release)) for s in knowledge.shadows]
    output = Shokri().execute(rounded(release), challenge, replace(knowledge, shadows=shadows))
    assert np.isfinite(output.scores).all()


def test_refusals_faults_and_missing_records():
    assert Shokri().incompatibilities(PROBLEM, {"n_shadows": 1}) == []
    assert len(Shokri().incompatibilities(PROBLEM, {})) == 1
    assert Shokri().invalid_parameters() == []
    assert len(Shokri(top=0, least_per_class=True, max_fit="9").invalid_parameters()) == 3
    experiment = membership_world(leak=1.0, n=40, n_shadows=2, pool="auxiliary")
    with pytest.raises(MedleakError, match="no auxiliary records"):
        Shokri().execute(*experiment[:2], replace(experiment[3], auxiliary=None))

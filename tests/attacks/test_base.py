import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import rankdata

from medleak.api import Knowledge, multiclass, multilabel
from medleak.attacks.membership.base import BASE
from medleak.attacks.membership.rmia import RMIA
from medleak.testing import membership_world


class Balanced:
    """Shadows in pairs that hold complementary halves: every record is in exactly half of them."""

    def __init__(self, pool, n):
        self.pool, self.n = pool, n

    def __len__(self):
        return self.n

    def __iter__(self):
        rng = np.random.default_rng(0)
        for k, shadow in enumerate(self.pool):
            half = rng.random(len(shadow.member)) < 0.5 if k % 2 == 0 else ~half  # noqa: F821
            yield type(shadow)(half, shadow.auxiliary_member, shadow.release)


def log_p(release, challenge, temperature=1.0):
    task = multilabel if challenge.y.ndim == 2 else multiclass
    answers = release.scores(challenge.x)
    return task.tempered_log_probability(answers, challenge.y, temperature=temperature)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_online_is_the_log_likelihood_less_its_log_mean_over_all_shadows(task):
    release, challenge, _, knowledge = membership_world(leak=2.0, n=80, n_shadows=6, task=task)
    scores = BASE(temperature=1.5).execute(release, challenge, knowledge).scores
    shadows = [log_p(s.release, challenge, 1.5) for s in knowledge.shadows]
    expected = log_p(release, challenge, 1.5) - (logsumexp(shadows, axis=0) - np.log(6))
    assert np.allclose(scores, expected)


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
def test_offline_averages_over_models_without_the_record(pool):
    release, challenge, _, knowledge = membership_world(leak=2.0, n=60, n_shadows=9, pool=pool)
    scores = BASE(mode="offline", scale=0.6).execute(release, challenge, knowledge).scores
    values = np.array([log_p(s.release, challenge) for s in knowledge.shadows])
    member = np.array([s.member for s in knowledge.shadows])
    for i in range(60):
        own = values[~member[:, i], i]
        threshold = logsumexp(own) - np.log(len(own))
        assert scores[i] == pytest.approx(log_p(release, challenge)[i] - 0.6 * threshold)


def test_the_order_is_that_of_rmia_where_sides_are_balanced():
    """The equivalence that the paper states."""
    release, challenge, _, knowledge = membership_world(leak=1.0, n=300, n_shadows=8)
    balanced = Knowledge(
        knowledge.problem, auxiliary=knowledge.auxiliary, shadows=Balanced(knowledge.shadows, 8)
    )
    base = BASE(temperature=2.0).execute(release, challenge, balanced).scores
    rmia = RMIA(gamma=1.0).execute(release, challenge, balanced).scores
    order = np.argsort(base)
    assert (np.diff(rmia[order]) >= 0).all()
    assert np.corrcoef(rankdata(base), rankdata(rmia))[0, 1] > 0.99


def test_a_record_in_every_shadow_takes_the_mean_threshold():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=40, n_shadows=1)
    scores = BASE(mode="offline").execute(release, challenge, knowledge).scores
    assert np.isfinite(scores).all()


def test_refusals_and_faults():
    assert BASE().incompatibilities(None, {"n_shadows": 4}) == []
    assert len(BASE().incompatibilities(None, {"n_shadows": 3, "pool": "auxiliary"})) == 2
    assert BASE(mode="offline").incompatibilities(None, {"n_shadows": 1, "pool": "auxiliary"}) == []
    assert BASE().invalid_parameters() == []
    assert len(BASE(mode="on", temperature=0, scale=2).invalid_parameters()) == 3
    assert len(BASE(temperature=True, scale=-0.1).invalid_parameters()) == 2

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import ConfigError, Release, Shadow, multiclass
from medleak.attacks.membership import lira
from medleak.attacks.membership._moments import InOutMoments
from medleak.attacks.membership.lira import LiRA
from medleak.metrics.statistics.roc import auc
from medleak.testing import membership_world

AUDIT = {"pool": "audit", "n_shadows": 16}


def rounded(release, digits):
    def scores(x):
        with np.errstate(divide="ignore"):
            return np.log(np.round(np.exp(release.scores(x)), digits))

    return Release({"scores": scores})


def collected(values, member):
    """Moments of ``(K, N)`` values IN and OUT, as ``(N, L) = (N, 1)``."""
    sides = InOutMoments(np.zeros((values.shape[1], 1)))
    for v, m in zip(values[..., None], member, strict=True):
        sides.add(v, m)
    return sides.inside, sides.outside


@pytest.fixture
def shadows():
    rng = np.random.default_rng(0)
    member = rng.random((20, 12)) < 0.5
    return rng.normal(size=(20, 12)) + 2 * member, member


def test_scores_equal_a_naive_computation(shadows):
    values, member = shadows
    inside, outside = collected(values, member)
    phi = np.linspace(-3, 5, 12)[:, None]
    both = [[values[side[:, i], i] for i in range(12)] for side in (member, ~member)]
    (mu_in, mu_out) = ([v.mean() for v in part] for part in both)
    pooled = [
        np.sqrt(sum(v.var() * len(v) for v in part) / sum(len(v) - 1 for v in part))
        for part in both
    ]
    expected = norm.logpdf(phi[:, 0], mu_in, pooled[0]) - norm.logpdf(phi[:, 0], mu_out, pooled[1])
    score = lira.online_score(phi, inside, outside, per_example=False)[:, 0]
    assert np.allclose(score, expected)
    offline = lira.offline_score(phi, inside, outside, per_example=False)[:, 0]
    assert np.allclose(offline, norm.logcdf((phi[:, 0] - mu_out) / pooled[1]))
    own = lira.variance(inside, per_example=True)[:, 0]
    n = np.array([len(v) for v in both[0]])
    naive = np.array([v.var() * len(v) for v in both[0]])
    assert np.allclose(own, (naive + 2 * pooled[0] ** 2) / (n - 1 + 2))


def test_few_shadows_lean_on_the_populations_gap(shadows):
    values, member = shadows
    member[:, 0], member[:, 1] = False, True  # no IN; no OUT
    member[:, 2] = np.arange(20) == 0  # one IN
    inside, outside = collected(values, member)
    mu_in, mu_out = (m[:, 0] for m in lira.means(inside, outside))
    two = [i for i in range(12) if 0 < member[:, i].sum() < 20]
    gap = np.mean([values[member[:, i], i].mean() - values[~member[:, i], i].mean() for i in two])
    assert mu_in[0] == pytest.approx(values[:, 0].mean() + gap)
    assert mu_out[1] == pytest.approx(values[:, 1].mean() - gap)
    assert mu_in[2] == pytest.approx((values[0, 2] + values[1:, 2].mean() + gap) / 2)
    assert mu_in[5] == pytest.approx(values[member[:, 5], 5].mean())
    for per_example in (False, True):
        assert np.isfinite(lira.online_score(np.zeros((12, 1)), inside, outside,
                                             per_example=per_example)).all()  # fmt: skip


def test_a_release_that_never_varies_scores_zero():
    inside, outside = collected(np.ones((8, 5)), np.arange(40).reshape(8, 5) % 2 == 0)
    assert np.allclose(lira.online_score(np.ones((5, 1)), inside, outside, per_example=True), 0)


def test_four_shadows_find_a_plain_leak_and_give_finite_scores():
    release, challenge, secret, knowledge = membership_world(leak=2.0, n_shadows=4)
    scores = LiRA().execute(release, challenge, knowledge).scores
    assert np.isfinite(scores).all()
    assert auc(scores, secret.member) > 0.95


def test_auto_gives_each_record_its_variance_from_64_shadows():
    for k, like in ((63, "pooled"), (64, "per_example")):
        experiment = membership_world(leak=1.0, n=60, n_shadows=k)
        auto, fixed = (
            LiRA(variance=v).execute(*experiment[:2], experiment[3]).scores for v in ("auto", like)
        )
        assert np.array_equal(auto, fixed)


def test_offline_reads_only_shadows_without_the_record():
    release, challenge, _, knowledge = membership_world(leak=2.0, n=80, n_shadows=12)
    scores = LiRA(mode="offline", queries="identity").execute(release, challenge, knowledge).scores
    phi = multiclass.logit_score(release.scores(challenge.x), challenge.y)[:, 0]
    out = [[] for _ in range(80)]
    for shadow in knowledge.shadows:
        values = multiclass.logit_score(shadow.release.scores(challenge.x), challenge.y)[:, 0]
        for i in np.flatnonzero(~shadow.member):
            out[i].append(values[i])
    sigma = np.sqrt(sum(np.var(o) * len(o) for o in out) / sum(len(o) - 1 for o in out))
    expected = norm.logcdf((phi - [np.mean(o) for o in out]) / sigma)
    assert np.allclose(scores, expected)


def test_shadows_are_walked_once():
    release, challenge, _, knowledge = membership_world(leak=1.0, n=50, n_shadows=8)
    pool, seen = knowledge.shadows, []

    class Watched:
        def __len__(self):
            return len(pool)

        def __iter__(self):
            for k, shadow in enumerate(pool):
                seen.append(k)
                yield shadow

    done = []
    observed_by = replace(knowledge, shadows=Watched(), progress=done.append)
    LiRA(queries="all").execute(release, challenge, observed_by)
    assert seen == list(range(8))
    assert done == [(k + 1) / 8 for k in range(8)]


@pytest.mark.parametrize(("budget", "spent"), [(None, 900), (50, 50), (149, 100), (5000, 900)])
def test_queries_stay_within_the_budget(budget, spent):
    release, challenge, _, knowledge = membership_world(leak=1.0, n=50, n_shadows=4)
    output = LiRA(queries="all").execute(release, challenge, replace(knowledge, budget=budget))
    assert output.queries == spent


def test_multilabel_rounded_scores_are_finite():
    release, challenge, _, knowledge = membership_world(
        leak=3.0, n=80, n_shadows=6, task="multilabel"
    )

    shadows = [replace(s, release=rounded(s.release, 1)) for s in knowledge.shadows]
    output = LiRA().execute(rounded(release, 1), challenge, replace(knowledge, shadows=shadows))
    assert np.isfinite(output.scores).all()


def test_rounding_to_one_does_not_drown_the_other_records():
    release, challenge, secret, knowledge = membership_world(leak=1.0, n_shadows=16)

    shadows = [
        Shadow(s.member, s.auxiliary_member, rounded(s.release, 2)) for s in knowledge.shadows
    ]
    plain = LiRA().execute(release, challenge, knowledge).scores
    blunt = (
        LiRA().execute(rounded(release, 2), challenge, replace(knowledge, shadows=shadows)).scores
    )
    assert auc(blunt, secret.member) > auc(plain, secret.member) - 0.02


def test_refusals_name_every_reason():
    problem = membership_world(leak=0, n=4, n_shadows=0)[3].problem
    assert LiRA().incompatibilities(problem, AUDIT) == []
    assert (
        len(
            LiRA(variance="per_example").incompatibilities(
                problem, {"pool": "auxiliary", "n_shadows": 3}
            )
        )
        == 3
    )
    assert "n_shadows" not in LiRA().incompatibilities(problem, {})[0]
    assert LiRA(mode="offline").incompatibilities(problem, AUDIT | {"pool": "auxiliary"}) == []


@pytest.mark.parametrize("option", [{"mode": "onlin"}, {"variance": 1}, {"queries": "flips"}])
def test_unknown_options_are_configuration_errors(option):
    with pytest.raises(ConfigError, match="unknown LiRA"):
        LiRA(**option).incompatibilities(None, AUDIT)

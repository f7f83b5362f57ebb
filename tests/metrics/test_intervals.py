"""Intervals against closed forms, and their coverage on simulated scores."""

import numpy as np
import pytest
from scipy.stats import binomtest, norm

from medleak.metrics.statistics.intervals import (
    auc_interval,
    clopper_pearson,
    cluster_bootstrap,
    delong_error,
    difference,
    effective_units,
    tpr_interval,
    tpr_lower_bound,
    two_sided,
)
from medleak.metrics.statistics.roc import auc, weighted_auc

TRIALS = 200
LEAST = 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / TRIALS)  # nominal less Monte-Carlo error

# mean and deviation of the members' scores (non-members: standard normal), rounding step
SHAPES = [
    (0.0, 1.0, 0),
    (0.8, 1.0, 0),
    (2.5, 1.0, 0),
    (0.3, 2.0, 0),
    (1.0, 0.5, 0),
    (0.8, 1.0, 1.0),
]


def draw(rng, n, shape):
    mu, sd, step = shape
    member = np.arange(n) < n // 2
    scores = np.where(member, rng.normal(mu, sd, n), rng.normal(size=n))
    return (np.round(scores / step) * step if step else scores), member


def truth(shape):
    """AUC, and TPR at FPR .1, of the population."""
    mu, sd, step = shape
    if not step:
        tpr = norm.sf((norm.isf(0.1) - mu) / sd)
        return norm.cdf(mu / np.hypot(1, sd)), tpr
    edges = np.arange(-9.5, 12) * step
    p1, p0 = (np.diff(norm.cdf((edges - m) / s)) for m, s in ((mu, sd), (0, 1)))
    below = np.cumsum(p0) - p0
    fpr, tpr = np.cumsum(p0[::-1]), np.cumsum(p1[::-1])
    return float(p1 @ (below + p0 / 2)), float(tpr[fpr <= 0.1].max())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [50, 200, 500])
def test_auc_and_tpr_intervals_cover(shape, n):
    rng = np.random.default_rng(n)
    area, tpr = truth(shape)
    hits = np.zeros(2)
    for _ in range(TRIALS):
        scores, member = draw(rng, n, shape)
        low, high = auc_interval(scores, member, np.arange(n))
        hits[0] += low <= area <= high
        low, high = tpr_interval(scores, member, np.arange(n), 0.1)
        hits[1] += low - 1e-9 <= tpr <= high + 1e-9
    assert (hits / TRIALS >= LEAST).all(), hits / TRIALS


def test_auc_interval_covers_with_several_scans_a_patient():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 4)
    member = patients < 30
    area = norm.cdf(0.8 / np.sqrt(2))
    hits = naive = 0
    for _ in range(TRIALS):
        own = np.where(np.arange(60) < 30, 0.8, 0.0) + np.sqrt(0.8) * rng.normal(size=60)
        scores = own[patients] + np.sqrt(0.2) * rng.normal(size=240)
        low, high = auc_interval(scores, member, patients)
        hits += low <= area <= high
        low, high = auc_interval(scores, member, np.arange(240))
        naive += low <= area <= high
    assert hits / TRIALS >= LEAST
    assert naive / TRIALS < 0.85  # what happens when scans are counted as independent


def test_one_sided_bounds_rarely_exceed_the_truth():
    rng = np.random.default_rng(0)
    shape = (0.8, 1.0, 0)
    area, tpr = truth(shape)
    above = np.zeros(2)
    for _ in range(1200):
        scores, member = draw(rng, 200, shape)
        above[0] += auc_interval(scores, member, np.arange(200), two_sided(0.99))[0] > area
        above[1] += tpr_lower_bound(scores, member, np.arange(200), 0.1, 0.99) > tpr
    assert (above / 1200 < 0.01 + 3 * np.sqrt(0.01 * 0.99 / 1200)).all(), above


def test_perfect_scores_keep_an_honest_interval():
    member = np.arange(40) < 20
    low, high = auc_interval(member.astype(float), member, np.arange(40))
    assert 0.75 < low < 0.99
    assert high == 1
    low, high = auc_interval(-member.astype(float), member, np.arange(40))
    assert low == 0
    assert 0.01 < high < 0.25


def test_clopper_pearson_equals_the_exact_binomial_test():
    for k, n in [(0, 10), (3, 10), (10, 10), (7, 200)]:
        for level in (0.95, two_sided(0.999)):
            want = binomtest(k, n).proportion_ci(level, method="exact")
            assert np.allclose(clopper_pearson(k, n, level), (want.low, want.high))
    low = binomtest(60, 100, alternative="greater").proportion_ci(0.999, method="exact").low
    assert clopper_pearson(60, 100, two_sided(0.999))[0] == pytest.approx(low)


def test_difference_contains_and_is_symmetric():
    low, high = difference(0.6, 100, 0.4, 100)
    assert low < 0.2 < high
    assert difference(0.4, 100, 0.6, 100) == pytest.approx((-high, -low))
    assert difference(1.0, 5, 0.0, 5)[1] == 1


def test_delong_error_equals_the_pairwise_definition():
    rng = np.random.default_rng(0)
    scores, member = rng.integers(0, 9, 50).astype(float), np.arange(50) < 20
    a, b = scores[member][:, None], scores[~member][None]
    order = (a > b) + 0.5 * (a == b)
    want = order.mean(1).var(ddof=1) / 20 + order.mean(0).var(ddof=1) / 30
    assert delong_error(scores, member, np.arange(50)) ** 2 == pytest.approx(want)


def test_repeating_every_scan_adds_no_information():
    rng = np.random.default_rng(0)
    scores, member = rng.normal(size=60), np.arange(60) < 30
    once = auc_interval(scores, member, np.arange(60))
    twice = auc_interval(np.tile(scores, 3), np.tile(member, 3), np.tile(np.arange(60), 3))
    assert twice == pytest.approx(once)
    assert effective_units(np.tile(np.arange(60), 3)) == pytest.approx(60)
    assert effective_units(np.array([0] * 50 + [1, 2])) < 2


def test_cluster_bootstrap_agrees_with_delong_and_widens_with_clusters():
    rng = np.random.default_rng(0)
    member = np.arange(400) < 200
    scores = rng.normal(size=400) + member

    def statistic(weights):
        return weighted_auc(scores, member, weights)

    alone = cluster_bootstrap(
        statistic, np.arange(400), strata=member, rng=np.random.default_rng(1)
    )
    assert alone[0] < auc(scores, member) < alone[1]
    width = 2 * 1.96 * delong_error(scores, member, np.arange(400))
    assert alone[1] - alone[0] == pytest.approx(width, rel=0.12)
    by_rank = np.empty(400, dtype=int)  # patients whose scans are alike
    for value in (True, False):
        index = np.flatnonzero(member == value)
        by_rank[index[np.argsort(scores[index])]] = np.arange(200) // 4 + 1000 * value
    together = cluster_bootstrap(statistic, by_rank, strata=member, rng=np.random.default_rng(1))
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_cluster_bootstrap_keeps_both_classes():
    member = np.arange(100) < 2
    seen = []

    def statistic(weights):
        seen.append(weights[:, member].sum(axis=1))
        return weights[:, member].sum(axis=1)

    cluster_bootstrap(statistic, np.arange(100), strata=member, rng=np.random.default_rng(0))
    assert (np.concatenate(seen) == 2).all()

"""Ceilings against closed forms, published values and the optimal attack on a simulated mechanism."""

import numpy as np
import pytest
from bounded import upper_bounds, violations
from scipy.stats import norm

from medleak.api import Guarantee, MembershipScores, MembershipTruth
from medleak.metrics.membership import (
    AUC,
    Advantage,
    BalancedAccuracy,
    PrecisionAtPrior,
    ROCCurve,
    TPRAtFPR,
)
from medleak.metrics.privacy.upper_bounds import (
    applicable,
    privacy_profile,
    roof,
    tradeoff,
)

METRICS = {
    "auc": AUC(),
    "bacc": BalancedAccuracy(),
    "adv": Advantage(),
    "tpr": TPRAtFPR(fpr=0.1),
    "roc": ROCCurve(),
}


def gaussian(q, sigma, steps):
    return {"name": "poisson_gaussian", "q": q, "sigma": sigma, "steps": steps}


def promise(mechanism=None, **changes):
    return Guarantee(
        **{"kind": "dp", "unit": "patient", "protects_from": "all"} | changes,
        mechanism=mechanism or {},
    )


@pytest.mark.parametrize(
    ("fpr", "q", "sigma", "steps", "tpr"),
    [
        (1 / 8, 1, 2, 1, 0.2577),
        (1 / 8, 1, 10, 100, 0.4402),
        (0.1, 1, 27, 100, 0.1811),
        (0.1, 0.1, 2, 100, 0.2276),
        (0.1, 0.01, 0.6, 1000, 0.417),
    ],
)
def test_published_reconstruction_ceilings(fpr, q, sigma, steps, tpr):
    got = float(roof([promise(gaussian(q, sigma, steps))]).tpr(fpr))
    assert got == pytest.approx(tpr, abs=5e-4)


@pytest.mark.parametrize(
    ("sigma", "steps"), [(1.0, 1), (2.0, 1), (10.0, 100), (30.0, 500), (0.7, 3)]
)
def test_full_batch_equals_the_closed_form_and_never_lies_below(sigma, steps):
    mu = np.sqrt(steps) / sigma
    fpr, tpr = tradeoff(gaussian(1, sigma, steps))
    inside = (fpr > 0) & (fpr < 1)
    exact = norm.cdf(norm.ppf(fpr[inside]) + mu)
    assert (tpr[inside] >= exact - 1e-9).all()
    assert np.abs(tpr[inside] - exact).max() < 1e-3
    found = upper_bounds(METRICS, [promise(gaussian(1, sigma, steps))])
    assert found["auc"] == pytest.approx(norm.cdf(mu / np.sqrt(2)), abs=1e-3)
    assert found["bacc"] == pytest.approx(norm.cdf(mu / 2), abs=1e-3)
    assert found["adv"] == pytest.approx(2 * found["bacc"] - 1)
    assert found["tpr"] == pytest.approx(norm.cdf(norm.ppf(0.1) + mu), abs=1e-3)
    assert found["roc"] is None


def test_a_roof_is_concave_monotone_and_falls_with_noise():
    last = 1.0
    for sigma in (0.5, 0.8, 1.5, 4.0):
        fpr, tpr = tradeoff(gaussian(0.05, sigma, 500))
        assert (np.diff(tpr) >= -1e-12).all()
        slopes = np.diff(tpr) / np.diff(fpr)
        assert (np.diff(slopes) <= 1e-6 * np.maximum(1, slopes[:-1])).all()
        assert (tpr >= fpr - 1e-12).all()
        area = roof([promise(gaussian(0.05, sigma, 500))]).auc()
        assert area < last
        last = area


def test_pure_and_approximate_promises():
    found = roof([promise(epsilon=1.0, delta=0.0)])
    e = np.e
    assert found.tpr(0.1) == pytest.approx(0.1 * e)
    assert found.tpr(0.9) == pytest.approx(1 - 0.1 / e)
    assert found.balanced_accuracy() == pytest.approx(e / (1 + e), abs=2e-4)
    assert found.precision(0.5) == pytest.approx(e / (1 + e))
    leaky = roof([promise(epsilon=1.0, delta=1e-3)])
    assert leaky.tpr(0.0) == pytest.approx(1e-3)
    assert leaky.precision(0.5) is None
    assert leaky.auc() > found.auc()
    both = roof([promise(epsilon=1.0, delta=1e-3), promise(epsilon=0.1, delta=0.0)])
    assert both.auc() == pytest.approx(roof([promise(epsilon=0.1, delta=0.0)]).auc())


@pytest.mark.parametrize(
    "guarantee",
    [
        promise(gaussian(0.02, 0.0, 100)),
        promise(gaussian(0.02, 1e-4, 2000)),
        promise(gaussian(1, 0.02, 100)),
        promise({"name": "laplace"}),
        promise({"name": "poisson_gaussian", "q": 0.1}),
        promise(epsilon=float("inf"), delta=0.0),
        promise(epsilon=1e9, delta=1e-5, accountant="nominal (RDP)"),
        promise(epsilon=30.0, delta=1e-5),
        promise(),
        promise(epsilon=1.0, delta=0.0, kind="k-anonymity"),
    ],
)
def test_what_promises_nothing_is_vacuous(guarantee):
    assert roof([guarantee]) is None
    assert set(upper_bounds(METRICS, [guarantee]).values()) == {None}


def test_no_guarantee_is_vacuous():
    assert set(upper_bounds(METRICS, []).values()) == {None}


def test_a_ceiling_belongs_to_the_unit_and_the_adjacency():
    record, patient = promise(epsilon=1.0, unit="record"), promise(epsilon=1.0)
    assert applicable([record, patient], unit="patient", max_records=3) == [patient]
    assert applicable([record, patient], unit="record", max_records=3) == [patient]
    assert applicable([record, patient], unit="patient", max_records=1) == [record, patient]
    assert applicable([record], unit="image (patient unknown)") == [record]
    swapped = promise(epsilon=1.0, adjacency="replace-one")
    assert applicable([swapped], unit="patient") == []


def likelihood_ratio_game(q, sigma, steps, n, seed):
    """Every record meets its own run of the mechanism and the optimal attacker."""
    rng = np.random.default_rng(seed)
    member = rng.random(n) < 0.5
    scores = np.zeros(n)
    for _ in range(steps):
        sampled = member & (rng.random(n) < q)
        seen = sigma * rng.normal(size=n) + sampled
        scores += np.log1p(q * np.expm1((2 * seen - 1) / (2 * sigma**2)))
    return MembershipScores(scores, np.arange(n)), MembershipTruth(member)


@pytest.mark.parametrize(
    ("q", "sigma", "steps"), [(1, 2.0, 1), (1, 10.0, 50), (0.1, 1.0, 60), (0.02, 0.6, 80)]
)
def test_the_optimal_attack_reaches_the_ceiling_and_never_violates_it(q, sigma, steps):
    mechanism = gaussian(q, sigma, steps)
    roofs = upper_bounds(METRICS, [promise(mechanism)])
    scored, secret = likelihood_ratio_game(q, sigma, steps, 100_000, 0)
    # Subsampled, the roof is the larger of two unequal directions: near, but not on, this game's AUC.
    slack = 0.006 if q == 1 else 0.02
    assert roofs["auc"] - slack < AUC()(scored, secret).value < roofs["auc"] + 0.006
    assert TPRAtFPR(fpr=0.1)(scored, secret).value == pytest.approx(roofs["tpr"], abs=0.012)
    assert BalancedAccuracy()(scored, secret).value == pytest.approx(roofs["bacc"], abs=0.012)
    for seed in range(1, 21):
        scored, secret = likelihood_ratio_game(q, sigma, steps, 400, seed)
        assert violations(METRICS, scored, secret, roofs) == []


def test_a_broken_promise_is_found():
    roofs = upper_bounds(METRICS, [promise(gaussian(1, 10.0, 1))])
    scored, secret = likelihood_ratio_game(1, 0.5, 1, 400, 0)
    assert set(violations(METRICS, scored, secret, roofs)) == {"auc", "bacc", "adv", "tpr"}
    assert violations(METRICS, scored, secret, dict.fromkeys(METRICS)) == []


def test_precision_has_no_ceiling_under_gaussian_noise():
    metric = PrecisionAtPrior(prior=0.1)
    assert metric.upper_bound([promise(gaussian(0.1, 1.0, 100))]) is None


def test_profiles_are_computed_once():
    assert privacy_profile(gaussian(0.1, 2.0, 7)) is privacy_profile(gaussian(0.1, 2.0, 7))

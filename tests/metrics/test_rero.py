"""Reconstruction ceilings: published values, closed forms, deep tails, and attacks that they bound."""

import numpy as np
import pytest
from scipy.stats import norm

from medleak.api import Guarantee
from medleak.metrics.privacy.reconstruction_robustness import (
    full_batch,
    given_participation,
    monte_carlo,
    rero,
    uniform_prior,
)
from medleak.metrics.reconstruction import MSE, Identified, Recovered


def gaussian(q, sigma, steps):
    return {"name": "poisson_gaussian", "q": q, "sigma": sigma, "steps": steps}


def promise(mechanism=None, **changes):
    return Guarantee(
        **{"kind": "dp", "unit": "record", "protects_from": "all"} | changes,
        mechanism=mechanism or {},
    )


# --------------------------------------------------------------------------- values

PUBLISHED = [  # kappa, q, sigma, steps, gamma, how exactly it is known
    (1 / 8, 1, 2, 1, 0.2577, 1e-4),
    (1 / 8, 1, 10, 100, 0.4402, 1e-4),
    (0.1, 1, 27, 100, 0.1811, 1e-4),
    (0.1, 0.1, 2, 100, 0.2276, 1e-4),
    (0.1, 0.01, 0.6, 1000, 0.417, 5e-4),
]


@pytest.mark.parametrize(("kappa", "q", "sigma", "steps", "gamma", "slack"), PUBLISHED)
def test_published_values(kappa, q, sigma, steps, gamma, slack):
    assert rero([promise(gaussian(q, sigma, steps))], kappa) == pytest.approx(gamma, abs=slack)


@pytest.mark.parametrize(("sigma", "gamma"), [(22.738, 0.00028), (3.5755, 0.012), (1.7723, 0.208)])
def test_a_published_risk_of_one_in_eight_thousand(sigma, gamma):
    """HAM10000 at epsilon 1, 8 and 20 (Ziller et al. 2024): 8012 images, batches of 3960, 100 steps.

    The noise is what RDP accounting gives for that; theirs is not printed, hence the slack.
    """
    found = rero([promise(gaussian(3960 / 8012, sigma, 100))], 1 / 8012)
    assert found == pytest.approx(gamma, rel=0.04)


@pytest.mark.parametrize("kappa", [1e-6, 1e-3, 0.1, 0.7])
@pytest.mark.parametrize(("sigma", "steps"), [(2.0, 1), (10.0, 100), (0.5, 4)])
def test_full_batch_is_the_closed_form(kappa, sigma, steps):
    want = norm.cdf(norm.ppf(kappa) + np.sqrt(steps) / sigma)
    assert rero([promise(gaussian(1, sigma, steps))], kappa) == pytest.approx(want, rel=1e-9)
    assert full_batch(kappa, sigma, steps) == pytest.approx(want, rel=1e-12)


def test_full_batch_holds_where_a_loss_distribution_cannot_be_had():
    assert rero([promise(gaussian(1, 0.02, 100))], 1e-3) == pytest.approx(1.0)
    assert rero([promise(gaussian(1, 1e6, 10**6))], 1e-3) == pytest.approx(0.001003, abs=1e-6)


def test_bare_promises():
    e = np.e
    assert rero([promise(epsilon=1.0, delta=0.0)], 0.1) == pytest.approx(0.1 * e)
    assert rero([promise(epsilon=1.0, delta=1e-3)], 0.1) == pytest.approx(0.1 * e + 1e-3)
    assert rero([promise(epsilon=1.0, delta=0.0)], 0.9) == pytest.approx(1 - 0.1 / e)
    assert rero([promise(epsilon=0.0, delta=0.0)], 0.3) == pytest.approx(0.3)
    both = [promise(epsilon=1.0, delta=1e-3), promise(gaussian(1, 2, 1))]
    assert rero(both, 1 / 8) == pytest.approx(0.2577, abs=1e-4)


@pytest.mark.parametrize(
    "nothing",
    [
        [],
        [promise()],
        [promise(epsilon=1e9, delta=1e-5)],
        [promise(gaussian(1, 2, 1), kind="ind-cpa")],
        [promise({"name": "laplace", "sigma": 1.0, "steps": 3})],
        [promise(gaussian(1, 0.0, 1))],
    ],
)
def test_what_promises_nothing_has_no_ceiling(nothing):
    assert rero(nothing, 0.1) is None


def test_gamma_rises_with_kappa_and_falls_with_noise():
    kappas = np.geomspace(1e-6, 0.9, 15)
    last = np.ones(15)
    for sigma in (0.7, 1.0, 3.0):
        gammas = np.array([rero([promise(gaussian(0.05, sigma, 200))], k) for k in kappas])
        assert (np.diff(gammas) > 0).all()
        assert (gammas >= kappas).all()
        assert (gammas < last).all()
        slopes = np.diff(gammas) / np.diff(kappas)
        assert (np.diff(slopes) <= 1e-6 * slopes[:-1]).all()  # concave: it bounds averages
        last = gammas


# --------------------------------------------------------------------------- Monte Carlo


@pytest.mark.parametrize(
    ("kappa", "q", "sigma", "steps"),
    [
        (1 / 8, 1, 2, 1),
        (1e-6, 1, 10, 100),
        (0.1, 0.1, 2, 100),
        (1e-4, 0.1, 2, 100),
        (1e-6, 0.01, 0.8, 200),
        (1 / 8012, 0.494258, 3.5755, 100),
    ],
)
def test_importance_sampling_agrees_down_to_deep_tails(kappa, q, sigma, steps):
    mechanism = gaussian(q, sigma, steps)
    found, error = monte_carlo(kappa, mechanism, n=20_000, rng=np.random.default_rng(1))
    want = rero([promise(mechanism)], kappa)
    assert error < 0.02 * want
    assert abs(found - want) < 4 * error + 1e-3 * want


def test_the_standard_error_is_honest():
    want = full_batch(1e-3, 2.0, 4)
    found, errors = np.array(
        [
            monte_carlo(1e-3, gaussian(1, 2.0, 4), n=2000, rng=np.random.default_rng(seed))
            for seed in range(60)
        ]
    ).T
    assert abs(found.mean() - want) < 4 * errors.mean() / np.sqrt(60)
    assert 0.7 < found.std() / errors.mean() < 1.3


# --------------------------------------------------------------------------- when it bounds a rate


def named(rng, n, *, q, sigma, candidates=8):
    """A one-step mechanism over orthogonal candidates, the optimal attacker, and who was sampled."""
    truth, sampled = rng.integers(candidates, size=n), rng.random(n) < q
    seen = sigma * rng.normal(size=(n, candidates))
    seen[np.arange(n), truth] += sampled
    return seen.argmax(axis=1) == truth, sampled


def test_an_optimal_attack_stays_below_and_comes_near():
    hit, _ = named(np.random.default_rng(0), 200_000, q=1.0, sigma=1.0)
    upper_bound = rero([promise(gaussian(1, 1.0, 1))], 1 / 8)
    assert 0.75 * upper_bound < hit.mean() < upper_bound


def test_a_rate_over_the_batch_does_not_enjoy_amplification():
    known = [promise(gaussian(0.1, 0.5, 1))]
    hit, sampled = named(np.random.default_rng(0), 200_000, q=0.1, sigma=0.5)
    amplified = rero(known, 1 / 8)
    assert hit.mean() < amplified  # over all records, sampled or not
    assert hit[sampled].mean() > amplified + 0.2  # over those that were in the batch
    assert hit[sampled].mean() < rero(given_participation(known, 1), 1 / 8)


def test_given_participation():
    whole = promise(gaussian(0.02, 1.5, 1000), epsilon=3.0, delta=1e-5, accountant="PLD")
    (found,) = given_participation([whole, promise(epsilon=1.0, delta=1e-5)], 4)
    assert found.mechanism == gaussian(1.0, 1.5, 4)
    assert (found.epsilon, found.delta, found.unit) == (None, None, "record")
    assert rero([found], 0.01) == pytest.approx(full_batch(0.01, 1.5, 4))
    assert given_participation([promise(gaussian(1, 1.5, 3))], 9)[0].mechanism["steps"] == 3
    assert given_participation([promise(gaussian(0.1, 1.5, 3), kind="ind-cpa")], 1) == []


def test_uniform_prior_is_what_the_best_blind_guesser_reaches():
    assert uniform_prior(100) == 0.01
    assert uniform_prior(100, guesses=8, labels=2) == 0.16
    assert uniform_prior(10, guesses=8, labels=2) == 1.0
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 5 == 0  # 12 of one label, 48 of the other
    target = rng.integers(60, size=100_000)
    pools = [np.flatnonzero(labels == label) for label in (0, 1)]
    names = [rng.choice(pools[int(labels[z])], 3, replace=False) for z in target[:20_000]]
    told = np.mean([z in three for z, three in zip(target, names, strict=False)])
    assert told == pytest.approx(uniform_prior(60, guesses=3, labels=2), abs=0.01)
    blind = np.isin(target, rng.choice(60, 3, replace=False)).mean()
    assert blind == pytest.approx(uniform_prior(60, guesses=3), abs=0.005)


def test_only_identification_has_a_ceiling_and_only_with_a_prior():
    known = [promise(gaussian(1, 2, 1))]
    # One image may be like many originals: kappa cannot be counted for `Recovered`.
    assert Recovered().upper_bound(known, 1 / 8) is None
    for metric in (Identified(), Identified(k=3)):
        assert metric.upper_bound(known) is None
        assert metric.upper_bound(known, 1 / 8) == pytest.approx(0.2577, abs=1e-4)
        assert metric.upper_bound([], 1 / 8) is None
    assert MSE().upper_bound(known) is None

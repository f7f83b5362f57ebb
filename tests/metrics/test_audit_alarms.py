"""Audits of mechanisms whose epsilon is known alarm no more often than they promise."""

import numpy as np
import pytest
from audit_runs import DELTA, most_alarms
from scipy.optimize import brentq
from scipy.stats import binom

from medleak.api import DataError
from medleak.metrics.privacy.audit import (
    Counts,
    Guesses,
    audit_one_run,
    audit_trials,
    counts_of,
    fdp_epsilon,
    fdp_gaussian,
    gaussian_delta,
    guess,
    one_run_epsilon,
    trials_epsilon,
)
from medleak.metrics.privacy.epsilon import OneRunEpsilon

EPSILONS = (0.0, 1.0, 4.0)


def mu_of(epsilon, delta=DELTA):
    """The Gaussian mechanism whose epsilon at `delta` is this."""
    return brentq(lambda mu: gaussian_delta(mu, epsilon) - delta, 1e-7, 20) if epsilon else 0.0


def critical(bound, n, made, true, *, level=0.95, of="epsilon"):
    """Fewest right guesses whose bound lies above the truth: bounds grow with them."""
    low, high = 0, made + 1
    while low < high:
        v = (low + high) // 2
        above = getattr(bound(Guesses(n, made, v), delta=DELTA, level=level), of) > true + 1e-9
        low, high = (low, v) if above else (v + 1, high)
    return low


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_one_run_alarms_on_randomised_response(epsilon):
    """Each canary answers for itself: the least private that epsilon allows; alarms are exact."""
    n, q = 1000, 1 / (1 + np.exp(-epsilon))
    for made in (50, 1000):
        for bound in (one_run_epsilon, fdp_epsilon):
            v = critical(bound, n, made, epsilon)
            assert binom.sf(v - 1, made, q) <= 0.05
    # Plenty of data, nearly all of the truth.
    expected = Guesses(100_000, 20_000, int(20_000 * q))
    assert one_run_epsilon(expected, delta=1e-9).epsilon > epsilon - 0.15


def gaussian_run(rng, repeats, n, mu):
    """Scores of `n` canaries that one Gaussian mechanism releases side by side, and the truth."""
    member = rng.random((repeats, n)) < 0.5
    return mu * member + rng.normal(size=(repeats, n)), member


def one_run_alarms(rng, epsilon, *, repeats, n, shares):
    """Share of audits with an alarm: all plans, each bound, Bonferroni."""
    mu, level = mu_of(epsilon), 1 - 0.05 / len(shares)
    plans = [counts_of(n, pair) for pair in shares]
    limits = {
        bound: [critical(bound, n, sum(p), epsilon, level=level) for p in plans]
        for bound in (one_run_epsilon, fdp_epsilon)
    }
    limits[fdp_gaussian] = [
        critical(fdp_gaussian, n, sum(p), mu, level=level, of="mu") for p in plans
    ]
    alarms = dict.fromkeys(limits, 0)
    for scores, member in zip(*gaussian_run(rng, repeats, n, mu), strict=True):
        right = [guess(scores, member, top=t, bottom=b).right for t, b in plans]
        for bound, most in limits.items():
            alarms[bound] += any(v >= limit for v, limit in zip(right, most, strict=True))
    return alarms


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_one_run_alarms_on_the_gaussian_mechanism(epsilon):
    rng, repeats = np.random.default_rng(1), 1000
    shares = OneRunEpsilon().shares
    alarms = one_run_alarms(rng, epsilon, repeats=repeats, n=400, shares=shares)
    assert max(alarms.values()) <= most_alarms(repeats), alarms


def test_one_run_bounds_find_the_gaussian_mechanism_at_4():
    scores, member = gaussian_run(np.random.default_rng(2), 1, 20_000, mu_of(4.0))
    plan = {"shares": OneRunEpsilon().shares, "delta": DELTA}
    plain = audit_one_run(scores[0], member[0], **plan)
    curve = audit_one_run(scores[0], member[0], **plan, bound=fdp_gaussian)
    assert 1.5 < plain.epsilon < 4
    assert plain.epsilon + 0.4 < curve.epsilon < 4
    assert any("Gaussian" in one for one in curve.assumes)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_trial_alarms_on_randomised_response(epsilon):
    """The truth answers with probability e^eps / (1 + e^eps): the tightest epsilon-DP there is."""
    rng, repeats, n = np.random.default_rng(3), 1000, 300
    q = 1 / (1 + np.exp(-epsilon))
    fp, fn = rng.binomial(n, 1 - q, size=(2, repeats)).tolist()
    found = [trials_epsilon(Counts(a, n, b, n)).epsilon for a, b in zip(fp, fn, strict=True)]
    assert np.sum(np.array(found) > epsilon) <= most_alarms(repeats)
    many = 100_000
    wrong = int(many * (1 - q))
    assert trials_epsilon(Counts(wrong, many, wrong, many)).epsilon > epsilon - 0.1


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_trial_alarms_on_the_gaussian_mechanism(epsilon):
    rng, repeats = np.random.default_rng(4), 150
    mu, alarms = mu_of(epsilon), np.zeros(2)
    for _ in range(repeats):
        inside, outside = mu + rng.normal(size=200), rng.normal(size=200)
        plain = audit_trials(inside, outside, delta=DELTA)
        curve = audit_trials(inside, outside, delta=DELTA, gaussian=True)
        alarms += [plain.epsilon > epsilon + 1e-9, curve.mu > mu + 1e-9]
    assert alarms.max() <= most_alarms(repeats)


def test_a_threshold_from_the_same_trials_would_alarm():
    """What `count_on_other_half` is for; it also shows that the tests above can fail."""
    from medleak.metrics.privacy.many_runs import _threshold

    rng, repeats, n, level = np.random.default_rng(5), 100, 1000, 0.8
    same, other = 0, 0
    for _ in range(repeats):
        inside, outside = rng.normal(size=(2, n))
        t = _threshold(inside, outside, 0.0, level, False)
        counts = Counts(int((outside >= t).sum()), n, int((inside < t).sum()), n)
        same += trials_epsilon(counts, level=level).epsilon > 0
        other += audit_trials(inside, outside, level=level).epsilon > 0
    assert same > most_alarms(repeats, level)
    assert other <= most_alarms(repeats, level)


def test_trial_bounds_find_the_gaussian_mechanism_at_4():
    rng, mu = np.random.default_rng(6), mu_of(4.0)
    inside, outside = mu + rng.normal(size=20_000), rng.normal(size=20_000)
    plain = audit_trials(inside, outside, delta=DELTA)
    curve = audit_trials(inside, outside, delta=DELTA, gaussian=True)
    assert 1.5 < plain.epsilon < 4
    assert 3.5 < curve.epsilon < 4
    assert len(plain.assumes) == 2


def test_trials_that_cannot_be_audited():
    with pytest.raises(DataError, match="1 trials with the canary, 5 without: too few"):
        audit_trials(np.zeros(1), np.zeros(5))
    with pytest.raises(DataError, match="NaN"):
        audit_trials(np.array([0, np.nan]), np.zeros(5))
    infinite = audit_trials(np.full(400, np.inf), np.full(400, -np.inf))
    assert infinite.epsilon > 3
    assert audit_trials(np.zeros(400), np.zeros(400)).epsilon == 0


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_alarms_over_many_audits(epsilon):
    rng, repeats = np.random.default_rng(7), 10_000
    for n, shares in ((100, [(0.5, 0.5)]), (2000, OneRunEpsilon().shares)):
        alarms = one_run_alarms(rng, epsilon, repeats=repeats, n=n, shares=shares)
        assert max(alarms.values()) <= most_alarms(repeats), (n, alarms)
    mu, wrong = mu_of(epsilon), np.zeros(2)
    for _ in range(repeats):
        trials = mu + rng.normal(size=1000), rng.normal(size=1000)
        wrong += [
            audit_trials(*trials, delta=DELTA).epsilon > epsilon + 1e-9,
            audit_trials(*trials, delta=DELTA, gaussian=True).mu > mu + 1e-9,
        ]
    assert wrong.max() <= most_alarms(repeats)

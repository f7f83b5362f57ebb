"""Audit bounds against golden values, linear programs and simulated mechanisms of known epsilon."""

import numpy as np
import pytest
from audit_runs import DELTA
from scipy.optimize import linprog
from scipy.stats import binom, norm

from medleak.api import DataError
from medleak.metrics.privacy.audit import (
    Counts,
    Guesses,
    approximate_inverse,
    audit_one_run,
    counts_of,
    fdp_epsilon,
    fdp_gaussian,
    fdp_rejects,
    gaussian_delta,
    gaussian_epsilon,
    guess,
    one_run_epsilon,
    one_run_p_value,
    trials_epsilon,
    trials_gaussian,
)


@pytest.mark.parametrize(
    ("n", "made", "right", "delta", "epsilon"),
    [
        (1000, 100, 100, 0, 3.493),
        (1000, 100, 100, 1e-5, 3.4654),
        (1000, 100, 95, 1e-5, 2.1652),
        (1000, 1000, 600, 0, 0.2975),
        (5000, 200, 200, 1e-5, 4.0555),
    ],
)
def test_one_run_golden_values(n, made, right, delta, epsilon):
    bound = one_run_epsilon(Guesses(n, made, right), delta=delta)
    assert bound.epsilon == pytest.approx(epsilon, abs=5e-4)
    assert (bound.delta, bound.level) == (delta, 0.95)
    assert len(bound.assumes) == 2


@pytest.mark.parametrize(("tp", "epsilon"), [(50, 2.3165), (500, 4.8462), (1000, 5.6006)])
def test_clopper_pearson_golden_values(tp, epsilon):
    """From FPR = BetaInv(1 - alpha / 2; fp + 1, N - fp), and FNR likewise, alpha = .05."""
    bound = trials_epsilon(Counts(fp=0, n_out=1000, fn=1000 - tp, n_in=1000))
    assert bound.epsilon == pytest.approx(epsilon, abs=5e-5)
    swapped = trials_epsilon(Counts(fp=1000 - tp, n_out=1000, fn=0, n_in=1000))
    assert swapped.epsilon == bound.epsilon
    strict = trials_epsilon(Counts(0, 1000, 1000 - tp, 1000), delta=0.01)
    assert strict.epsilon < bound.epsilon


def test_clopper_pearson_finds_nothing_in_no_trials():
    assert trials_epsilon(Counts(0, 1, 0, 1)).epsilon == 0
    assert trials_epsilon(Counts(0, 0, 0, 0)).epsilon == 0
    assert trials_gaussian(Counts(0, 0, 0, 0), delta=DELTA).epsilon == 0


def test_gaussian_dp_closed_form():
    assert gaussian_delta(1.0, 1.0) == pytest.approx(0.12693673750664, abs=1e-12)
    assert gaussian_delta(0.5, 0.0) == pytest.approx(2 * norm.cdf(0.25) - 1)
    assert gaussian_epsilon(1.0, gaussian_delta(1.0, 1.0)) == pytest.approx(1.0)
    assert gaussian_epsilon(0.0, DELTA) == 0
    assert gaussian_epsilon(0.3, 0.5) == 0
    assert gaussian_epsilon(0.3, 0.0) == np.inf
    counts = Counts(10, 1000, 200, 1000)
    fpr, fnr = counts.upper(0.95)
    bound = trials_gaussian(counts, delta=DELTA)
    assert bound.mu == pytest.approx(norm.ppf(1 - fpr) - norm.ppf(fnr))
    assert bound.epsilon == pytest.approx(gaussian_epsilon(bound.mu, DELTA))


def test_gaussian_dp_agrees_with_a_privacy_loss_distribution():
    from dp_accounting.pld import privacy_loss_distribution as pld

    for mu in (0.5, 2.0):
        accounted = pld.from_gaussian_mechanism(1 / mu).get_epsilon_for_delta(DELTA)
        assert gaussian_epsilon(mu, DELTA) == pytest.approx(accounted, abs=2e-3)


def slow_p_value(found, epsilon, delta):
    """The same formula as sums over single probabilities."""
    n, r, v = found.n, found.made, found.right
    mass = binom.pmf(np.arange(r + 1), r, 1 / (1 + np.exp(-epsilon)))
    windows = [mass[v - i : v].sum() / i for i in range(1, v + 1)]
    return min(1.0, mass[v:].sum() + 2 * n * delta * max(windows, default=0.0))


@pytest.mark.parametrize("found", [Guesses(50, 20, 17), Guesses(50, 20, 0), Guesses(400, 9, 9)])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
def test_p_value_is_the_formula_and_grows_with_epsilon(found, delta):
    epsilons = np.linspace(0, 8, 81)
    fast = np.array([one_run_p_value(found, epsilon=e, delta=delta) for e in epsilons])
    slow = [slow_p_value(found, e, delta) for e in epsilons]
    np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-14)
    small = fast[fast < 0.2]
    assert (np.diff(small) >= -1e-12).all()


def test_guesses_are_counted_and_ties_know_no_order():
    scores = np.array([3.0, -1.0, 2.0, 0.5, np.inf, -np.inf])
    member = np.array([1, 0, 0, 1, 1, 0], bool)
    assert guess(scores, member, top=2, bottom=2) == Guesses(6, 4, 4)
    assert guess(scores, member, top=3, bottom=0) == Guesses(6, 3, 2)
    # A file with the members first: equal scores must not be guessed by their place.
    member = np.arange(1000) < 500
    for scores in (np.zeros(1000), np.repeat([1.0, 0.0], 500)[::-1] * 0):
        found = guess(scores, member, top=250, bottom=250)
        assert 200 < found.right < 300
        assert one_run_epsilon(found).epsilon == 0
    with pytest.raises(DataError, match="7 \\+ 0 guesses about 6 canaries"):
        guess(np.zeros(6), np.zeros(6, bool), top=7, bottom=0)


def test_counts_of_shares_never_overlap():
    assert counts_of(1000, (0.02, 0.0)) == (20, 0)
    assert counts_of(10, (0.02, 0.02)) == (1, 1)
    for n in range(1, 40):
        for pair in ((0.5, 0.5), (1.0, 0.0), (0.9, 0.1), (0.02, 0.02)):
            top, bottom = counts_of(n, pair)
            assert top + bottom <= n


def test_every_plan_is_paid_for():
    rng = np.random.default_rng(0)
    member = rng.random(1000) < 0.5
    scores = member + rng.normal(size=1000)
    one = audit_one_run(scores, member, shares=[(0.1, 0.1)])
    same = audit_one_run(scores, member, shares=[(0.1, 0.1)] * 4)
    found = guess(scores, member, top=100, bottom=100)
    assert one.epsilon == one_run_epsilon(found).epsilon
    assert same.epsilon == one_run_epsilon(found, level=1 - 0.05 / 4).epsilon < one.epsilon
    assert (same.level, one.level) == (0.95, 0.95)
    assert "Bonferroni" in same.method
    assert "Bonferroni" not in one.method


def most_probable(found, epsilon, delta):
    """Largest P[right or more], as a linear program over the law of the number of right guesses."""
    r, n = found.made, found.n
    grow, j = np.exp(epsilon), np.arange(r + 1)
    rows, limits = [], []
    for c in range(1, r + 1):
        hit, miss = (j >= c) * j / n, (j >= c - 1) * (r - j) / n
        rows += [hit - grow * miss, hit - miss / grow]
        limits += [delta, 1 - (1 - delta) / grow]
    found = linprog(
        -(j >= found.right).astype(float), np.array(rows), limits, np.ones((1, r + 1)), [1.0]
    )
    assert found.status == 0
    return -found.fun


@pytest.mark.parametrize("delta", [0.0, 1e-3])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 2.0])
@pytest.mark.parametrize(("n", "made", "right"), [(12, 12, 9), (30, 8, 8), (40, 10, 9)])
def test_f_dp_recursion_solves_the_linear_program(n, made, right, epsilon, delta):
    found = Guesses(n, made, right)
    most = most_probable(found, epsilon, delta)
    inverse = approximate_inverse(epsilon, delta)
    assert fdp_rejects(found, inverse, level=1 - most * 1.001 - 1e-9)
    assert not fdp_rejects(found, inverse, level=1 - most * 0.999)


def test_f_dp_bounds_agree_with_the_binomial_one():
    for n, made, right in [(1000, 100, 100), (1000, 100, 95), (1000, 1000, 600)]:
        found = Guesses(n, made, right)
        assert fdp_epsilon(found).epsilon == pytest.approx(one_run_epsilon(found).epsilon, abs=0.02)
    many = Guesses(5000, 200, 200)  # where n delta counts, the curve loses less than a union does
    assert fdp_epsilon(many, delta=DELTA).epsilon > one_run_epsilon(many, delta=DELTA).epsilon
    assert fdp_epsilon(Guesses(10, 10, 5)).epsilon == 0
    assert fdp_gaussian(Guesses(10, 10, 5), delta=DELTA).mu == 0

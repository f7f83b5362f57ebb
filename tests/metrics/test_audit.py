"""Audit bounds against golden values, linear programs and simulated mechanisms of known epsilon."""

import numpy as np
import pytest
from scipy.optimize import brentq, linprog
from scipy.stats import binom, norm

from medleak.api import DataError, Guarantee, MembershipScores, MembershipTruth, Records
from medleak.engine.figures import figures
from medleak.goals.membership.goal import sample as row_sample
from medleak.goals.membership.target_scores import TargetScores
from medleak.metrics.privacy.audit import (
    Counts,
    Guesses,
    approximate_inverse,
    audit_one_run,
    audit_trials,
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
from medleak.metrics.privacy.epsilon import MOST, OneRunEpsilon, by_run

DELTA = 1e-5
EPSILONS = (0.0, 1.0, 4.0)


def mu_of(epsilon, delta=DELTA):
    """The Gaussian mechanism whose epsilon at `delta` is this."""
    return brentq(lambda mu: gaussian_delta(mu, epsilon) - delta, 1e-7, 20) if epsilon else 0.0


def most_alarms(repeats, level=0.95):
    """So many false alarms or fewer come in 999 of 1000 tests of a bound at its nominal level."""
    return binom.ppf(0.999, repeats, 1 - level)


# --------------------------------------------------------------------------- golden values


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


# --------------------------------------------------------------------------- one run


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


# --------------------------------------------------------------------------- f-DP


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


# --------------------------------------------------------------------------- false alarms


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


# --------------------------------------------------------------------------- the metric


def sample(n=1000, shift=3.0, seed=0, records=1):
    rng = np.random.default_rng(seed)
    member = np.repeat(rng.random(n) < 0.5, records)
    scores = shift * member + np.repeat(rng.normal(size=n), records)
    return MembershipScores(scores, np.repeat(np.arange(n), records)), MembershipTruth(member)


def promise(epsilon, delta=1e-6, **changes):
    given = {"kind": "dp", "unit": "patient", "protects_from": "all"} | changes
    return Guarantee(**given, epsilon=epsilon, delta=delta)


def test_the_metric_is_the_bound_and_knows_no_upper_end():
    metric = OneRunEpsilon()
    scored, secret = sample()
    found = metric(scored, secret)
    direct = audit_one_run(
        scored.scores, secret.member, shares=metric.shares, delta=DELTA, level=0.95
    )
    assert found.value == found.low == direct.epsilon > 2
    assert found.high is None
    assert (found.n, found.level) == (1000, 0.95)
    assert 0 < metric.lower_bound(scored, secret) < found.value


def test_the_metric_counts_patients():
    one, many = sample(), sample(records=5)
    assert OneRunEpsilon()(*many) == OneRunEpsilon()(*one)


def pooled(scores, member, records=1):
    """Runs ``(T, N)`` one after the other, as the bench pools targets."""
    scores, member = (np.repeat(part, records, axis=1) for part in (scores, member))
    runs, n = scores.shape
    patients = np.tile(np.repeat(np.arange(n // records), records), runs)
    run = np.repeat(np.arange(runs), n)
    return MembershipScores(scores.ravel(), patients, run), MembershipTruth(member.ravel())


def test_pooled_targets_are_a_run_each():
    rng = np.random.default_rng(0)
    member = rng.random((4, 300)) < 0.5
    scores = 3 * member + rng.normal(size=(4, 300))
    metric = OneRunEpsilon(shares=[(0.1, 0.1)])
    found = metric(*pooled(scores, member))
    runs = [guess(s, m, top=30, bottom=30) for s, m in zip(scores, member, strict=True)]
    ps = [one_run_p_value(run, epsilon=found.value, delta=DELTA) for run in runs]
    assert 2 * np.mean(ps) == pytest.approx(0.05, abs=1e-6)
    assert (found.value, found.n) == (one_run_epsilon(*runs, delta=DELTA).epsilon, 300)
    # Two scans of each patient, joint before anything is guessed; and in any order.
    scored, secret = pooled(scores, member, records=2)
    assert metric(scored, secret) == found
    order = rng.permutation(len(scored.scores))
    assert metric(scored.take(order), MembershipTruth(secret.member[order])) == found


def test_runs_are_told_apart_by_name_alone():
    scores = np.arange(12.0).reshape(2, 6)
    patients = np.array([4, 1, 4, 0, 1, 0])
    # Members of both runs or of none: nothing but `run` says that there are two.
    member = np.isin(patients, [1, 4])
    one = by_run(scores.ravel(), np.tile(member, 2), np.tile(patients, 2))
    assert [part.shape for part in one] == [(1, 3)] * 2
    two = by_run(scores.ravel(), np.tile(member, 2), np.tile(patients, 2), np.repeat([7, 3], 6))
    np.testing.assert_array_equal(two[0], [[10.0, 8.5, 7.0], [4.0, 2.5, 1.0]])
    np.testing.assert_array_equal(two[1], [[False, True, True]] * 2)
    with pytest.raises(DataError, match="both member and non-member"):
        by_run(np.zeros(5), np.array([1, 0, 1, 0, 1]), np.array([0, 0, 1, 1, 1]))
    with pytest.raises(DataError, match="do not ask about the same patients"):
        by_run(np.zeros(4), np.ones(4), np.array([0, 1, 0, 2]), np.array([0, 0, 1, 1]))


def test_runs_that_depend_on_each_other_do_not_alarm():
    """A hat puzzle: the guess about one run is the parity of the others, all right or all wrong."""
    rng, repeats, alarms = np.random.default_rng(8), 2000, 0
    member = rng.random((repeats, 3, 4)) < 0.5
    for each in member:
        parity = each.sum(axis=0) % 2 == 0
        right = [int(parity.sum())] * 3
        alarms += one_run_epsilon(*(Guesses(4, 4, v) for v in right), level=0.8).epsilon > 0
    assert 0 < alarms <= most_alarms(repeats, 0.8)


def test_the_metric_refuses_coins_that_are_not_fair():
    rng = np.random.default_rng(0)
    member = rng.random(1000) < 0.7
    found = OneRunEpsilon()(
        MembershipScores(rng.normal(size=1000), np.arange(1000)), MembershipTruth(member)
    )
    assert found.value is None
    assert "not drawn by fair coins" in found.flag
    assert (
        OneRunEpsilon().lower_bound(
            MembershipScores(member * 1.0, np.arange(1000)), MembershipTruth(member)
        )
        is None
    )
    nobody = OneRunEpsilon()(
        MembershipScores(np.zeros(3), np.arange(3)), MembershipTruth(np.zeros(3, bool))
    )
    assert nobody.flag == "no members"


def test_the_null_is_zero_nearly_always():
    found = [OneRunEpsilon()(*sample(n=200, shift=0.0, seed=s)).value for s in range(60)]
    assert np.count_nonzero(found) <= most_alarms(60)


@pytest.mark.parametrize(
    ("guarantees", "upper_bound"),
    [
        ([], None),
        ([promise(3.0)], 3.0),
        ([promise(3.0), promise(1.0, delta=1e-5)], 1.0),
        ([promise(1.0, delta=1e-3)], None),
        ([promise(1.0, adjacency="replace-one")], None),
        ([promise(1.0, kind="k-anonymity")], None),
        ([promise(1e9)], 1e9),
    ],
)
def test_the_ceiling_is_the_smallest_claim_at_this_delta(guarantees, upper_bound):
    assert OneRunEpsilon().upper_bound(guarantees) == upper_bound


def test_a_claim_at_a_larger_delta_is_converted_by_its_mechanism():
    gaussian = {"name": "poisson_gaussian", "q": 1.0, "sigma": 2.0, "steps": 1}
    given = promise(gaussian_epsilon(0.5, 1e-3), delta=1e-3, mechanism=gaussian)
    assert given.epsilon < 1.7
    exact = gaussian_epsilon(0.5, DELTA)
    assert exact <= OneRunEpsilon().upper_bound([given]) < exact + 0.02


def test_violations_of_a_claim_are_flagged():
    metrics = {"epsilon": OneRunEpsilon()}
    scored, secret = sample()

    def violated(claimed, patients):
        n = len(scored.scores)
        records = Records(np.zeros((n, 1)), np.zeros(n, int), patients)
        part = TargetScores(scored.scores[None], secret.member[None], records)
        asked = {"records": "natural", "unit": "record"}
        return figures(metrics, row_sample([claimed], [part], **asked))["violations"]

    assert violated(promise(0.5), scored.patients) == ("epsilon",)
    assert violated(promise(8.0), scored.patients) == ()
    # A promise for one record says nothing of a patient with several.
    twice = scored.patients.copy()
    twice[np.flatnonzero(secret.member)[1]] = twice[np.flatnonzero(secret.member)[0]]
    assert violated(promise(0.5, unit="record"), scored.patients) == ("epsilon",)
    assert violated(promise(0.5, unit="record"), twice) == ()


def test_settings_that_make_no_sense():
    assert OneRunEpsilon().invalid_parameters() == []
    assert (
        len(OneRunEpsilon(shares=[(0.7, 0.7), (0.1,), (0, 0)], delta=2).invalid_parameters()) == 4
    )
    assert OneRunEpsilon(shares=()).invalid_parameters() == [
        "shares are empty: give at least one pair"
    ]


def test_a_bound_that_no_attack_could_raise_says_so():
    member = np.random.default_rng(0).random(120) < 0.5
    patients = np.arange(120)
    perfect = OneRunEpsilon()(MembershipScores(member * 1.0, patients), MembershipTruth(member))
    assert perfect.flag == f"{MOST}, {perfect.value:.2f}"
    noisy = member + np.random.default_rng(1).normal(size=120)
    found = OneRunEpsilon()(MembershipScores(noisy, patients), MembershipTruth(member))
    assert 0 <= found.value < perfect.value
    assert found.flag == ""

"""Audited epsilon over independent runs: never above the truth too often, and it finds what is there."""

import numpy as np
import pytest
from bounded import upper_bounds, violations
from scipy.optimize import brentq
from scipy.stats import binom

from medleak.api import DataError, Guarantee, MembershipScores, MembershipTruth
from medleak.metrics.privacy.audit import (
    Counts,
    audit_runs,
    gaussian_delta,
    gaussian_epsilon,
    least_runs,
    trials_epsilon,
    trials_gaussian,
)
from medleak.metrics.privacy.epsilon import ManyRunEpsilon
from medleak.metrics.privacy.many_runs import _rule
from medleak.metrics.privacy.upper_bounds import VIOLATION_LEVEL

DELTA = 1e-5
EPSILONS = (0.0, 1.0, 4.0)


def mu_of(epsilon):
    """The Gaussian mechanism whose epsilon at `DELTA` is this."""
    return brentq(lambda mu: gaussian_delta(mu, epsilon) - DELTA, 1e-7, 20) if epsilon else 0.0


def most_alarms(repeats, level=0.95):
    """So many false alarms or fewer come in 999 of 1000 tests of a bound at its nominal level."""
    return binom.ppf(0.999, repeats, 1 - level)


def gaussian_runs(rng, epsilon, runs=60, patients=20):
    """Each patient's score is a Gaussian mechanism's release."""
    member = rng.random((runs, patients)) < 0.5
    return mu_of(epsilon) * member + rng.normal(size=member.shape), member


def response_runs(rng, epsilon, runs=60, patients=20):
    """Randomised response: the least private that epsilon allows; scores tie."""
    member = rng.random((runs, patients)) < 0.5
    honest = rng.random(member.shape) < 1 / (1 + np.exp(-epsilon))
    return np.where(honest, member, ~member).astype(float), member


def sample(scores, member, **changes):
    runs, n = scores.shape
    run, patients = np.repeat(np.arange(runs), n), np.tile(np.arange(n), runs)
    given = {"run": run} | changes
    return MembershipScores(scores.ravel(), patients, **given), MembershipTruth(member.ravel())


# --------------------------------------------------------------------------- alarms


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("simulate", [gaussian_runs, response_runs])
def test_alarms_are_at_or_under_nominal(simulate, epsilon):
    rng, repeats, level = np.random.default_rng(int(epsilon)), 300, 0.8
    found = [audit_runs(*simulate(rng, epsilon), delta=DELTA, level=level) for _ in range(repeats)]
    assert sum(one.epsilon > epsilon + 1e-9 for one in found) <= most_alarms(repeats, level)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_gaussian_alarms_are_at_or_under_nominal(epsilon):
    rng, repeats, level, mu = np.random.default_rng(9), 300, 0.8, mu_of(epsilon)
    plan = {"delta": DELTA, "level": level, "gaussian": True}
    found = [audit_runs(*gaussian_runs(rng, epsilon), **plan) for _ in range(repeats)]
    assert sum(one.mu > mu + 1e-9 for one in found) <= most_alarms(repeats, level)


def test_a_canary_from_the_same_runs_would_alarm():
    """What the two halves are for; it also shows that the tests above can fail."""
    rng, repeats, level = np.random.default_rng(2), 100, 0.8
    alarms = 0
    for _ in range(repeats):
        scores, member = gaussian_runs(rng, 0.0, patients=50)
        j, t = _rule(scores, member, 0.0, level, False)
        inside, flagged = member[:, j], scores[:, j] >= t
        counts = Counts(
            int((flagged & ~inside).sum()), int((~inside).sum()),
            int((~flagged & inside).sum()), int(inside.sum()),
        )  # fmt: skip
        alarms += trials_epsilon(counts, level=level).epsilon > 0
    assert alarms > most_alarms(repeats, level)


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_alarms_over_many_audits(epsilon):
    rng, repeats = np.random.default_rng(7), 3000
    for simulate in (gaussian_runs, response_runs):
        for gaussian in (False, True) if simulate is gaussian_runs else (False,):
            plan = {"delta": DELTA, "gaussian": gaussian}
            found = [
                audit_runs(*simulate(rng, epsilon, runs=200, patients=10), **plan)
                for _ in range(repeats)
            ]
            truth = mu_of(epsilon) if gaussian else epsilon
            values = [one.mu if gaussian else one.epsilon for one in found]
            assert sum(v > truth + 1e-9 for v in values) <= most_alarms(repeats)


# --------------------------------------------------------------------------- power and the choice


def test_one_exposed_patient_among_many_is_found():
    rng = np.random.default_rng(3)
    member = rng.random((400, 200)) < 0.5
    scores = rng.normal(size=member.shape)
    assert audit_runs(scores, member, delta=DELTA).epsilon < 0.5
    scores[:, 71] += 8 * member[:, 71]
    bound = audit_runs(scores, member, delta=DELTA)
    assert bound.epsilon == pytest.approx(np.log(400 / 4) - np.log(np.log(2 / 0.05)), abs=0.3)
    assert "canary and threshold were chosen on runs that are not counted" in bound.assumes


def test_bounds_grow_towards_the_truth():
    rng = np.random.default_rng(4)
    runs = gaussian_runs(rng, 4.0, runs=20_000, patients=2)
    plain, curve = (audit_runs(*runs, delta=DELTA, gaussian=g) for g in (False, True))
    assert 1.5 < plain.epsilon < curve.epsilon
    assert 3 < curve.epsilon < 4
    tight = audit_runs(*response_runs(rng, 4.0, runs=20_000, patients=2))
    assert 3.5 < tight.epsilon < 4


def brute_force(scores, member, delta, level, gaussian):
    best = (-1.0, -3.0)
    for j in range(scores.shape[1]):
        for t in np.unique(scores[:, j]):
            flagged, inside = scores[:, j] >= t, member[:, j]
            counts = Counts(
                int((flagged & ~inside).sum()), int((~inside).sum()),
                int((~flagged & inside).sum()), int(inside.sum()),
            )  # fmt: skip
            bound = (trials_gaussian if gaussian else trials_epsilon)(
                counts, delta=delta, level=level
            )
            value = bound.mu if gaussian else bound.epsilon
            best = max(best, (value, -sum(counts.upper(level))))
    return best


@pytest.mark.parametrize("gaussian", [False, True])
@pytest.mark.parametrize("decimals", [0, 8])
def test_the_rule_is_the_best_of_all(gaussian, decimals):
    rng = np.random.default_rng(5)
    for shift in (0.0, 3.0):
        member = rng.random((40, 6)) < 0.5
        scores = np.round(rng.normal(size=member.shape) + shift * member, decimals)
        j, t = _rule(scores, member, DELTA, 0.95, gaussian)
        own = brute_force(scores[:, [j]], member[:, [j]], DELTA, 0.95, gaussian)
        assert own == pytest.approx(brute_force(scores, member, DELTA, 0.95, gaussian))
        flagged, inside = scores[:, j] >= t, member[:, j]
        counts = Counts(
            int((flagged & ~inside).sum()), int((~inside).sum()),
            int((~flagged & inside).sum()), int(inside.sum()),
        )  # fmt: skip
        assert -sum(counts.upper(0.95)) <= own[1] + 1e-12 or own[0] > 0
        bound = (trials_gaussian if gaussian else trials_epsilon)(counts, delta=DELTA)
        assert (bound.mu if gaussian else bound.epsilon) == pytest.approx(own[0])


def test_the_choice_sees_no_counted_run():
    rng = np.random.default_rng(6)
    scores, member = gaussian_runs(rng, 4.0, runs=100)
    chosen = _rule(scores[1::2], member[1::2], DELTA, 0.95, False)
    bound = audit_runs(scores, member, delta=DELTA)
    j, t = chosen
    flagged, inside = scores[::2, j] >= t, member[::2, j]
    told = f"{(flagged & ~inside).sum()} of {(~inside).sum()} false positives"
    assert told in bound.method


@pytest.mark.parametrize(("level", "least"), [(0.95, 21), (0.999, 43)])
def test_the_least_number_of_runs(level, least):
    """A perfect rule shows something from there on, and never before."""
    assert least_runs(level) == least

    def most(runs):
        n = (runs + 1) // 2
        counts = [Counts(0, k, 0, n - k) for k in range(n + 1)]
        return max(trials_epsilon(c, level=level).epsilon for c in counts)

    assert most(least) > 0
    assert most(least - 1) == 0


def test_runs_that_cannot_be_audited():
    with pytest.raises(DataError, match="1 run: canary and threshold need runs"):
        audit_runs(np.zeros((1, 3)), np.zeros((1, 3), bool))
    with pytest.raises(DataError, match="NaN"):
        audit_runs(np.full((4, 3), np.nan), np.zeros((4, 3), bool))
    scores, member = np.zeros((40, 3)), np.zeros((40, 3), bool)
    assert audit_runs(scores, member).epsilon == 0
    member[::2] = True
    assert audit_runs(np.where(member, np.inf, -np.inf), member).epsilon == 0  # one sort counted


# --------------------------------------------------------------------------- the metric


def test_the_metric_is_the_bound_of_pooled_runs():
    scores, member = gaussian_runs(np.random.default_rng(0), 4.0, runs=200)
    found = ManyRunEpsilon()(*sample(scores, member))
    direct = audit_runs(scores, member, delta=DELTA)
    assert found.value == found.low == direct.epsilon > 0.5
    assert (found.high, found.n, found.level, found.flag) == (None, 200, 0.95, "")
    curve = ManyRunEpsilon(gaussian=True)(*sample(scores, member))
    assert curve.value == audit_runs(scores, member, delta=DELTA, gaussian=True).epsilon
    scores = scores + 20 * member
    strict = ManyRunEpsilon().lower_bound(*sample(scores, member))
    assert strict == audit_runs(scores, member, delta=DELTA, level=VIOLATION_LEVEL).epsilon
    assert 0 < strict < ManyRunEpsilon()(*sample(scores, member)).value


@pytest.mark.parametrize(
    ("runs", "changes", "flag"),
    [
        (1, {}, "one run"),
        (1, {"run": None}, "one run"),
        (60, {"independent": False}, "runs shadow each other"),
        (20, {}, "20 runs, 21 needed"),
        (21, {}, ""),
    ],
)
def test_what_is_not_measured_says_why(runs, changes, flag):
    scores, member = gaussian_runs(np.random.default_rng(0), 4.0, runs=runs)
    found = ManyRunEpsilon()(*sample(scores, member, **changes))
    assert found.flag == flag
    assert (found.value is None) == bool(flag)
    assert found.n == runs


def test_a_violation_needs_runs_enough_for_its_level():
    promise = [Guarantee("dp", "patient", "all", 0.5, 1e-6)]
    metrics = {"epsilon_trials": ManyRunEpsilon()}
    for runs, expected in ((42, []), (400, ["epsilon_trials"])):
        member = np.random.default_rng(0).random((runs, 3)) < 0.5
        scored, secret = sample(20.0 * member, member)
        roofs = upper_bounds(metrics, promise)
        assert roofs == {"epsilon_trials": 0.5}
        assert violations(metrics, scored, secret, roofs) == expected
    assert (
        ManyRunEpsilon().lower_bound(*sample(*gaussian_runs(np.random.default_rng(0), 0.0, 42)))
        is None
    )


def test_settings_that_make_no_sense():
    assert ManyRunEpsilon().invalid_parameters() == []
    assert ManyRunEpsilon(delta=0).invalid_parameters() == []
    assert ManyRunEpsilon(delta=2).invalid_parameters() == [
        "delta is 2: a number in 0..1 is needed"
    ]
    assert len(ManyRunEpsilon(delta=0, gaussian=True).invalid_parameters()) == 1
    assert gaussian_epsilon(1.0, 0.0) == np.inf

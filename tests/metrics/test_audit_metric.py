"""The audited epsilon as a metric: patients, pooled targets, ceilings and violations."""

import numpy as np
import pytest
from audit_runs import DELTA, most_alarms

from medleak.api import DataError, Guarantee, MembershipScores, MembershipTruth, Records
from medleak.engine.figures import figures
from medleak.goals.membership.goal import sample as row_sample
from medleak.goals.membership.target_scores import TargetScores
from medleak.metrics.privacy.audit import (
    Guesses,
    audit_one_run,
    gaussian_epsilon,
    guess,
    one_run_epsilon,
    one_run_p_value,
)
from medleak.metrics.privacy.epsilon import OneRunEpsilon, by_run


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

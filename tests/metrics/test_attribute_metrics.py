"""Attribute metrics against values worked by hand, and what their intervals cover."""

import numpy as np
import pytest

from medleak.api import AttributeScores, AttributeTruth
from medleak.metrics.attribute import AttributeAccuracy, AttributeAUC, training_added
from medleak.metrics.guessing import learned

TWO = np.array([[0.0, 1], [0, 2], [0, 3], [0, 4]])


def guessed(scores, value, patients=None):
    patients = np.arange(len(value)) if patients is None else patients
    return AttributeScores(np.asarray(scores, float), patients), AttributeTruth(np.asarray(value))


def test_two_values_are_ranked_by_their_difference():
    output, secret = guessed(TWO, [0, 1, 0, 1])
    assert AttributeAUC()(output, secret).value == 0.75
    mirrored = AttributeScores(TWO[:, ::-1], output.patients)
    assert AttributeAUC()(mirrored, AttributeTruth(1 - secret.value)).value == 0.75


def test_several_values_are_averaged():
    scores = np.eye(3)[[0, 1, 2, 0, 1, 0]]
    output, secret = guessed(scores, [0, 1, 2, 0, 1, 2])
    # Value 0: 7 of 8 pairs (ties half); value 1: all; value 2: half of those who have it.
    assert AttributeAUC()(output, secret).value == pytest.approx((7 / 8 + 1 + 3 / 4) / 3)
    assert AttributeAccuracy()(output, secret).value == pytest.approx((1 + 1 + 0.5) / 3)


def test_a_value_of_one_patient_is_left_out_and_a_single_one_is_not_measured():
    scores = np.eye(3)[[0, 0, 1, 1, 2]]
    found = AttributeAccuracy()(*guessed(scores, [0, 0, 1, 1, 2]))
    assert found.value == 1.0
    assert found.flag == "2 patients of the rarest value"
    alone = AttributeAUC()(*guessed(np.zeros((4, 2)), [0, 0, 0, 0]))
    assert alone.value is None
    assert "fewer than two values" in alone.flag


def test_infinite_scores_have_an_order():
    scores = [[-np.inf, -np.inf], [0, -np.inf], [-np.inf, 0], [0, 1.0]]
    assert AttributeAUC()(*guessed(scores, [0, 0, 1, 1])).value == 1.0


def draws(rng, n, leak):
    value = rng.integers(0, 2, n)
    margin = leak * (2 * value - 1) + rng.normal(size=n)
    return np.stack([-margin, margin], axis=1), value


@pytest.mark.parametrize("metric", [AttributeAUC(), AttributeAccuracy()])
def test_intervals_cover_where_nothing_is_told(metric):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        found = metric(*guessed(*draws(rng, 80, 0.0)))
        covered += found.low <= 0.5 <= found.high
    assert covered >= 91


@pytest.mark.parametrize("metric", [AttributeAUC(), AttributeAccuracy()])
def test_the_excess_over_a_baseline_as_good_covers_nought(metric):
    rng, covered = np.random.default_rng(1), 0
    for _ in range(100):
        scores, value = draws(rng, 80, 0.7)
        noise = 0.8 * rng.normal(size=(2, len(value)))
        ours, theirs = (scores + np.stack([-e, e], axis=1) for e in noise)
        output, secret = guessed(ours, value)
        gain = metric.excess(output, AttributeScores(theirs, output.patients), secret)
        covered += gain.low <= 0 <= gain.high
    assert covered >= 91
    assert gain.high - gain.low < 0.4


def test_a_perfect_attack_over_a_blind_baseline_has_a_width():
    rng = np.random.default_rng(2)
    value = rng.integers(0, 2, 60)
    output, secret = guessed(np.eye(2)[value], value)
    gain = AttributeAUC().excess(
        output, AttributeScores(np.zeros((60, 2)), output.patients), secret
    )
    assert gain.value == 0.5
    assert 0.3 < gain.low < 0.5


def test_the_same_guesses_gain_nothing():
    output, secret = guessed(*draws(np.random.default_rng(3), 100, 1.0))
    gain = AttributeAUC().excess(output, output, secret)
    assert gain.value == 0.0
    assert max(-gain.low, gain.high) < 0.05


def test_what_training_added_is_a_difference_of_two_groups():
    rng = np.random.default_rng(4)
    members, others = guessed(*draws(rng, 300, 1.5)), guessed(*draws(rng, 300, 0.3))
    found = training_added(AttributeAUC(), members, others)
    assert found.low > 0.1
    alike = training_added(AttributeAUC(), others, guessed(*draws(rng, 300, 0.3)))
    assert alike.low < 0 < alike.high


def test_copies_of_a_patient_are_no_evidence():
    scores, value = draws(np.random.default_rng(5), 40, 0.5)
    once = AttributeAUC()(*guessed(scores, value))
    many = guessed(np.repeat(scores, 5, 0), np.repeat(value, 5), np.repeat(np.arange(40), 5))
    found = AttributeAUC()(*many)
    assert (found.value, found.n) == (pytest.approx(once.value), 40)
    assert found.high - found.low == pytest.approx(once.high - once.low, rel=0.05)


def test_a_learner_finds_what_there_is_and_weighs_values_alike():
    rng = np.random.default_rng(6)
    value = (rng.random(400) < 0.1).astype(int)
    features = rng.normal(size=(400, 20))
    features[:, 3] += 2.0 * value
    told = learned(features, value, np.arange(400), n_values=2)
    new = np.zeros((2, 20))
    new[:, 3] = [0.0, 2.0]
    assert told(new).argmax(axis=1).tolist() == [0, 1]
    assert np.exp(told(new)).sum(axis=1) == pytest.approx([1, 1])
    constant = learned(np.ones((400, 3)), value, np.arange(400), n_values=2)
    assert np.exp(constant(np.ones((1, 3)))) == pytest.approx(np.full((1, 2), 0.5), abs=0.01)

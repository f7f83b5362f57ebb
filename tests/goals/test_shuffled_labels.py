"""The randomly labelled target: it knows its records, and nobody by name."""

import numpy as np

from medleak.api import Records
from medleak.goals.inversion.shuffled_labels import ShuffledLabels

PERSONS, SCANS = 10, 6


def records(seed):
    n = PERSONS * SCANS
    x = np.random.default_rng(seed).integers(0, 256, (n, 1, 4, 4), dtype=np.uint8)
    y = np.repeat(np.arange(PERSONS), SCANS)
    return Records(x, y, y.copy())


def shuffled(subject):
    return ShuffledLabels().apply(subject, problem=None)


def test_each_label_is_given_as_often_as_before_and_all_else_stays():
    before = records(0)
    after = shuffled(before)
    assert np.array_equal(np.sort(after.y), np.sort(before.y))
    assert np.array_equal(after.x, before.x)
    assert np.array_equal(after.patients, before.patients)
    assert not np.array_equal(after.y, before.y)


def test_the_same_records_are_labelled_alike_and_others_anew():
    assert np.array_equal(shuffled(records(0)).y, shuffled(records(0)).y)
    assert not np.array_equal(shuffled(records(0)).y, shuffled(records(1)).y)


def test_over_draws_one_record_in_as_many_as_there_are_persons_keeps_its_name():
    draws = 300
    own = [(shuffled(records(seed)).y == records(seed).y).mean() for seed in range(draws)]
    # A share of n = 60 matches has variance p (1 - p) / (n - 1).
    deviation = np.sqrt(0.1 * 0.9 / (PERSONS * SCANS - 1) / draws)
    assert abs(np.mean(own) - 1 / PERSONS) < 3.3 * deviation


def test_one_draw_scatters_as_that_of_so_many_persons():
    """An attack that shows one scan of each class's records, drawn by lot, is right about as many as by chance."""
    rng, right = np.random.default_rng(0), []
    for seed in range(300):
        after = shuffled(records(seed))
        shown = [
            after.patients[rng.choice(np.flatnonzero(after.y == k))] == k for k in range(PERSONS)
        ]
        right.append(np.mean(shown))
    deviation = np.sqrt(0.1 * 0.9 / PERSONS)
    assert abs(np.mean(right) - 0.1) < 3.3 * deviation / np.sqrt(300)
    assert 0.8 < np.std(right) / deviation < 1.2

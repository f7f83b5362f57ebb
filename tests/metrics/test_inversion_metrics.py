"""Model-inversion metrics by hand."""

import numpy as np
import pytest

from medleak.api import InversionTruth, InvertedImages
from medleak.metrics.inversion import KNNDistance, NearestSSIM, Recognised


def portraits(images, scores, features=None):
    k, m = np.shape(scores)[:2]
    features = np.zeros((k, m, 2)) if features is None else np.asarray(features, dtype=float)
    return InvertedImages(
        np.asarray(images), np.arange(k), np.asarray(scores, dtype=float), features
    )


def sitters(n_classes=3, n=4, size=12, seed=0):
    rng = np.random.default_rng(seed)
    shape = (n_classes * n, 1, size, size)
    y = np.repeat(np.arange(n_classes), n)
    return InversionTruth(rng.random(shape), y, rng.random((len(y), 2)), rng.random(shape), y)


def test_recognised_counts_the_pictures_of_each_class_alike():
    scores = np.full((2, 2, 4), -5.0)
    scores[0, :, 0] = scores[1, 0, 1] = scores[1, 1, 2] = -1.0
    found = Recognised()(portraits(np.zeros((2, 2, 1, 12, 12)), scores), sitters(2))
    assert found.value == pytest.approx(0.75)
    assert (found.n, found.flag) == (2, "2 classes")


def test_no_class_can_be_missed_by_all_but_one():
    """acc@5 of two classes is acc@1: otherwise every picture would count."""
    scores = np.array([[[-0.1, -2.0], [-2.0, -0.1]], [[-0.1, -2.0], [-0.1, -2.0]]])
    made = portraits(np.zeros((2, 2, 1, 12, 12)), scores)
    assert Recognised(k=5)(made, sitters(2)).value == Recognised()(made, sitters(2)).value == 0.25


def test_ties_count_by_chance():
    made = portraits(np.zeros((4, 1, 1, 12, 12)), np.zeros((4, 1, 4)))
    assert Recognised()(made, sitters(4)).value == pytest.approx(1 / 4)
    assert Recognised(k=2)(made, sitters(4)).value == pytest.approx(2 / 4)


def test_knn_distance_is_to_the_nearest_of_the_own_class():
    truth = sitters(2, n=2)
    truth = InversionTruth(
        truth.images,
        truth.y,
        np.array([[0, 0], [3, 0], [0, 1], [9, 9.0]]),
        truth.others,
        truth.others_y,
    )
    made = portraits(np.zeros((2, 1, 1, 12, 12)), np.zeros((2, 1, 2)), [[[0.0, 1.0]], [[0.0, 3.0]]])
    # Mean squared difference over the two features: (0 + 1) / 2 and (0 + 4) / 2.
    assert KNNDistance()(made, truth).value == pytest.approx((0.5 + 2.0) / 2)


def test_the_gap_tells_training_images_from_others_of_the_class():
    truth = sitters(3)
    trained = truth.images.reshape(3, 4, 1, 12, 12)[:, :2]
    leaky = portraits(trained, np.zeros((3, 2, 3)))
    assert NearestSSIM(among="trained")(leaky, truth).value == pytest.approx(1.0)
    found = NearestSSIM()(leaky, truth)
    assert found.low > 0.5


def test_without_leakage_the_gap_covers_nought():
    """Pictures of the class alone, over and over: the interval misses 0 about as often as it says."""
    missed = 0
    for seed in range(60):
        rng = np.random.default_rng([1, seed])
        base = rng.random((8, 1, 1, 12, 12))
        near = lambda n: np.clip(base + 0.3 * rng.standard_normal((8, n, 1, 12, 12)), 0, 1)  # noqa: E731, B023
        trained, others, shown = near(3), near(3), near(2)
        y = np.repeat(np.arange(8), 3)
        flat = [x.reshape(24, 1, 12, 12) for x in (trained, others)]
        truth = InversionTruth(flat[0], y, np.zeros((24, 1)), flat[1], y)
        found = NearestSSIM()(portraits(shown, np.zeros((8, 2, 8))), truth)
        missed += not found.low <= 0 <= found.high
    assert missed <= 9  # of 60 at 95%: more has a chance below one in a thousand


def shares(rng, k, m, p):
    """Scores of pictures of which a share is recognised, more of some classes than of others."""
    of = np.clip(p + 0.3 * rng.standard_normal((k, 1)), 0, 1)
    hit = rng.random((k, m)) < of
    wrong = (np.arange(k) + 1) % k
    shown = np.where(hit, np.arange(k)[:, None], wrong[:, None])
    return np.log(0.01 + (shown[:, :, None] == np.arange(k)))


def test_a_gain_of_nothing_is_called_one_about_as_often_as_it_says():
    missed = 0
    for seed in range(100):
        rng = np.random.default_rng([2, seed])
        made, guess = (
            portraits(np.zeros((12, 5, 1, 2, 2)), shares(rng, 12, 5, 0.4)) for _ in range(2)
        )
        found = Recognised().excess(made, guess, sitters(1))
        missed += not found.low <= 0 <= found.high
    assert missed <= 13  # of 100 at 95%: more has a chance of one in a thousand


def test_excess_is_paired_by_class():
    good = np.log(np.full((3, 2, 3), 0.1) + 0.7 * np.eye(3)[:, None])
    bad = np.log(np.full((3, 2, 3), 0.1) + 0.7 * np.eye(3)[[1, 2, 0]][:, None])
    made, guess = (portraits(np.zeros((3, 2, 1, 12, 12)), s) for s in (good, bad))
    assert Recognised().excess(made, guess, sitters()).value == 1.0
    assert Recognised().excess(made, made, sitters()).value == 0.0


def test_faults_and_refusals():
    assert "did you mean 'trained'" in NearestSSIM(among="trainde").invalid_parameters()[0]
    assert Recognised(k=0).invalid_parameters()
    small = portraits(np.zeros((1, 1, 1, 8, 8)), np.zeros((1, 1, 2)))
    assert "smaller than the window" in NearestSSIM()(small, sitters(1, size=8)).flag

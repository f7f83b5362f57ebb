import numpy as np
import pytest

from medleak.attacks.membership._hopskipjump import Walks, lengths
from medleak.attacks.membership.art import seeded

FEATURES = 64


def outside_a_ball(points):
    return (lengths(points - 0.5) > 1.6).astype(np.int64)


def experiment(n=20, seed=0):
    """Points within a ball and, some way off, points beyond it; and how far the ball reaches."""
    rng = np.random.default_rng(seed)
    towards = rng.standard_normal((2, n, FEATURES))
    towards /= lengths(towards)[..., None]
    points = 0.5 + rng.uniform(0.3, 1.2, (n, 1)) * towards[0]
    starts = np.clip(0.5 + 4.0 * towards[1], 0, 1)
    points, starts = points.astype(np.float32), starts.astype(np.float32)
    assert not outside_a_ball(points).any()
    assert outside_a_ball(starts).all()
    return points, starts, 1.6 - lengths(points - 0.5)


def walks(ask, points, starts, share):
    labels = np.zeros(len(points), dtype=np.int64)
    return Walks(ask, points=points, starts=starts, labels=labels, share=share)


def test_walks_come_to_the_boundary():
    points, starts, true = experiment()
    ratio = []
    for share in (50, 200, 1000, 4000):
        walk = walks(outside_a_ball, points, starts, share)
        found = walk.distances(30, np.random.default_rng(1))
        assert (found >= true - 1e-5).all()
        assert np.array_equal(outside_a_ball(walk.at), np.ones(len(points)))
        ratio.append(np.median(found / true))
    assert (np.diff(ratio) < 0).all()
    assert ratio[-1] < 1.1


@pytest.mark.parametrize("share", [1, 2, 13, 14, 15, 44, 45, 100])
def test_every_share_is_spent_and_none_overdrawn(share):
    for n in (1, 3):
        points, starts, _ = experiment(n=n)
        sent = []
        walk = walks(
            lambda x, into=sent: into.append(x) or outside_a_ball(x), points, starts, share
        )
        found = walk.distances(30, np.random.default_rng(2))
        sent = np.concatenate(sent)
        assert len(sent) == n * share
        assert not walk.left.any()
        assert sent.dtype == np.float32
        assert sent.min() >= 0
        assert sent.max() <= 1
        # The nearest other label is among what was asked: alone, a record has all of it.
        other = np.append(sent[outside_a_ball(sent) == 1], starts, axis=0)
        nearest = lengths(other[:, None] - points).min(axis=0)
        assert (found >= nearest - 1e-6).all()
        assert n > 1 or found[0] == pytest.approx(nearest[0], rel=1e-5)


def test_a_walk_from_no_record():
    points, starts, _ = experiment(n=0)
    assert (
        walks(outside_a_ball, points, starts, 9).distances(30, np.random.default_rng(0)).size == 0
    )


def test_no_worse_than_the_toolbox_with_as_many_queries():
    from art.attacks.evasion import HopSkipJump
    from art.estimators.classification import BlackBoxClassifier

    points, starts, true = experiment(n=40)
    sent = []

    def predict(x):
        sent.append(x)
        return np.eye(2, dtype=np.float32)[outside_a_ball(x)]

    served = BlackBoxClassifier(predict, (FEATURES,), 2, clip_values=(0.0, 1.0))
    jump = HopSkipJump(served, max_iter=4, init_eval=30, max_eval=30, verbose=False)
    theirs, queries = [], []
    for i in range(len(points)):
        sent.clear()
        with seeded(i):
            jump.generate(x=points[i : i + 1], x_adv_init=starts[i : i + 1].copy())
        asked = np.concatenate(sent)
        theirs.append(lengths(asked[outside_a_ball(asked) == 1] - points[i]).min())
        queries.append(len(asked) - 5)  # the record and its two ends are asked about as well
    share = int(np.median(queries))
    ours = walks(outside_a_ball, points, starts, share).distances(30, np.random.default_rng(3))
    assert np.median(ours / true) < 1.05 * np.median(theirs / true)

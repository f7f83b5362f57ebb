import numpy as np
import pytest

from medleak.attacks._kernels import augmented, best_threshold, relative_rank, tail_score
from medleak.attacks.membership._moments import InOutMoments, Moments


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_augmented_images():
    x = np.random.default_rng(0).integers(0, 256, (5, 2, 32, 32), dtype=np.uint8)
    sent = list(augmented(x, "all"))
    assert len(sent) == len({s.tobytes() for s in sent}) == 18
    assert sent[0] is x
    assert (sent[1] == x[..., ::-1]).all()
    assert all(s.shape == x.shape and s.dtype == x.dtype for s in sent)
    assert any((s[:, :, 2:, :] == x[:, :, :-2, :]).all() for s in sent)  # a sixteenth of 32
    assert [len(list(augmented(x, q))) for q in ("identity", "flip")] == [1, 2]


def test_augmented_tables_are_sent_once():
    x = np.zeros((5, 7), dtype=np.float32)
    assert [s is x for s in augmented(x, "all")] == [True]


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 4.0])
def test_relative_rank_equals_all_pairs_under_ties(rng, gamma):
    x, z = rng.integers(0, 9, 60) / 4, rng.integers(0, 9, 50) / 4  # zeros, and exact ties at gamma
    pairs = [[a >= gamma * b for b in z] for a in x]
    assert np.array_equal(relative_rank(x, z, gamma=gamma), np.mean(pairs, axis=1))


def brute_force_gain(values, member):
    def gain(t):
        return (values[member] <= t).mean() - (values[~member] <= t).mean()

    return gain, max(gain(t) for t in values)


def test_best_threshold_is_best_under_ties(rng):
    for _ in range(20):
        values, member = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.5
        gain, most = brute_force_gain(values, member)
        assert gain(best_threshold(values, member)) == pytest.approx(most)


def test_best_threshold_lies_midway_and_needs_both_groups():
    assert best_threshold(np.array([1.0, 2.0, 5.0, 6.0]), np.array([1, 1, 0, 0], bool)) == 3.5
    assert best_threshold(np.array([1.0, 2.0]), np.array([True, True])) is None


def test_sides_equal_numpy_far_from_zero_and_in_blocks(rng, monkeypatch):
    monkeypatch.setattr("medleak.attacks.membership._moments.BLOCK", 4)
    values = 1e8 + rng.normal(size=(9, 6, 2))
    member = rng.random((9, 6)) < 0.6
    member[:, 0] = False
    member[:3, 1] = True
    sides = InOutMoments(np.full((6, 2), 1e8))
    for v, m in zip(values, member, strict=True):
        sides.add(v, m)
    for side, mask in ((sides.inside, member), (sides.outside, ~member)):
        for i in range(6):
            seen = values[mask[:, i], i]
            assert side.n[i, 0] == len(seen)
            if len(seen):
                assert np.allclose(side.mean[i], seen.mean(axis=0), rtol=1e-15)
                squares = ((seen - seen.mean(axis=0)) ** 2).sum(axis=0)
                assert np.allclose(side.residual_squares[i], squares, atol=1e-6)
    assert (sides.inside.mean[0] == 1e8).all()
    both = Moments.joined([sides.inside, sides.outside])
    assert np.array_equal(both.mean[6:], sides.outside.mean)


def test_tail_score_is_the_smoothed_p_value(rng):
    r = rng.normal(size=200)
    x = np.sort(np.append(rng.normal(size=50), r[:5]))  # five ties
    above, ties = (r > x[:, None]).sum(1), (r == x[:, None]).sum(1)
    score = tail_score(above, ties, 200, (x - r.mean()) / r.std())
    p = np.exp(-score)
    assert (np.abs(p - (above + ties / 2 + 0.5) / 201) <= 0.5 / 201 + 1e-12).all()
    assert (np.diff(score) > 0).all()  # the order of x, although ranks tie
    far = tail_score(np.zeros(2), np.zeros(2), 200, np.array([20.0, 30.0]))
    assert np.isfinite(far).all()
    assert far[1] > far[0] + 100  # beyond the last reference by the normal tail, in full precision

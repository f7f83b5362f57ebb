import numpy as np
import pytest

from medleak.attacks._kernels import (
    FLOOR,
    augmented,
    best_threshold,
    logit_score,
    modified_entropy,
    relative_rank,
    tail_score,
    tempered_probability,
    true_log_probability,
    zero_floor,
)
from medleak.attacks.membership._sides import Side, Sides


def log_softmax(z):
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_logit_score_equals_the_logits_own_formula(rng):
    z, y = rng.normal(size=(40, 5)) * 3, rng.integers(0, 5, 40)
    naive = [z[i, c] - np.log(np.exp(np.delete(z[i], c)).sum()) for i, c in enumerate(y)]
    assert np.allclose(logit_score(log_softmax(z), y)[:, 0], naive, atol=1e-10)


def test_logit_score_binary_is_the_signed_difference(rng):
    z, y = rng.normal(size=(40, 2)) * 20, rng.integers(0, 2, 40)
    expected = (2 * y - 1) * (z[:, 1] - z[:, 0])
    assert np.allclose(logit_score(log_softmax(z), y)[:, 0], expected, atol=1e-6)


def test_logit_score_keeps_digits_where_the_probability_rounds_to_one():
    z = np.array([[45.0, 0.0], [60.0, 0.0]])
    assert np.allclose(logit_score(log_softmax(z), np.zeros(2, int))[:, 0], [45.0, 60.0])


def test_logit_score_multilabel_is_one_per_label(rng):
    z, y = rng.normal(size=(30, 4)), rng.integers(0, 2, (30, 4))
    log_p = np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=-1)
    assert np.allclose(logit_score(log_p, y), (2 * y - 1) * z)


def test_logit_score_is_finite_under_rounding():
    with np.errstate(divide="ignore"):
        log_p = np.log(
            np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.99, 0.01, 0.0], [0.0, 0.0, 0.0]])
        )
    phi = logit_score(log_p, np.zeros(4, int), floor=zero_floor(log_p))[:, 0]
    assert np.isfinite(phi).all()
    assert phi[0] > phi[2] > phi[1]
    assert zero_floor(log_p) == pytest.approx(np.log(0.005))
    assert np.isfinite(logit_score(log_p, np.zeros(4, int))).all()


def test_zero_floor_of_full_precision_scores_is_out_of_reach(rng):
    assert zero_floor(log_softmax(rng.normal(size=(9, 3)))) == FLOOR


def test_true_log_probability():
    log_p = np.log([[0.2, 0.8], [0.6, 0.4]])
    assert np.allclose(true_log_probability(log_p, np.array([1, 0]))[:, 0], np.log([0.8, 0.6]))
    both = true_log_probability(log_p[None], np.array([[1, 0]]))
    assert np.allclose(both, np.log([[0.8, 0.6]]))


def test_tempered_probability(rng):
    z, y = rng.normal(size=(20, 4)) * 5, rng.integers(0, 4, 20)
    e = np.exp(z / 2)
    expected = (e / e.sum(1, keepdims=True))[np.arange(20), y]
    assert np.allclose(tempered_probability(log_softmax(z), y, temperature=2.0), expected)


def test_tempered_probability_of_labels_is_their_product(rng):
    z, y = rng.normal(size=(20, 3)), rng.integers(0, 2, (20, 3))
    log_p = np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=-1)
    expected = (1 / (1 + np.exp(-(2 * y - 1) * z / 2))).prod(axis=1)
    assert np.allclose(tempered_probability(log_p, y, temperature=2.0), expected)


def test_modified_entropy_by_hand():
    p = np.array([[0.7, 0.2, 0.1]])
    # -(1 - .7) log .7 - .2 log .8 - .1 log .9
    assert modified_entropy(np.log(p), np.array([0]))[0, 0] == pytest.approx(0.16216724, abs=1e-8)
    # -(1 - .1) log .1 - .7 log .3 - .2 log .8
    assert modified_entropy(np.log(p), np.array([2]))[0, 0] == pytest.approx(2.95973626, abs=1e-8)


def test_modified_entropy_is_finite_and_zero_when_certain_and_right():
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array([[1.0, 0.0], [0.0, 1.0]]))
    right, wrong = modified_entropy(log_p, np.zeros(2, int))[:, 0]
    assert right == 0
    assert wrong == pytest.approx(-2 * FLOOR)


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
    monkeypatch.setattr("medleak.attacks.membership._sides.BLOCK", 4)
    values = 1e8 + rng.normal(size=(9, 6, 2))
    member = rng.random((9, 6)) < 0.6
    member[:, 0] = False
    member[:3, 1] = True
    sides = Sides(np.full((6, 2), 1e8))
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
    both = Side.joined([sides.inside, sides.outside])
    assert np.array_equal(both.mean[6:], sides.outside.mean)


@pytest.mark.parametrize(("shape", "outcomes"), [((40,), 2), ((40,), 5), ((40, 3), 2)])
def test_kernels_in_blocks_equal_kernels_at_once(rng, monkeypatch, shape, outcomes):
    log_p = log_softmax(rng.normal(size=(*shape, outcomes)))
    y = rng.integers(0, outcomes, shape)
    whole = logit_score(log_p, y), tempered_probability(log_p, y, temperature=2.0)
    monkeypatch.setattr("medleak.attacks._kernels.BLOCK", 16)
    assert np.array_equal(logit_score(log_p, y), whole[0])
    assert np.array_equal(tempered_probability(log_p, y, temperature=2.0), whole[1])


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

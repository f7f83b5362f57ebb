"""What a record's scores are, task by task, against their formulas."""

import numpy as np
import pytest

from medleak.api import multiclass, multilabel
from medleak.api.scores import FLOOR, zero_floor


def log_softmax(z):
    return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_logit_score_equals_the_logits_own_formula(rng):
    z, y = rng.normal(size=(40, 5)) * 3, rng.integers(0, 5, 40)
    naive = [z[i, c] - np.log(np.exp(np.delete(z[i], c)).sum()) for i, c in enumerate(y)]
    assert np.allclose(multiclass.logit_score(log_softmax(z), y)[:, 0], naive, atol=1e-10)


def test_logit_score_binary_is_the_signed_difference(rng):
    z, y = rng.normal(size=(40, 2)) * 20, rng.integers(0, 2, 40)
    expected = (2 * y - 1) * (z[:, 1] - z[:, 0])
    assert np.allclose(multiclass.logit_score(log_softmax(z), y)[:, 0], expected, atol=1e-6)


def test_logit_score_keeps_digits_where_the_probability_rounds_to_one():
    z = np.array([[45.0, 0.0], [60.0, 0.0]])
    assert np.allclose(multiclass.logit_score(log_softmax(z), np.zeros(2, int))[:, 0], [45.0, 60.0])


def test_logit_score_multilabel_is_one_per_label(rng):
    z, y = rng.normal(size=(30, 4)), rng.integers(0, 2, (30, 4))
    log_p = np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=-1)
    assert np.allclose(multilabel.logit_score(log_p, y), (2 * y - 1) * z)


def test_logit_score_is_finite_under_rounding():
    with np.errstate(divide="ignore"):
        log_p = np.log(
            np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.99, 0.01, 0.0], [0.0, 0.0, 0.0]])
        )
    phi = multiclass.logit_score(log_p, np.zeros(4, int), floor=zero_floor(log_p))[:, 0]
    assert np.isfinite(phi).all()
    assert phi[0] > phi[2] > phi[1]
    assert zero_floor(log_p) == pytest.approx(np.log(0.005))
    assert np.isfinite(multiclass.logit_score(log_p, np.zeros(4, int))).all()


def test_zero_floor_of_full_precision_scores_is_out_of_reach(rng):
    assert zero_floor(log_softmax(rng.normal(size=(9, 3)))) == FLOOR


def test_true_log_probability():
    log_p = np.log([[0.2, 0.8], [0.6, 0.4]])
    assert np.allclose(
        multiclass.true_log_probability(log_p, np.array([1, 0]))[:, 0], np.log([0.8, 0.6])
    )
    both = multilabel.true_log_probability(log_p[None], np.array([[1, 0]]))
    assert np.allclose(both, np.log([[0.8, 0.6]]))


def test_tempered_probability(rng):
    z, y = rng.normal(size=(20, 4)) * 5, rng.integers(0, 4, 20)
    e = np.exp(z / 2)
    expected = (e / e.sum(1, keepdims=True))[np.arange(20), y]
    assert np.allclose(
        multiclass.tempered_probability(log_softmax(z), y, temperature=2.0), expected
    )


def test_tempered_probability_of_labels_is_their_product(rng):
    z, y = rng.normal(size=(20, 3)), rng.integers(0, 2, (20, 3))
    log_p = np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=-1)
    expected = (1 / (1 + np.exp(-(2 * y - 1) * z / 2))).prod(axis=1)
    assert np.allclose(multilabel.tempered_probability(log_p, y, temperature=2.0), expected)


def test_modified_entropy_by_hand():
    p = np.array([[0.7, 0.2, 0.1]])
    # -(1 - .7) log .7 - .2 log .8 - .1 log .9
    assert multiclass.modified_entropy(np.log(p), np.array([0]))[0, 0] == pytest.approx(
        0.16216724, abs=1e-8
    )
    # -(1 - .1) log .1 - .7 log .3 - .2 log .8
    assert multiclass.modified_entropy(np.log(p), np.array([2]))[0, 0] == pytest.approx(
        2.95973626, abs=1e-8
    )


def test_modified_entropy_is_finite_and_zero_when_certain_and_right():
    with np.errstate(divide="ignore"):
        log_p = np.log(np.array([[1.0, 0.0], [0.0, 1.0]]))
    right, wrong = multiclass.modified_entropy(log_p, np.zeros(2, int))[:, 0]
    assert right == 0
    assert wrong == pytest.approx(-2 * FLOOR)


@pytest.mark.parametrize(("shape", "outcomes"), [((40,), 2), ((40,), 5), ((40, 3), 2)])
def test_kernels_in_blocks_equal_kernels_at_once(rng, monkeypatch, shape, outcomes):
    log_p = log_softmax(rng.normal(size=(*shape, outcomes)))
    y = rng.integers(0, outcomes, shape)
    task = multilabel if len(shape) == 2 else multiclass
    whole = task.logit_score(log_p, y), task.tempered_probability(log_p, y, temperature=2.0)
    monkeypatch.setattr("medleak.api.scores.BLOCK", 16)
    assert np.array_equal(task.logit_score(log_p, y), whole[0])
    assert np.array_equal(task.tempered_probability(log_p, y, temperature=2.0), whole[1])

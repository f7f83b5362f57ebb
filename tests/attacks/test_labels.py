import numpy as np
import pytest

from medleak.api import NotApplicable
from medleak.attacks.gradient_inversion._labels import (
    corrected_labels,
    expected_labels,
    labels_right,
    last_layer,
    single_label,
    unique_labels,
)

CLASSES, FEATURES = 10, 16


def gradients(y, *, seed=0, spread=0.1, classes=CLASSES):
    """Mean gradient of a last layer, from random probabilities near uniform and features >= 0."""
    rng = np.random.default_rng(seed)
    p = np.exp(spread * rng.standard_normal((len(y), classes)))
    p /= p.sum(axis=1, keepdims=True)
    features = rng.random((len(y), FEATURES))
    residual = (p - np.eye(classes)[y]) / len(y)
    return residual.T @ features, residual.sum(axis=0), p.mean(axis=0)


@pytest.mark.parametrize("label", range(CLASSES))
def test_the_only_negative_bias_is_the_label_of_one_record(label):
    _, bias, _ = gradients(np.array([label]))
    assert (bias < 0).sum() == 1
    assert single_label(bias) == label


@pytest.mark.parametrize("n", [1, 4, 8, 10])
def test_labels_that_do_not_repeat_are_all_found(n):
    y = np.random.default_rng(n).permutation(CLASSES)[:n]
    weight, _, _ = gradients(y, seed=n)
    assert unique_labels(weight, n).tolist() == sorted(y)


@pytest.mark.parametrize("seed", range(20))
def test_repeated_labels_are_found_among_many_classes(seed):
    y = np.random.default_rng(seed).integers(0, 100, 16)
    _, bias, _ = gradients(y, seed=seed, classes=100)
    found = corrected_labels(bias, 16)
    assert len(found) == 16
    assert labels_right(found, y) >= 15


def test_with_few_classes_the_corrected_rule_fails_and_the_expected_one_does_not():
    y = np.array([0] * 5 + [1] * 3)
    _, bias, p = gradients(y, classes=2)
    assert corrected_labels(bias, 8).tolist() == [0] * 8
    assert expected_labels(bias, 8, p).tolist() == y.tolist()
    assert expected_labels(bias, 8, np.array([0.5, 0.5])).tolist() == y.tolist()


def test_repeats_need_the_corrected_rule():
    y = np.array([3] * 6 + [7, 8])
    weight, bias, _ = gradients(y)
    assert corrected_labels(bias, 8).tolist() == sorted(y)
    assert labels_right(unique_labels(weight, 8), y) == 3


def test_a_batch_of_one_class_is_one_class():
    _, bias, _ = gradients(np.full(8, 5))
    assert corrected_labels(bias, 8).tolist() == [5] * 8


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_the_rules_ignore_the_scale(scale):
    y = np.random.default_rng(1).integers(0, CLASSES, 16)
    weight, bias, _ = gradients(y)
    assert np.array_equal(corrected_labels(scale * bias, 16), corrected_labels(bias, 16))
    assert np.array_equal(unique_labels(scale * weight, 5), unique_labels(weight, 5))


@pytest.mark.parametrize("seed", range(20))
def test_the_batch_s_own_probabilities_give_the_exact_counts(seed):
    y = np.random.default_rng(seed).integers(0, CLASSES, 32)
    _, bias, p = gradients(y, seed=seed, spread=3.0)
    assert expected_labels(bias, 32, p).tolist() == sorted(y)


def test_counts_add_up_whatever_comes_in():
    rng = np.random.default_rng(0)
    for n in (1, 7, 64):
        bias = rng.standard_normal(CLASSES)
        assert len(expected_labels(bias, n, rng.dirichlet(np.ones(CLASSES)))) == n
        assert len(corrected_labels(bias, n)) == n
    assert len(corrected_labels(np.zeros(CLASSES), 3)) == 3


def test_noise_alone_tells_no_labels():
    rng = np.random.default_rng(0)
    right = [
        labels_right(corrected_labels(rng.standard_normal(100), 1), rng.integers(0, 100, 1))
        for _ in range(500)
    ]
    assert np.mean(right) < 0.04


def test_right_labels_are_counted_with_their_multiplicity():
    assert labels_right(np.array([1, 1, 2]), np.array([1, 2, 2])) == 2
    assert labels_right(np.array([0]), np.array([1])) == 0
    assert labels_right(np.array([4, 4, 4]), np.array([4, 4, 4])) == 3


def test_the_last_layer_is_the_last_matrix_with_its_bias():
    update = {
        "a.weight": np.ones((4, 3)),
        "a.bias": np.ones(4),
        "head.weight": np.full((2, 4), 2.0),
        "head.bias": np.full(2, 3.0),
        "norm.weight": np.ones(2),
    }
    weight, bias = last_layer(update, 2)
    assert weight.tolist() == [[2.0] * 4] * 2
    assert bias.tolist() == [3.0, 3.0]
    for wrong in ({**update, "head.bias": np.ones(3)}, {"a.weight": np.ones((4, 3))}, {}):
        with pytest.raises(NotApplicable, match="no last linear layer with 2 biases"):
            last_layer(wrong, 2)

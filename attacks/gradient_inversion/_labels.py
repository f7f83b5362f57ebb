"""Labels of a batch from the gradient of the last linear layer. Pure functions.

Of the mean cross-entropy of n records with probabilities p and labels y the gradient in the last
layer's bias and weight is

.. math::
    g_c = \\frac1n \\sum_i (p_{ic} - [y_i = c]), \\qquad
    G_c = \\frac1n \\sum_i (p_{ic} - [y_i = c]) f_i

with features f that enter the layer. Only a class that is in the batch can have negative entries.
The rules do not depend on the scale of the gradient, so that they take a sum over steps as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medleak.api import NotApplicable, Observation


def last_layer(update: Mapping[str, np.ndarray], n_outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight ``(C, D)`` and bias ``(C,)`` of the last linear layer of an update, float64.

    Raises:
        NotApplicable: the last matrix has not `n_outputs` rows, or no bias.
    """
    weight, bias = _last_names(update, n_outputs)
    return np.asarray(update[weight], np.float64), np.asarray(update[bias], np.float64)


def _last_names(update: Mapping[str, np.ndarray], n_outputs: int) -> tuple[str, str]:
    matrices = [name for name, value in update.items() if np.ndim(value) == 2]
    name = matrices[-1] if matrices else ""
    bias = f"{name.removesuffix('weight')}bias"
    if not name or len(update[name]) != n_outputs or np.shape(update.get(bias)) != (n_outputs,):
        raise NotApplicable(f"the update has no last linear layer with {n_outputs} biases")
    return name, bias


def readable_bias(
    observation: Observation, n_outputs: int, features: np.ndarray | None = None
) -> np.ndarray:
    r"""Gradient of the last layer's bias ``(C,)``, estimated from a partly hidden message.

    A hidden entry is estimated from the visible part of its row,

    .. math:: g_c \approx \sum_j G_{cj} / \sum_j \bar f_j,

    which has the right sign for a single record with non-negative features. Classes whose whole row is
    hidden share the remainder, because all entries add up to zero.

    Args:
        features: their mean over other records, ``(D,)``; None: ones, which leaves the scale open.

    Raises:
        NotApplicable: see `last_layer`.
    """
    weight, bias = last_layer(observation.update, n_outputs)
    rows, visible = map(observation.readable, _last_names(observation.update, n_outputs))
    if visible.all():
        return bias
    features = np.ones(weight.shape[1]) if features is None else features
    size = rows @ features
    found = np.where(visible, bias, (weight * rows).sum(axis=1) / np.where(size > 0, size, 1))
    lost = ~visible & (size <= 0)
    found[lost] = -found[~lost].sum() / max(lost.sum(), 1)
    return found


def single_label(bias: np.ndarray) -> int:
    """Label of a batch of one: the class with the negative bias gradient.

    Args:
        bias: ``(C,)``.

    Zhao et al. 2020, iDLG: Improved Deep Leakage from Gradients.
    """
    return int(np.argmin(bias))


def unique_labels(weight: np.ndarray, n: int) -> np.ndarray:
    """Labels of a batch in which none repeats: the `n` rows with the smallest entry, sorted.

    Features must not be negative (they follow a ReLU). With more than C records, only C labels are returned.

    Args:
        weight: ``(C, D)``.
        n: records in the batch.

    Yin et al. 2021, See through Gradients: Image Batch Recovery via GradInversion, CVPR.
    """
    return np.sort(np.argsort(weight.min(axis=1), kind="stable")[:n])


def corrected_labels(bias: np.ndarray, n: int) -> np.ndarray:
    """Labels of a batch with repeats, sorted ``(n,)``, from the bias gradient alone.

    One record is taken to add m, the mean of the negative entries' sum over the batch. Each negative
    class counts once, and is relieved of m; then the smallest entry counts again, and is relieved,
    until there are `n`. For many classes: with few, a class whose records the network expects anyway
    has no negative entry, and of two classes only one is ever named; see `expected_labels`.

    Args:
        bias: ``(C,)``.
        n: records in the batch.

    Wainakh et al. 2022, User-Level Label Leakage from Gradients in Federated Learning, PoPETs (in the
    variant that reads the bias).
    """
    left = np.array(bias, dtype=np.float64)
    negative = np.flatnonzero(left < 0)
    found = list(negative[np.argsort(left[negative], kind="stable")][:n])
    impact = left[negative].sum() / n if len(negative) else -1.0
    left[negative] -= impact
    while len(found) < n:
        found.append(int(np.argmin(left)))
        left[found[-1]] -= impact
    return np.sort(np.array(found, dtype=np.int64))


def expected_labels(bias: np.ndarray, n: int, probabilities: np.ndarray) -> np.ndarray:
    r"""Labels of a batch with repeats, sorted ``(n,)``, given the network's mean probabilities.

    .. math:: n_c = n (\bar p_c - g_c)

    rounded to whole numbers that add up to n; exact where the probabilities are those of the batch.
    The mean over auxiliary records serves in their place. `bias` must be a mean gradient.

    Args:
        bias: ``(C,)``.
        n: records in the batch.
        probabilities: mean softmax output of the sent model, ``(C,)``.

    Geng et al. 2021, Towards General Deep Leakage in Federated Learning.
    """
    shares = n * (np.asarray(probabilities, np.float64) - bias)
    counts = np.floor(np.maximum(shares, 0)).astype(np.int64)
    while counts.sum() < n:
        counts[np.argmax(shares - counts)] += 1
    while counts.sum() > n:
        counts[np.argmin(np.where(counts > 0, shares - counts, np.inf))] -= 1
    return np.repeat(np.arange(len(counts)), counts)


def labels_right(found: np.ndarray, truth: np.ndarray) -> int:
    """How many labels of a batch were recovered: size of the intersection with multiplicities."""
    classes = np.union1d(found, truth)
    return int(sum(min((found == c).sum(), (truth == c).sum()) for c in classes))

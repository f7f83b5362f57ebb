"""Pure functions that the membership attacks share.

Shapes: ``N`` records, ``L`` labels, ``C`` outcomes per label. A multi-class task is one label with
``C`` outcomes, a multi-label task is ``L`` labels with two, so every kernel returns ``(N, L)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

FLOOR = -100.0
"""Log-probability that stands for zero where the release never rounds: far below float32's reach."""

QUERIES = ("identity", "flip", "all")


def per_label(log_p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(N, C)`` and ``(N,)``, or ``(N, L, 2)`` and ``(N, L)``, as ``(N, L, C)`` and ``(N, L)``."""
    log_p = np.asarray(log_p, dtype=np.float64)
    return (log_p[:, None, :], y[:, None]) if y.ndim == 1 else (log_p, y)


def zero_floor(log_p: np.ndarray) -> float:
    """What a released probability of zero stands for, as a logarithm.

    Half of the smallest positive probability in `log_p` where it holds zeros (a release that rounds),
    else `FLOOR`. A far smaller value would let the records that round to one drown all others in the
    variance of the logit score.
    """
    finite = log_p[np.isfinite(log_p)]
    if finite.size in (0, log_p.size):
        return FLOOR
    return max(FLOOR, float(finite.min()) - np.log(2))


def true_log_probability(log_p: np.ndarray, y: np.ndarray, *, floor: float = FLOOR) -> np.ndarray:
    """Log-probability of the true outcome, ``(N, L)``, at least `floor`."""
    log_p, y = per_label(log_p, y)
    return np.maximum(np.take_along_axis(log_p, y[..., None], axis=-1)[..., 0], floor)


def logit_score(log_p: np.ndarray, y: np.ndarray, *, floor: float = FLOOR) -> np.ndarray:
    r"""Logit of the true outcome against all others, float64 ``(N, L)``, always finite.

    .. math:: \phi(x, y) = \log p_y - \log \sum_{j \ne y} p_j

    with each :math:`\log p_j` no smaller than `floor`.
    """
    log_p, y = per_label(log_p, y)
    log_p = np.maximum(log_p, floor)
    own = np.take_along_axis(log_p, y[..., None], axis=-1)
    others = np.where(np.arange(log_p.shape[-1]) == y[..., None], -np.inf, log_p)
    return own[..., 0] - np.logaddexp.reduce(others, axis=-1)


def tempered_probability(log_p: np.ndarray, y: np.ndarray, *, temperature: float) -> np.ndarray:
    r"""Probability of the true outcome at `temperature`, ``(N,)``; multi-label: the product.

    .. math:: p_T(y | x) = \frac{p_y^{1/T}}{\sum_j p_j^{1/T}}
    """
    log_p, y = per_label(np.maximum(log_p, FLOOR), y)
    scaled = log_p / temperature
    own = np.take_along_axis(scaled, y[..., None], axis=-1)[..., 0]
    return np.exp((own - np.logaddexp.reduce(scaled, axis=-1)).sum(axis=1))


def modified_entropy(log_p: np.ndarray, y: np.ndarray) -> np.ndarray:
    r"""Modified prediction entropy of Song & Mittal (2021), ``(N, L)``; low for members.

    .. math:: -(1 - p_y) \log p_y - \sum_{j \ne y} p_j \log(1 - p_j)
    """
    log_p, y = per_label(log_p, y)
    log_p = np.clip(log_p, FLOOR, 0.0)
    complement = -np.expm1(log_p)  # 1 - p, exact where p is close to 1
    log_complement = np.log(np.maximum(complement, np.exp(FLOOR)))
    own = np.arange(log_p.shape[-1]) == y[..., None]
    return -np.where(own, complement * log_p, np.exp(log_p) * log_complement).sum(axis=-1)


def augmented(x: np.ndarray, queries: str) -> Iterator[np.ndarray]:
    """The records as the attacker sends them, one array at a time, the records themselves first.

    "identity": 1; "flip": with the mirror image, 2; "all": both under 9 shifts (a sixteenth of
    each side, edges repeated), 18. A table has "identity" alone.
    """
    if x.ndim != 4 or queries == "identity":
        yield x
        return
    height, width = (max(1, side // 16) for side in x.shape[2:])
    steps = (0,) if queries == "flip" else (0, -1, 1)
    for down, right in itertools.product(steps, steps):
        moved = _shift(_shift(x, down * height, axis=2), right * width, axis=3)
        yield moved
        yield np.ascontiguousarray(moved[..., ::-1])


def _shift(x: np.ndarray, by: int, *, axis: int) -> np.ndarray:
    if by == 0:
        return x
    return np.take(x, np.clip(np.arange(x.shape[axis]) - by, 0, x.shape[axis] - 1), axis=axis)


def relative_rank(x: np.ndarray, z: np.ndarray, *, gamma: float) -> np.ndarray:
    r"""Share of `z` that each `x` dominates, ``(N,)``: :math:`\Pr_z[x / z \ge \gamma]`.

    Ties count as dominated, and so does :math:`0 / 0`. One sort instead of ``N * M`` comparisons.
    """
    return np.searchsorted(np.sort(gamma * z), x, side="right") / len(z)


def best_threshold(values: np.ndarray, member: np.ndarray) -> float | None:
    """Threshold `t` such that `values <= t` tells members best, by TPR - FPR.

    Midway between neighbouring values; None where either group is empty.
    """
    n_member, n = int(member.sum()), len(member)
    if n_member in (0, n):
        return None
    order = np.argsort(values, kind="stable")
    values, member = values[order], member[order]
    gain = np.cumsum(member) / n_member - np.cumsum(~member) / (n - n_member)
    last = np.append(values[1:] > values[:-1], True)  # ties are taken whole
    at = int(np.argmax(np.where(last, gain, -np.inf)))
    return float(values[at : at + 2].astype(np.float64).mean())

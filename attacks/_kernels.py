"""Pure functions of scores that attacks share.

Shapes: ``N`` records, ``L`` labels, ``C`` outcomes per label. A multi-class task is one label with
``C`` outcomes, a multi-label task is ``L`` labels with two, so every kernel returns ``(N, L)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

FLOOR = -100.0
"""Log-probability that stands for zero where the release never rounds: far below float32's reach."""

BLOCK = 2**14
"""Numbers that a kernel works on at a time."""

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
    return np.maximum(_outcome(log_p, y), floor)


def logit_score(log_p: np.ndarray, y: np.ndarray, *, floor: float = FLOOR) -> np.ndarray:
    r"""Logit of the true outcome against all others, float64 ``(N, L)``, always finite.

    .. math:: \phi(x, y) = \log p_y - \log \sum_{j \ne y} p_j

    with each :math:`\log p_j` no smaller than `floor`.
    """
    return _blockwise(_logit_score, log_p, y, floor)


def _logit_score(log_p: np.ndarray, y: np.ndarray, floor: float) -> np.ndarray:
    log_p, y = per_label(log_p, y)
    log_p = np.maximum(log_p, floor)
    if log_p.shape[-1] == 2:
        return (log_p[..., 1] - log_p[..., 0]) * (2 * y - 1)
    own = np.arange(log_p.shape[-1]) == y[..., None]
    return _outcome(log_p, y) - _log_sum(np.where(own, -np.inf, log_p))


def tempered_log_probability(log_p: np.ndarray, y: np.ndarray, *, temperature: float) -> np.ndarray:
    r"""Log-probability of the true outcome at `temperature`, ``(N,)``; multi-label: the sum.

    .. math:: \log p_T(y | x) = \tfrac1T \log p_y - \log \sum_j p_j^{1/T}
    """
    return _blockwise(_tempered_log_probability, log_p, y, temperature)


def _tempered_log_probability(log_p: np.ndarray, y: np.ndarray, temperature: float) -> np.ndarray:
    log_p, y = per_label(np.maximum(log_p, FLOOR), y)
    scaled = log_p / temperature
    return (_outcome(scaled, y) - _log_sum(scaled)).sum(axis=1)


def tempered_probability(log_p: np.ndarray, y: np.ndarray, *, temperature: float) -> np.ndarray:
    r"""Probability of the true outcome at `temperature`, ``(N,)``; multi-label: the product.

    .. math:: p_T(y | x) = \frac{p_y^{1/T}}{\sum_j p_j^{1/T}}
    """
    return np.exp(tempered_log_probability(log_p, y, temperature=temperature))


def _blockwise(
    kernel: Callable[..., np.ndarray], log_p: np.ndarray, y: np.ndarray, *rest: float
) -> np.ndarray:
    """``kernel(log_p, y, *rest)`` over blocks of records, whose arrays stay in the processor's cache.

    Arrays of all records are handed back to the system after each step, and asked for again.
    """
    log_p = np.asarray(log_p)  # slices of a memory map are slow to make
    rows = max(1, BLOCK * len(y) // max(1, log_p.size))
    if rows >= len(y):
        return kernel(log_p, y, *rest)
    starts = range(0, len(y), rows)
    return np.concatenate([kernel(log_p[i : i + rows], y[i : i + rows], *rest) for i in starts])


def _outcome(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``(N, L, C)`` at outcomes ``(N, L)``."""
    rows = np.arange(y.size) * values.shape[-1]
    return values.reshape(-1).take(rows + y.reshape(-1)).reshape(y.shape)


def _log_sum(values: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of exponentials over the last axis, of which at most one is -inf.

    Outcome by outcome, in vectorised functions: within a rounding of ``logaddexp.reduce``, which
    calls the scalar ones in an inner loop as short as the row.
    """
    total = values[..., 0]
    for outcome in range(1, values.shape[-1]):
        other = values[..., outcome]
        total = np.maximum(total, other) + np.log1p(np.exp(-np.abs(total - other)))
    return total


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


def tail_score(
    above: np.ndarray, ties: np.ndarray, n: np.ndarray, deviate: np.ndarray
) -> np.ndarray:
    r"""Minus the log of the smoothed share of reference values that are no smaller; high is rare.

    .. math:: -\log \frac{\#\{r > x\} + \tfrac12 \#\{r = x\} + 1 - \Phi(t)}{n + 1}

    A normal distribution counts as one more reference value. It moves a score by less than one rank,
    orders what lies between two neighbours or beyond the last, and keeps its digits there.

    Args:
        above, ties, n: counts of larger, equal and all reference values.
        deviate: t, the standardised x under the normal distribution.
    """
    from scipy.special import log_ndtr

    with np.errstate(divide="ignore"):
        counted = np.log(above + ties / 2)
    return np.log(n + 1.0) - np.logaddexp(counted, log_ndtr(-deviate))


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

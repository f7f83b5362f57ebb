"""Pure functions of scores that tasks and attacks share.

Shapes: ``N`` records, ``L`` questions that a record answers, ``C`` outcomes of each. One class is one
question with ``C`` outcomes, ``L`` labels are as many questions with two, a mask is one a pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FLOOR = -100.0
"""Log-probability that stands for zero where the release never rounds: far below float32's reach."""

BLOCK = 2**14
"""Numbers that a kernel works on at a time."""


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


def blockwise(
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


def of_outcome(values: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``(N, L, C)`` at outcomes ``(N, L)``."""
    rows = np.arange(y.size) * values.shape[-1]
    return values.reshape(-1).take(rows + y.reshape(-1)).reshape(y.shape)


def log_sum(values: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of exponentials over the last axis, of which at most one is -inf.

    Outcome by outcome, in vectorised functions: within a rounding of ``logaddexp.reduce``, which
    calls the scalar ones in an inner loop as short as the row.
    """
    total = values[..., 0]
    for outcome in range(1, values.shape[-1]):
        other = values[..., outcome]
        total = np.maximum(total, other) + np.log1p(np.exp(-np.abs(total - other)))
    return total


def logits(log_p: np.ndarray, y: np.ndarray, floor: float) -> np.ndarray:
    """Logit of each true outcome against all others, ``(N, L)``, always finite."""
    log_p = np.maximum(log_p, floor)
    if log_p.shape[-1] == 2:
        return (log_p[..., 1] - log_p[..., 0]) * (2 * y - 1)
    own = np.arange(log_p.shape[-1]) == y[..., None]
    return of_outcome(log_p, y) - log_sum(np.where(own, -np.inf, log_p))


def tempered(log_p: np.ndarray, y: np.ndarray, temperature: float) -> np.ndarray:
    """Log-probability of each true outcome in a softmax at `temperature`, ``(N, L)``."""
    scaled = log_p / temperature
    return of_outcome(scaled, y) - log_sum(scaled)


def entropies(log_p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Modified prediction entropy of each question, ``(N, L)``."""
    log_p = np.clip(log_p, FLOOR, 0.0)
    complement = -np.expm1(log_p)  # 1 - p, exact where p is close to 1
    log_complement = np.log(np.maximum(complement, np.exp(FLOOR)))
    own = np.arange(log_p.shape[-1]) == y[..., None]
    return -np.where(own, complement * log_p, np.exp(log_p) * log_complement).sum(axis=-1)


def softmax_log(logits: np.ndarray, axis: int) -> np.ndarray:
    """Float64 log-softmax of `logits` over `axis`."""
    z = logits.astype(np.float64)
    z -= z.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))

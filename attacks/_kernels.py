"""Pure functions that attacks share: queries, ranks, thresholds. Those of scores are in `medleak.api.Task`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

QUERIES = ("identity", "flip", "all")


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

"""Integers for the Skellam mechanism: rounding, exact noise, and its price.

(Agarwal, Kairouz, Liu 2021, The Skellam Mechanism for Differentially Private Federated Learning.)
"""

from __future__ import annotations

import bisect
import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from medleak.api import MedleakError

ORDERS = (*range(2, 129), 160, 192, 256, 384, 512, 1024, 2048, 4096)
"""Rényi orders tried; the theorem holds for whole ones."""

MOST_VARIANCE = 2.0**34
"""Beyond it, tables of the noise take seconds and hundreds of megabytes."""

_WORD = 64
_START = 1 << 128
_TRIES = 50


class Skellam:
    """Draws of the difference of two Poisson variables of mean ``variance / 2`` each.

    ``P(k) = e^-v I_k(v)``, v the variance, I_k modified Bessel functions. A draw compares 128 uniform
    bits with a table of the distribution, made and compared in integers throughout: it is within a
    total variation of 2^-100 of the exact one, and no floating point enters. Sums of independent draws
    are Skellam again, their variances added.

    Args:
        variance: 0 (always zero) to `MOST_VARIANCE`.
    """

    def __init__(self, variance: float):
        self.variance = float(variance)
        self._edges, self._high = _table(self.variance)

    @property
    def most(self) -> int:
        """The largest absolute value that is ever drawn."""
        return len(self._edges) // 2

    def draw(self, size: int, rng: np.random.Generator) -> np.ndarray:
        """``(size,)`` int64."""
        return self.placed(rng.integers(2**_WORD, size=size, dtype=np.uint64), rng) - self.most

    def placed(self, high: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Index of each value in the table, by the `high` words; the low ones are drawn where needed."""
        found = np.searchsorted(self._high, high, side="left")
        inside = found < len(self._high)
        undecided = np.flatnonzero(inside)[self._high[found[inside]] == high[inside]]
        for i in undecided:
            low = int(rng.integers(2**_WORD, dtype=np.uint64))
            found[i] = bisect.bisect_right(self._edges, (int(high[i]) << _WORD) | low)
        return found


def rounded(values: np.ndarray, bound: float, rng: np.random.Generator) -> np.ndarray:
    """`values` rounded up or down at random, without bias, again until the norm is at most `bound`.

    After 50 tries, towards zero: the norm then cannot exceed that of `values`. ``(P,)`` int64.
    """
    below = np.floor(values)
    share = values - below
    for _ in range(_TRIES):
        drawn = below + (rng.random(len(values)) < share)
        if drawn @ drawn <= bound**2:
            return drawn.astype(np.int64)
    return np.trunc(values).astype(np.int64)


def radius(bound: float, length: int) -> float:
    """The norm r of reals ``(length,)`` that come out at `bound` or below when `rounded`.

    ``r^2 + length / 4 + (r + sqrt(length) / 2) = bound^2``: a try succeeds with probability of at
    least ``1 - e^-1/2`` (Kairouz, Liu, Steinke 2021, The Distributed Discrete Gaussian Mechanism).

    Raises:
        MedleakError: rounding alone exceeds the bound.
    """
    rest = bound**2 - length / 4 - math.sqrt(length) / 2
    if rest <= 0:
        raise MedleakError(
            f"{bound:g} levels are too few for {length} parameters: "
            f"more than {math.ceil(math.sqrt(length) / 2 + 1)} are needed"
        )
    return (math.sqrt(1 + 4 * rest) - 1) / 2


def epsilon_of(variance: float, norm: float, delta: float, steps: int) -> float:
    """Epsilon of `steps` sums of integer vectors plus Skellam noise of `variance` in each entry.

    One step has, at a whole order a, the Rényi divergence (theorem 3.5)
    ``a D^2 / (2 v) + min(((2 a - 1) D^2 + 6 D_1) / (4 v^2), 3 D_1 / (2 v))``, with v the variance, D
    the `norm` by which neighbours differ, and ``D_1 <= D^2`` their difference in L1: they are integers.
    """
    from dp_accounting.rdp.rdp_privacy_accountant import compute_epsilon

    orders = np.array(ORDERS, dtype=float)
    l2, l1 = norm**2, norm**2
    step = orders * l2 / (2 * variance)
    step += np.minimum(
        ((2 * orders - 1) * l2 + 6 * l1) / (4 * variance**2), 3 * l1 / (2 * variance)
    )
    return float(compute_epsilon(orders, steps * step, delta)[0])


@functools.lru_cache(maxsize=4)
def _table(variance: float) -> tuple[Sequence[int], np.ndarray]:
    """``floor(2^128 P(X <= k))`` for k from ``-M`` to ``M - 1``, where ``P(|X| > M) < 2^-128``, and
    the upper halves of these numbers.

    Miller's recurrence ``I_(k-1) = I_(k+1) + (2 k / v) I_k`` downwards, in integers; the sum of all
    values is what probabilities are divided by.

    Raises:
        MedleakError: a variance that is out of range.
    """
    if not 0 <= variance <= MOST_VARIANCE:
        raise MedleakError(
            f"the noise has variance {variance:.4g} in units of the grid, which must be at most "
            f"{MOST_VARIANCE:.4g}: fewer levels are needed"
        )
    if variance == 0:
        return (), np.zeros(0, dtype=np.uint64)
    v, most = Fraction(variance), math.ceil(14 * math.sqrt(variance) + 60)
    masses = [0] * (most + 1)
    above, here = 0, _START
    for k in range(most, 0, -1):
        masses[k] = here
        above, here = here, above + 2 * k * v.denominator * here // v.numerator
    masses[0] = here
    total = masses[0] + 2 * sum(masses[1:])
    edges, passed = [], 0
    for k in range(-most, most):
        passed += masses[abs(k)]
        edges.append((passed << 2 * _WORD) // total)
    return edges, np.array([edge >> _WORD for edge in edges], dtype=np.uint64)

"""Running moments of the answers of shadows trained with and without each record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medleak.api.scores import BLOCK


@dataclass(frozen=True)
class Moments:
    """Moments over the shadows with, or without, each record.

    Attributes:
        n: how many there are, ``(N,)`` with axes of length 1 for those of `mean` that follow.
        mean: mean per entry; the origin where there are none.
        residual_squares: sum of squared deviations from the mean, per entry.
    """

    n: np.ndarray
    mean: np.ndarray
    residual_squares: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """One after the other along the records."""
        names = ("n", "mean", "residual_squares")
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


class InOutMoments:
    """Moments of IN and of OUT shadows, in memory flat in the number of shadows.

    Both sides are added in one pass over blocks of records that stay in the processor's cache:
    with many records memory is what takes the time.

    Args:
        origin: values ``(N, ...)`` close to those to come: deviations from them are summed, so that no
            digits are lost.
    """

    def __init__(self, origin: np.ndarray):
        self._origin = origin
        self._n = np.zeros((2, *origin.shape[:1], *[1] * (origin.ndim - 1)), dtype=np.int64)
        self._sum = np.zeros((2, *origin.shape))
        self._squares = np.zeros((2, *origin.shape))

    def add(self, values: np.ndarray, member: np.ndarray) -> None:
        """Count a shadow's finite `values` ``(N, ...)``, IN where `member` ``(N,)`` holds."""
        member = member.reshape(self._n.shape[1:])
        self._n += np.stack([member, ~member])
        step = max(1, BLOCK * len(member) // max(1, values.size))
        for start in range(0, len(member), step):
            rows = slice(start, start + step)
            outside = values[rows] - self._origin[rows]
            inside = outside * member[rows]
            outside -= inside
            for side, deviation in enumerate((inside, outside)):
                self._sum[side, rows] += deviation
                deviation *= deviation
                self._squares[side, rows] += deviation

    @property
    def inside(self) -> Moments:
        """The shadows that were trained on the record."""
        return self._side(0)

    @property
    def outside(self) -> Moments:
        """The shadows that were not."""
        return self._side(1)

    def _side(self, side: int) -> Moments:
        n, total, least = self._n[side], self._sum[side], np.maximum(self._n[side], 1)
        residual = np.maximum(self._squares[side] - total**2 / least, 0.0)
        return Moments(n, self._origin + total / least, residual)

"""Real numbers as integers modulo 2^bits, so that masks hide them perfectly and sums stay exact."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WIDTHS = (32, 64)


class FixedPoint(NamedTuple):
    """Whole multiples of `step` from ``-limit`` to ``limit``, of which `summands` fit into `bits` bits.

    ``L = floor((2^(bits - 1) - 1) / summands)`` steps are a `limit`: a sum of at most `summands` codes
    lies within ``+-summands L < 2^(bits - 1)``, so that it cannot overflow. Values are rounded to the
    nearest step, by at most ``limit / (2 L)``; a sum of m of them is off by at most ``m limit / (2 L)``,
    about ``m summands limit / 2^bits`` (10 of 10 clients at 32 bits: 2.4e-8 of the limit). At 64 bits
    the rounding of float64 is larger than that.
    """

    limit: float
    bits: int
    summands: int

    @property
    def steps(self) -> int:
        """L, the number of steps in `limit`."""
        return (2 ** (self.bits - 1) - 1) // self.summands

    @property
    def step(self) -> float:
        return self.limit / self.steps

    @property
    def error(self) -> float:
        """Largest error of one value; of a sum, that many times its summands."""
        return self.step / 2

    def encode(self, values: np.ndarray) -> np.ndarray:
        """``(P,)`` reals, clipped to the limit, as unsigned integers ``(P,)``."""
        inside = np.clip(values, -self.limit, self.limit)
        # Where float64 has fewer digits than L, the limit itself may round to above it.
        codes = np.clip(np.rint(inside / self.step).astype(np.int64), -self.steps, self.steps)
        return codes.astype(unsigned(self.bits))

    def decode(self, total: np.ndarray) -> np.ndarray:
        """A sum of codes, modulo 2^bits, as float64 ``(P,)``."""
        return signed(total).astype(np.float64) * self.step


def unsigned(bits: int) -> np.dtype:
    """The little-endian unsigned type of `bits` bits: its sums are modulo 2^bits."""
    return np.dtype(f"<u{bits // 8}")


def signed(values: np.ndarray) -> np.ndarray:
    """The same residues read as numbers from ``-2^(bits - 1)``."""
    return values.view(f"<i{values.dtype.itemsize}")

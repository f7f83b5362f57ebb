"""Quantisation: each entry is sent with a few bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import UpdateDefense
from medleak.defenses.train._recipes import whole


class Quantise(UpdateDefense):
    """Rounds each array to whole multiples of ``max |g| / (2^(bits - 1) - 1)``.

    At random, ``floor(g / step + u)`` with u uniform in 0..1, so that the mean is g; or to the nearest.
    NO guarantee: an attack that allows for half a step matches what is sent.

    Args:
        bits: an entry's width with its sign, 2 to 16; two give -max, 0, max.
        stochastic: whether to round at random.

    Paper: Alistarh et al., QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding,
    NeurIPS 2017 (here with the maximum in place of the norm).
    """

    slot = "update"
    version = 1
    paper = "Alistarh et al., QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding, NeurIPS 2017"

    def __init__(self, *, bits: int = 4, stochastic: bool = True):
        self.bits = bits
        self.stochastic = stochastic

    def invalid_parameters(self) -> list[str]:
        found = []
        if not (whole(self.bits, 2) and self.bits <= 16):
            found.append(f"bits must be a whole number from 2 to 16, not {self.bits!r}")
        if not isinstance(self.stochastic, bool):
            found.append(f"stochastic must be true or false, not {self.stochastic!r}")
        return found

    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        return {name: self._coarse(array, rng) for name, array in update.items()}

    def _coarse(self, array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        most = 2 ** (self.bits - 1) - 1
        top = float(np.abs(array).max(initial=0))
        if not top:
            return array.copy()
        step = top / most
        codes = array.astype(np.float64) / step
        codes = np.floor(codes + rng.random(array.shape)) if self.stochastic else np.rint(codes)
        return (np.clip(codes, -most, most) * step).astype(array.dtype)

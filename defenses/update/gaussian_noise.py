"""Gaussian noise on an update, without clipping and without accounting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import UpdateDefense
from medleak.defenses.train._recipes import number


class NoiseUpdate(UpdateDefense):
    """Adds ``N(0, std^2)`` to every entry of an update.

    NO guarantee: nothing bounds what one record adds to the update, so that no noise is large enough,
    and nothing is accounted. It is what much of the literature on gradient inversion calls differential
    privacy; `DPSGD`, `CentralDP` and `DistributedDP` are that.

    Args:
        std: standard deviation in units of the update, which is a mean gradient; 0 changes nothing.

    Paper: Zhu, Liu, Han, Deep Leakage from Gradients, NeurIPS 2019 (section 5).
    """

    slot = "update"
    version = 1
    paper = "Zhu, Liu, Han, Deep Leakage from Gradients, NeurIPS 2019"

    def __init__(self, *, std: float = 0.01):
        self.std = std

    def invalid_parameters(self) -> list[str]:
        good = number(self.std) and self.std >= 0
        return [] if good else [f"std {self.std!r} must be a finite number of at least 0"]

    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        return {
            name: (array + self.std * rng.standard_normal(array.shape)).astype(array.dtype)
            for name, array in update.items()
        }

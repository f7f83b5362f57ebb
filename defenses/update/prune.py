"""Gradient pruning: only the larger entries of each array are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import UpdateDefense
from medleak.defenses.train._recipes import number


class Prune(UpdateDefense):
    """Sets the smallest entries of each array to zero: ``floor(fraction n)`` of its n, by magnitude.

    What is pruned is lost, not kept for the next round. NO guarantee: what is left is exact, and an
    attack that matches only what is left (mask-aware) loses little.

    Args:
        fraction: of each array that is set to zero, 0 to below 1; 0 changes nothing.

    Paper: Zhu, Liu, Han, Deep Leakage from Gradients, NeurIPS 2019 (section 5, after Lin et al.).
    """

    slot = "update"
    version = 1
    paper = "Zhu, Liu, Han, Deep Leakage from Gradients, NeurIPS 2019"

    def __init__(self, *, fraction: float = 0.9):
        self.fraction = fraction

    def invalid_parameters(self) -> list[str]:
        good = number(self.fraction) and 0 <= self.fraction < 1
        return [] if good else [f"fraction {self.fraction!r} must be from 0 to below 1"]

    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        return {
            name: without_smallest(array, int(self.fraction * array.size))
            for name, array in update.items()
        }


def without_smallest(array: np.ndarray, count: int) -> np.ndarray:
    """A copy of `array` with its `count` smallest entries, by magnitude, set to zero."""
    pruned = array.copy()
    if count:
        smallest = np.argpartition(np.abs(array), count - 1, axis=None)[:count]
        pruned.reshape(-1)[smallest] = 0
    return pruned

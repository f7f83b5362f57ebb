"""Top-k sparsification: of the whole update only the largest entries are sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import UpdateDefense
from medleak.defenses.train._recipes import number
from medleak.defenses.update.prune import without_smallest


class TopK(UpdateDefense):
    """Keeps the ``ceil(keep P)`` largest of all P entries, by magnitude, and sets the rest to zero.

    Unlike `Prune` it ranks the entries of all arrays together, so that an array of small entries may
    vanish altogether. What is left out is lost, not kept for the next round. NO guarantee: what is sent
    is exact.

    Args:
        keep: share of all entries that is sent, above 0 to 1; 1 changes nothing.

    Paper: Aji, Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017.
    """

    slot = "update"
    version = 1
    paper = "Aji, Heafield, Sparse Communication for Distributed Gradient Descent, EMNLP 2017"

    def __init__(self, *, keep: float = 0.1):
        self.keep = keep

    def invalid_parameters(self) -> list[str]:
        good = number(self.keep) and 0 < self.keep <= 1
        return [] if good else [f"keep {self.keep!r} must be above 0 and at most 1"]

    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        flat = np.concatenate([array.reshape(-1) for array in update.values()])
        sparse = without_smallest(flat, len(flat) - math.ceil(self.keep * len(flat)))
        ends = np.cumsum([array.size for array in update.values()])
        parts = np.split(sparse, ends[:-1])
        return {
            name: part.reshape(array.shape).astype(array.dtype, copy=False)
            for (name, array), part in zip(update.items(), parts, strict=True)
        }

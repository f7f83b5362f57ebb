"""Plugin title: say here what it protects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import UpdateDefense


class PluginName(UpdateDefense):
    """Cuts each entry of a client's update to ``-most..most``.

    Args:
        most: in units of the update, which is a mean gradient.
    """

    slot = "update"

    def __init__(self, *, most: float = 0.01):
        self.most = most

    def invalid_parameters(self) -> list[str]:
        return [] if self.most > 0 else [f"most {self.most}: above 0 is needed"]

    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        return {name: np.clip(array, -self.most, self.most) for name, array in update.items()}

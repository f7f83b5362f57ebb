"""Plugin title: say here what is new about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn


class PluginName(nn.Module):
    """One hidden layer. Any ``nn.Module`` that takes `in_shape` and `n_outputs` will do.

    Shapes: ``(N, *in_shape)`` -> ``(N, n_outputs)``.
    """

    def __init__(self, *, in_shape: Sequence[int], n_outputs: int, hidden: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(in_shape), hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

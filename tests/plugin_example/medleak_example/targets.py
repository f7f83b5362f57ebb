"""An architecture: any ``nn.Module`` that takes `in_shape` and `n_outputs`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class PooledNet(nn.Module):
    """Average pooling to a ``grid x grid`` thumbnail, then one hidden layer.

    Shapes: ``(N, C, H, W)`` -> ``(N, n_outputs)``.
    """

    def __init__(self, *, in_shape: Sequence[int], n_outputs: int, grid: int = 7, hidden: int = 32):
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(),
            nn.Linear(in_shape[0] * grid * grid, hidden),
            nn.ReLU(),
            nn.Linear(hidden, n_outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

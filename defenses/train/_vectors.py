"""Updates as named arrays, and as the one vector in which they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the arrays of an update, in the order in which they are sent."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, update: Mapping[str, np.ndarray]) -> Layout:
        return cls(tuple(update), tuple(array.shape for array in update.values()))

    def vector(self, update: Mapping[str, np.ndarray]) -> np.ndarray:
        """The arrays one after the other, ``(P,)`` float64."""
        return np.concatenate([np.asarray(update[n], dtype=np.float64).ravel() for n in self.names])

    def arrays(self, vector: np.ndarray, dtype: type = np.float32) -> dict[str, np.ndarray]:
        """The inverse of `vector`, of that type."""
        sizes = [int(np.prod(shape)) for shape in self.shapes]
        parts = np.split(vector, np.cumsum(sizes)[:-1])
        return {
            name: part.reshape(shape).astype(dtype)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }


def arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copies of tensors as NumPy arrays."""
    return {name: t.detach().cpu().numpy().copy() for name, t in tensors.items()}


def parameters(module: nn.Module) -> dict[str, np.ndarray]:
    """Name -> copy of each parameter of a module."""
    return arrays(dict(module.named_parameters()))

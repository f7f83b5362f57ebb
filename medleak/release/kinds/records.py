"""A released set of records: synthetic, or de-identified."""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api import ArtefactKind, Comparison, Deferred, Records
from medleak.api.data import pixels

MOST_COMPARED = 500
"""Evaluation records whose nearest neighbour is looked for in the replica check."""
MOST_PIXELS = 4096
"""Of larger images, evenly spaced pixels are compared."""
GROUP = "group/"


class RecordSet(ArtefactKind):
    """Images, labels, patients (-1 where a record is of nobody) and subgroup columns."""

    name = "records"
    views = ("records",)
    version = 1

    def arrays(self, content: Records) -> dict[str, np.ndarray]:
        """Strings as code points ``(N, L)``: the store keeps numbers only."""
        found = {"x": content.x, "y": content.y, "patients": content.patients}
        return found | {GROUP + n: _code_points(v) for n, v in content.groups.items()}

    def open(self, run: Any) -> dict[str, Any]:
        return {"records": Deferred(lambda: read(run.arrays(self.name)))}

    def comparison(self, run: Any, x: np.ndarray, y: np.ndarray) -> Comparison:
        """How far each evaluation record is from the nearest released one, and how many there are."""
        released = read(run.arrays(self.name))
        return Comparison(nearest(x[:MOST_COMPARED], released.x), size=len(released))


def read(arrays: dict[str, np.ndarray]) -> Records:
    """The set that `RecordSet.arrays` stored."""
    groups = {n.removeprefix(GROUP): a for n, a in arrays.items() if n.startswith(GROUP)}
    names = {name: _strings(points) for name, points in groups.items()}
    return Records(arrays["x"], arrays["y"], arrays["patients"], names)


def nearest(x: np.ndarray, released: np.ndarray) -> np.ndarray:
    """Euclidean distance per pixel from each of `x` ``(N, ...)`` to the nearest `released`, ``(N,)``."""
    if not len(released) or not len(x):
        return np.zeros(0)
    one, other = _vectors(x), _vectors(released)
    squared = (one**2).sum(1)[:, None] - 2 * one @ other.T + (other**2).sum(1)
    return np.sqrt(np.maximum(squared.min(axis=1), 0) / one.shape[1])


def _vectors(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(len(x), -1)
    return pixels(flat[:, :: -(-flat.shape[1] // MOST_PIXELS)])


def _code_points(values: np.ndarray) -> np.ndarray:
    text = np.ascontiguousarray(np.asarray(values).astype(str))
    return text.view(np.uint32).reshape(len(text), text.dtype.itemsize // 4)


def _strings(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(points).view(f"<U{points.shape[1]}").reshape(len(points))

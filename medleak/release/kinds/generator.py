"""A released generator: its parameters, and what can be drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from medleak.api import ArtefactKind, Comparison, Deferred, Generator
from medleak.release.kinds.records import MOST_COMPARED, nearest

DRAWN = 500
"""Records that are drawn from a generator to compare it with its shadows'."""
SEED = 0


class RecordGenerator(ArtefactKind):
    """A generator that a stage of slot `records` made; the stage's `draw` says how it is drawn from."""

    name = "generator"
    views = ("generator",)
    version = 1

    def arrays(self, content: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(content)

    def open(self, run: Any) -> dict[str, Any]:
        return {"generator": Deferred(lambda: self._opened(run))}

    def comparison(self, run: Any, x: np.ndarray, y: np.ndarray) -> Comparison:
        """How far each evaluation record is from the nearest of some that are drawn."""
        drawn = self._opened(run).draw(DRAWN, SEED)
        return Comparison(nearest(x[:MOST_COMPARED], drawn.x))

    def _opened(self, run: Any) -> Generator:
        parameters = run.arrays(self.name)
        return Generator(parameters, partial(run.draw, parameters))

"""A trained network that is asked for classes."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import ArtefactKind, Comparison, task_of

MOST_SCORES = 2000
"""About as many scores of a model are compared in the replica check."""


class Classifier(ArtefactKind):
    """A network with log-probabilities, classes and parameters."""

    name = "classifier"
    views = ("labels", "scores", "weights")
    fitted = True
    version = 1

    def arrays(self, content: Any) -> dict[str, np.ndarray]:
        """The state of the ``nn.Module``."""
        return {n: t.detach().cpu().numpy() for n, t in content.state_dict().items()}

    def open(self, run: Any) -> dict[str, Any]:
        network, task = run.model(), task_of(run.experiment.problem.task)

        def scores(x: np.ndarray) -> np.ndarray:
            return task.log_probabilities(network.logits(x))

        def labels(x: np.ndarray) -> np.ndarray:
            return task.predictions(scores(x))

        return {"scores": scores, "labels": labels, "weights": _Lazy(network.arrays)}

    def comparison(self, run: Any, x: np.ndarray, y: np.ndarray) -> Comparison:
        """Accuracy, whether all answers are one class, and the log-odds."""
        task = task_of(run.experiment.problem.task)
        scores = task.log_probabilities(run.model().logits(x))
        labels, spread = task.predictions(scores), task.spread(scores)
        facts = {"accuracy": float((labels == y).mean()), "collapsed": task.collapsed(labels)}
        return Comparison(spread[:: max(1, len(spread) // MOST_SCORES)], facts=facts)


class _Lazy(Mapping):
    """A mapping that is loaded when it is first looked at."""

    def __init__(self, load: Any):
        self._load = load

    @functools.cached_property
    def _items(self) -> dict[str, np.ndarray]:
        return self._load()

    def __getitem__(self, name: str) -> np.ndarray:
        return self._items[name]

    def __iter__(self):
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

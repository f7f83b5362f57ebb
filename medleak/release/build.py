"""What a stored run answers, and what of it an adversary may observe."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import ClientPolicy, Release, task_of
from medleak.core.store import Store
from medleak.training.observations import ObservationLog
from medleak.training.pipeline import DefensePipeline
from medleak.training.run_spec import RunSpec
from medleak.training.stored_model import StoredModel


def release_of(
    spec: RunSpec, slots: DefensePipeline, store: Store, *, device: str = "cpu"
) -> Release:
    """What the adversary may observe of a stored run, under the release and serve slots."""
    network = StoredModel(spec, store, device)
    task = task_of(spec.experiment.problem.task)

    def scores(x: np.ndarray) -> np.ndarray:
        return task.log_probabilities(network.logits(x))

    def labels(x: np.ndarray) -> np.ndarray:
        return task.predictions(scores(x))

    views = {"scores": scores, "labels": labels, "weights": _Lazy(network.arrays)}
    open_to = slots.views()
    client_observes = isinstance(spec.adversary, ClientPolicy)
    if client_observes or not open_to["aggregate"]:
        views["aggregate"] = ObservationLog(store, spec.key).messages
    if not client_observes and not open_to["updates"]:
        views["updates"] = ObservationLog(store, spec.key).messages
    if spec.adversary and spec.adversary.exposes:
        views |= spec.adversary.seen(store.facts("runs", spec.key)[0])
    apart = {"updates": "a client sees sums"} if client_observes else {}
    hidden = {name: why for name, why in (open_to | apart).items() if name not in views}
    return slots.release(Release(views, hidden=hidden), spec.experiment.problem)


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

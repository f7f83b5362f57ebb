"""One stored run, as the kinds of artefact open it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import MedleakError, Records
from medleak.core.store import Store
from medleak.data.experiment import ExperimentData
from medleak.training.artefacts import unpacked
from medleak.training.observations import Messages, ObservationLog
from medleak.training.pipeline import DefensePipeline
from medleak.training.run_spec import RunSpec
from medleak.training.stored_model import StoredModel, facts_of


@dataclass(frozen=True)
class StoredRun:
    """What `medleak.api.ArtefactKind` says that a run has."""

    spec: RunSpec
    store: Store
    device: str = "cpu"

    @property
    def experiment(self) -> ExperimentData:
        """The patients and their split."""
        return self.spec.experiment

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is stored in addition to arrays."""
        return facts_of(self.spec, self.store)

    def arrays(self, kind: str) -> dict[str, np.ndarray]:
        """Name -> array of the artefact of this kind."""
        stored = self.store.get("runs", self.spec.key)
        if stored is None:
            raise MedleakError(f"run {self.spec.key[:12]} is not in the store")
        return unpacked(stored.arrays, kind, self.spec.makes)

    def model(self) -> StoredModel:
        """The network as a function that remembers its answers."""
        return StoredModel(self.spec, self.store, self.device)

    def messages(self) -> Messages:
        """What an observer of the training saw."""
        return ObservationLog(self.store, self.spec.key).messages

    def draw(self, parameters: Mapping[str, np.ndarray], n: int, seed: int) -> Records:
        """`n` records from the generator that a stage of this run made."""
        return self._generating.draw(parameters, n, seed, problem=self.experiment.problem)

    @functools.cached_property
    def _generating(self) -> Any:
        stages = [one for one in DefensePipeline(self.spec.slots) if "generator" in one.makes]
        return stages[-1]

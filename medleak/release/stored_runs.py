"""Stored runs as a goal may open them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medleak.api import Release
from medleak.core.store import Store
from medleak.release.build import release_of
from medleak.training.observations import ObservationLog
from medleak.training.pipeline import DefensePipeline
from medleak.training.run_spec import RunSpec
from medleak.training.stored_model import StoredModel, facts_of


@dataclass(frozen=True)
class StoredRuns:
    """The runs in a store, seen through one defense, on one device."""

    store: Store
    pipeline: DefensePipeline
    device: str = "cpu"

    def release(self, run: RunSpec) -> Release:
        """What an adversary may observe of `run`."""
        return release_of(run, self.pipeline, self.store, device=self.device)

    def facts(self, run: RunSpec) -> Mapping[str, Any]:
        """What is stored of `run` in addition to its arrays."""
        return facts_of(run, self.store)

    def log(self, run: RunSpec) -> ObservationLog:
        """The observed messages of `run`, and the records behind them."""
        return ObservationLog(self.store, run.key)

    def model(self, run: RunSpec) -> StoredModel:
        """The network of `run` without any defense at its release: for evaluators."""
        return StoredModel(run, self.store, self.device)

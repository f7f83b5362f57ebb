"""The attacked messages of federated training, and the records behind them.

Reconstruction predicts the records, attribute inference the value that most of them have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import (
    MedleakError,
    ReconstructionChallenge,
    Reconstructions,
    ReconstructionTruth,
    task_of,
)
from medleak.api.data import pixels
from medleak.data.experiment import ExperimentData
from medleak.training.observations import ObservationLog

AGES = ("fresh model", "trained model")
"""Of the attacked checkpoint: the first observed rounds, and the last. Fresh models leak more."""


@dataclass(frozen=True)
class ReconstructionTask:
    """The challenge on the messages of one run, and its truth.

    Attributes:
        age: of each message, ``(T,)`` strings.
        positions: in the gallery, ``(T, B)`` int, -1 where padded.
        candidates: positions of those named to an informed adversary, ``(T, M)``, in random order.
    """

    challenge: ReconstructionChallenge
    age: np.ndarray
    positions: np.ndarray
    candidates: np.ndarray | None = None

    def part(
        self, images: np.ndarray, age: str, experiment: ExperimentData
    ) -> tuple[Reconstructions, ReconstructionTruth]:
        """What was rebuilt from the messages of one age, and what should have been."""
        mine = self.age == age
        records = experiment.challenge.records
        rebuilt = Reconstructions(
            images[mine], self.challenge.n_records[mine], pixels(records.x), records.patients
        )
        return rebuilt, ReconstructionTruth(self.positions[mine])

    def labels(self, age: str) -> list[np.ndarray] | None:
        """Labels behind the messages of one age, where the adversary is given them."""
        known = self.challenge.labels
        return None if known is None else [known[i] for i in np.flatnonzero(self.age == age)]

    def named(self, age: str, experiment: ExperimentData) -> np.ndarray | None:
        """The candidates' images of one age, ``(T, M, C, H, W)``; None where none were named."""
        if self.candidates is None:
            return None
        return pixels(experiment.challenge.records.x[self.candidates[self.age == age]])


def reconstruction_task(
    transcript: ObservationLog, experiment: ExperimentData, *, n_trials: int, labels: bool
) -> ReconstructionTask:
    """Ask about up to `n_trials` messages of each age; empty ones tell nothing and are left out.

    Args:
        labels: whether the adversary is given the labels behind each message.

    Raises:
        MedleakError: no message was observed, or none holds a record.
    """
    contents = transcript.contents
    if not contents:
        raise MedleakError("no message was observed: federated training with observe > 0 is needed")
    ages = ages_of(contents)
    indices: list[int] = []
    for age in AGES:
        full = [i for i, m in enumerate(contents) if ages[i] == age and m["n_records"]]
        indices += full[:n_trials]
    if not indices:
        raise MedleakError("every observed message is empty: its batches had no record")
    truth = [transcript.truth(i) for i in indices]
    if any((one < 0).any() for one in truth):
        raise MedleakError("a defense replaced the training records: no truth to compare with")
    counts = np.array([len(one) for one in truth])
    positions = np.full((len(truth), counts.max()), -1)
    for row, one in zip(positions, truth, strict=True):
        row[: len(one)] = one
    task = task_of(experiment.problem.task)
    known = tuple(task.in_order(experiment.challenge.y[one]) for one in truth) if labels else None
    challenge = ReconstructionChallenge(
        np.array(indices), counts, experiment.problem.in_shape, known
    )
    return ReconstructionTask(challenge, np.array([ages[i] for i in indices]), positions)


def ages_of(contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the model that each message answers; `contents` as of a `ObservationLog`."""
    middle = (contents[0]["round"] + contents[-1]["round"]) / 2
    return [AGES[message["round"] > middle] for message in contents]

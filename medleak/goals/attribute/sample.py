"""Guesses of an attribute, their truth, and the figures of a row that are measured on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import AttributeScores, AttributeTruth
from medleak.api.goal import Sample

if TYPE_CHECKING:
    from medleak.api import Estimate, Metric

IMAGE = "the image itself"
"""Not available to the adversary: shown with the baselines, but not one of them."""
HUGE = 1e100
"""Stands for infinity in a mean."""


@dataclass(frozen=True)
class AttributeSample:
    """Guesses, one for each record or patient and target, and their truth."""

    guesses: AttributeScores
    truth: AttributeTruth

    def take(self, index: np.ndarray) -> AttributeSample:
        """Those at `index`."""
        guesses = AttributeScores(self.guesses.scores[index], self.guesses.patients[index])
        return AttributeSample(guesses, AttributeTruth(self.truth.value[index]))


@dataclass(frozen=True)
class AskedRecords:
    """The challenge records: the true value and the patient of each, ``(N,)``.

    With `joint` a patient's records, which all have one value, are scored by the mean over them: one
    guess a patient.
    """

    value: np.ndarray
    patients: np.ndarray
    joint: bool

    @property
    def first(self) -> np.ndarray:
        """Positions of the records that stand for what is guessed."""
        if not self.joint:
            return np.arange(len(self.value))
        return np.unique(self.patients, return_index=True)[1]

    def of(self, scores: Sequence[np.ndarray]) -> AttributeSample:
        """The guesses for each target, concatenated."""
        n, first = len(scores), self.first
        joined = np.concatenate([self._joined(one) for one in scores])
        truth = AttributeTruth(np.tile(self.value[first], n))
        return AttributeSample(AttributeScores(joined, np.tile(self.patients[first], n)), truth)

    def _joined(self, scores: np.ndarray) -> np.ndarray:
        if not self.joint:
            return scores
        inverse, counts = np.unique(self.patients, return_inverse=True, return_counts=True)[1:]
        total = np.zeros((len(counts), scores.shape[1]))
        np.add.at(total, inverse, np.clip(scores, -HUGE, HUGE))
        return total / counts[:, None]


def sample_of(
    scored: AttributeSample,
    guesses: Mapping[str, AttributeSample],
    *,
    records: str,
    unit: str,
    asked: Mapping[str, Any],
    more: Callable[[Mapping[str, Metric]], Mapping[str, Estimate]] | None = None,
) -> Sample:
    """The sample of a row; `guesses` are made without the model.

    No bound: a promise about who was in training says nothing of what is true of everybody.
    """
    answers = {name: one.guesses for name, one in guesses.items()}
    return Sample(
        records=records,
        unit=unit,
        answer=scored.guesses,
        truth=scored.truth,
        baselines={name: one for name, one in answers.items() if name != IMAGE},
        shown={name: one for name, one in answers.items() if name == IMAGE},
        more=more,
        controls={"asked": dict(asked)},
    )


def added(
    metrics: Mapping[str, Metric], *, members: AttributeSample, others: AttributeSample
) -> dict[str, Estimate]:
    """``<metric>_added`` -> how much higher it is on members than on non-members."""
    from medleak.metrics.attribute import training_added

    sides = [(one.guesses, one.truth) for one in (members, others)]
    return {f"{name}_added": training_added(metric, *sides) for name, metric in metrics.items()}

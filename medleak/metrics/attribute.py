"""Attribute metrics: how well a hidden column is predicted, and how much of that the model adds.

The figure alone says little: sex correlates with the diagnosis, so one predicts the other. Compare it
with the best guess without the model; `excess` is what the model adds. Intervals treat
patients as independent units, given the release.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from medleak.api import AttributeScores, AttributeTruth, Estimate, Metric
from medleak.metrics.statistics import intervals
from medleak.metrics.statistics.roc import auc

FEW = 10
"""Patients of a value below which the figures carry a flag."""
HUGE = 1e100
"""Stands for infinity, so that opposite certainties can be compared."""


class Measured(NamedTuple):
    """A figure, its interval, and what each record adds to its error, ``(N,)``."""

    value: float
    low: float
    high: float
    parts: np.ndarray


class AttributeMetric(Metric):
    """Base: `measure` is left to write. `level` is that of the two-sided interval.

    A value of the column that fewer than two patients have, or lack, is left out of the mean over values;
    with fewer than two values nothing is measured. No promise of differential privacy limits these
    figures: what the model says of everybody it may say of a patient who was never in training.
    """

    goal: ClassVar[str] = "attribute"
    version: ClassVar[int] = 1
    method: ClassVar[str] = ""
    span: ClassVar[float] = 1.0

    def __init__(self, *, level: float = 0.95):
        self.level = level

    @abstractmethod
    def measure(
        self, scores: np.ndarray, value: np.ndarray, patients: np.ndarray, asked: list[int]
    ) -> Measured:
        """The figure over the values `asked`."""

    def __call__(self, output: AttributeScores, secret: AttributeTruth) -> Estimate:
        """Measure; ``n`` is the number of patients."""
        n, (asked, flag) = len(np.unique(output.patients)), _asked(output, secret)
        if not asked:
            return Estimate(None, None, None, n, self.level, self.method, flag)
        found = self._measured(output, secret, asked)
        return Estimate(found.value, found.low, found.high, n, self.level, self.method, flag)

    def excess(
        self, output: AttributeScores, baseline: AttributeScores, secret: AttributeTruth
    ) -> Estimate:
        """How much higher the metric is on `output` than on `baseline`, of the same records."""
        n, (asked, flag) = len(np.unique(output.patients)), _asked(output, secret)
        method = f"difference on the same patients; {self.method}"
        if not asked:
            return Estimate(None, None, None, n, self.level, method, flag)
        ours, theirs = (self._measured(one, secret, asked) for one in (output, baseline))
        shared = _correlation(ours.parts, theirs.parts, np.asarray(output.patients))
        ends = intervals.paired_difference(ours[:3], theirs[:3], shared)
        low, high = (float(np.clip(end, -self.span, self.span)) for end in ends)
        return Estimate(ours.value - theirs.value, low, high, n, self.level, method, flag)

    def _measured(
        self, output: AttributeScores, secret: AttributeTruth, asked: list[int]
    ) -> Measured:
        scores = np.clip(np.asarray(output.scores, dtype=np.float64), -HUGE, HUGE)
        value, patients = np.asarray(secret.value), np.asarray(output.patients)
        return self.measure(scores, value, patients, asked)


class AttributeAUC(AttributeMetric):
    """Area under the ROC of each value against the rest, and its mean over values; .5 is chance.

    With two values the score of a record is the difference of both. Several values' areas are averaged,
    and so are their ends, as if they erred together: never too narrow.
    """

    method: ClassVar[str] = (
        "ranks, each value against the rest; wider of DeLong and Newcombe, by patient"
    )

    def measure(self, scores, value, patients, asked):
        if scores.shape[1] == 2:
            scores = np.stack([scores[:, 0] - scores[:, 1], scores[:, 1] - scores[:, 0]], axis=1)
            asked = asked[-1:]  # the other one's area is the same
        found = [self._of(scores[:, v], value == v, patients) for v in asked]
        values, lows, highs, parts = zip(*found, strict=True)
        return Measured(
            float(np.mean(values)),
            float(np.mean(lows)),
            float(np.mean(highs)),
            np.mean(parts, axis=0),
        )

    def _of(self, scores: np.ndarray, own: np.ndarray, patients: np.ndarray) -> Measured:
        ends = intervals.auc_interval(scores, own, patients, self.level)
        return Measured(auc(scores, own), *ends, intervals.delong_parts(scores, own, patients))


class AttributeAccuracy(AttributeMetric):
    """Balanced accuracy: the share of right guesses among the records of a value, averaged over values.

    The guess is the value of the largest score; no threshold is fitted to the challenge records. Of V
    values, chance is 1/V. Interval: the values' Clopper-Pearson limits joined in quadrature.
    """

    method: ClassVar[str] = "largest score; Clopper-Pearson limits in quadrature, by patient"

    def measure(self, scores, value, patients, asked):
        right = (scores.argmax(axis=1) == value).astype(np.float64)
        parts, low, high, recalls = np.zeros(len(value)), 0.0, 0.0, []
        for v in asked:
            own = value == v
            recall, units = float(right[own].mean()), intervals.effective_units(patients[own])
            ends = intervals.clopper_pearson(recall * units, units, self.level)
            low, high = low + (recall - ends[0]) ** 2, high + (ends[1] - recall) ** 2
            parts[own] = (right[own] - recall) / (own.sum() * len(asked))
            recalls.append(recall)
        mean, n = float(np.mean(recalls)), len(asked)
        return Measured(
            mean,
            float(max(0.0, mean - np.sqrt(low) / n)),
            float(min(1.0, mean + np.sqrt(high) / n)),
            parts,
        )


def training_added(
    metric: AttributeMetric,
    members: tuple[AttributeScores, AttributeTruth],
    others: tuple[AttributeScores, AttributeTruth],
) -> Estimate:
    """How much higher `metric` is on members than on patients who were not trained on.

    Both sides are drawn by the same coins, so that all that the model says of everybody cancels.
    """
    one, other = metric(*members), metric(*others)
    n, flag = min(one.n, other.n), one.flag or other.flag
    method = f"difference of two groups of patients; {metric.method}"
    if None in (one.value, other.value):
        return Estimate(None, None, None, n, metric.level, method, flag)
    sides = [(e.value, e.low, e.high) for e in (one, other)]
    low, high = intervals.paired_difference(*sides, 0.0)
    return Estimate(one.value - other.value, low, high, n, metric.level, method, flag)


def _asked(output: AttributeScores, secret: AttributeTruth) -> tuple[list[int], str]:
    """The values that can be measured, and a flag; none of them where the flag says why."""
    value, patients = np.asarray(secret.value), np.asarray(output.patients)
    counts = [
        min(len(np.unique(patients[value == v])), len(np.unique(patients[value != v])))
        for v in range(np.shape(output.scores)[1])
    ]
    asked = [v for v, count in enumerate(counts) if count >= 2]
    if len(asked) < 2:
        return [], "fewer than two values with two patients each"
    least = min(counts[v] for v in asked)
    return asked, f"{least} patients of the rarest value" if least < FEW else ""


def _correlation(ours: np.ndarray, theirs: np.ndarray, patients: np.ndarray) -> float:
    """Of the errors of two figures on the same patients; 0 where one of them has none."""
    inverse = np.unique(patients, return_inverse=True)[1]
    a, b = (np.bincount(inverse, weights=parts) for parts in (ours, theirs))
    size = np.sqrt((a**2).sum() * (b**2).sum())
    return float(np.clip((a * b).sum() / size, -1, 1)) if size > 0 else 0.0

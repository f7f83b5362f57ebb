"""Truth and answers of a model, as the statistics of utility read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Answered(Protocol):
    """What any task makes of truth and answers: `medleak.metrics.utility` reads no more than this."""

    @property
    def ranks(self) -> bool:
        """Whether there are scores to rank by."""
        ...

    def fewest(self, patients: np.ndarray) -> int:
        """Patients of the rarest class: what an interval rests on where no resample has an error."""
        ...

    def right(self) -> int | None:
        """Right answers, where each record gives exactly one; None where it gives several."""
        ...


@dataclass(frozen=True)
class Answers:
    """Classes, one column per binary or multi-class problem.

    Attributes:
        y, labels: ``(N, L)`` class indices; ``L`` is 1 for a multi-class task.
        n_classes: of each problem; 2 for multi-label tasks.
        scores: ``(N, R)``, one ranking per AUROC, or None.
        positives: ``(N, R)`` bool, the positive class of each ranking.
    """

    y: np.ndarray
    labels: np.ndarray
    n_classes: int
    scores: np.ndarray | None
    positives: np.ndarray | None

    @property
    def ranks(self) -> bool:
        return self.scores is not None

    def fewest(self, patients: np.ndarray) -> int:
        return min(
            len(np.unique(patients[column == c])) for column in self.y.T for c in np.unique(column)
        )

    def right(self) -> int | None:
        return int((self.y == self.labels).sum()) if self.y.shape[1] == 1 else None


@dataclass(frozen=True)
class Overlaps:
    """Masks as pixel counts, one column per class that is not the background.

    Attributes:
        both, true, predicted: ``(N, K - 1)`` pixels in both masks, in the true and in the predicted one.
        agreement: ``(N,)`` share of the pixels whose class is right, background included.
    """

    both: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    agreement: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, labels: np.ndarray) -> Overlaps:
        """From masks ``(N, H, W)`` of class indices; class 0 is the background."""
        flat, guess = y.reshape(len(y), -1), labels.reshape(len(y), -1)
        top = max(1, int(y.max(initial=0)), int(labels.max(initial=0)))
        true, predicted, both = (np.zeros((len(y), top), dtype=np.int64) for _ in range(3))
        for c in range(1, top + 1):
            true[:, c - 1] = (flat == c).sum(axis=1)
            predicted[:, c - 1] = (guess == c).sum(axis=1)
            both[:, c - 1] = ((flat == c) & (guess == c)).sum(axis=1)
        return cls(both, true, predicted, (flat == guess).mean(axis=1))

    @property
    def ranks(self) -> bool:
        return False

    def fewest(self, patients: np.ndarray) -> int:
        shown = [len(np.unique(patients[column > 0])) for column in self.true.T]
        return min([n for n in shown if n] or [len(np.unique(patients))])

    def right(self) -> int | None:
        return None

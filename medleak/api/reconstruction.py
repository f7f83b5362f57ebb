"""The reconstruction challenge, what its metrics read, and the truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medleak.api.challenge import GoalChallenge
from medleak.api.data import Records


@dataclass(frozen=True)
class InformedPrior:
    """What an informed adversary knows about the one unknown record of a message.

    Attributes:
        others: position of a message -> every other record in it, for the attacked message and for
            those of the same clients and the same age of the model.
        candidates: records one of which is the unknown one, each with the same chance, all of its label.
        clip: norm to which each record's gradient was cut before these were summed and divided by the
            expected batch; None: messages are mean gradients.
    """

    others: Mapping[int, Records]
    candidates: Records
    clip: float | None = None


@dataclass(frozen=True)
class ReconstructionChallenge(GoalChallenge):
    """The challenge of a reconstruction attack: the records behind some observations.

    Attributes:
        indices: ``(T,)`` int, positions in the release's sequence of observations.
        n_records: ``(T,)`` int, records behind each; for an informed adversary, the one unknown record.
        in_shape: of one record, ``(C, H, W)``; values in 0..1.
        labels: the sorted labels behind each observation where the adversary is given them.
        insight: of an adversary that knows "all_but_one", for each question.
    """

    answer = "reconstructions"

    indices: np.ndarray
    n_records: np.ndarray
    in_shape: tuple[int, ...]
    labels: tuple[np.ndarray, ...] | None = None
    insight: tuple[InformedPrior, ...] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of the answer, ``(T, any, C, H, W)``: images beyond `n_records` of a message do not count."""
        return (len(self), None, *self.in_shape)


@dataclass(frozen=True)
class Reconstructions:
    """What a reconstruction metric reads in addition to the truth.

    Attributes:
        images: ``(T, B, C, H, W)`` float in 0..1: B images rebuilt from each of T observations, in no
            particular order; those beyond `n_records` are padding.
        n_records: ``(T,)`` int, how many are real.
        gallery: ``(G, C, H, W)`` float in 0..1, the records that may be behind them, of all labels.
        patients: ``(G,)`` patients of the gallery.
    """

    images: np.ndarray
    n_records: np.ndarray
    gallery: np.ndarray
    patients: np.ndarray


@dataclass(frozen=True)
class ReconstructionTruth:
    """The truth about `Reconstructions`: `positions` in the gallery, ``(T, B)`` int, -1 where padded."""

    positions: np.ndarray

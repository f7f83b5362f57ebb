"""The membership challenge, its truth, and what membership metrics read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medleak.api.challenge import GoalChallenge
from medleak.api.data import Records


@dataclass(frozen=True)
class Challenge(GoalChallenge):
    """The challenge records. For membership: about half of them were trained on.

    Attributes:
        records: the challenge records, ``N`` of them, with the labels used in training.
        kind: "natural", or the sort of canary ("mislabelled"), ``(N,)`` strings. Rows are made
            for each kind apart; an attack has no need to read it.
    """

    records: Records
    kind: np.ndarray

    @property
    def x(self) -> np.ndarray:
        return self.records.x

    @property
    def y(self) -> np.ndarray:
        return self.records.y

    @property
    def patients(self) -> np.ndarray:
        return self.records.patients

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True)
class MembershipTruth:
    """The truth, which only the scoring sees: `member`, ``(N,)`` bool."""

    member: np.ndarray


@dataclass(frozen=True)
class MembershipScores:
    """What a membership metric reads in addition to the truth.

    Attributes:
        scores, patients: ``(N,)`` each.
        run: which run each score is about, ``(N,)`` int, where several are pooled (None: one run).
        independent: whether the scores of a run depend on no other run's members, as they do where
            runs shadow each other.
    """

    scores: np.ndarray
    patients: np.ndarray
    run: np.ndarray | None = None
    independent: bool = True

    def take(self, index: np.ndarray) -> MembershipScores:
        """The scores at `index` (positions or a boolean mask)."""
        parts = (self.scores, self.patients, self.run)
        return MembershipScores(
            *(p if p is None else np.asarray(p)[index] for p in parts), self.independent
        )

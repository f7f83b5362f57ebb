"""What is asked of an attack that infers an attribute, and what its answer is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medleak.api.challenge import GoalChallenge
from medleak.api.data import Records


@dataclass(frozen=True)
class AttributeChallenge(GoalChallenge):
    """The attribute of N records that the adversary does not hold, and what it knows about them.

    Attributes:
        attribute: the column's name.
        values: the V values that it may take.
        known: M auxiliary records, with which the adversary may query the model.
        known_value: ``(M,)`` int, place of their attribute in `values`.
        y: labels of the challenge records, ``(N,)`` or ``(N, L)``.
        labels: the classes that the model said of them, shaped like `y`.
        scores: its log-probabilities, as `medleak.api.Release` has them; None where it shows none.
        features: what enters the last linear layer, ``(N, D)``; None without the weights.
        x: of a table, the records themselves, ``(N, F)``, with NaN where the attribute is one of their
            own columns; None for images.
        column: which of them that is; None where it is none.
        centres: ``(V,)``, what stands for each value there.
    """

    attribute: str
    values: tuple[str, ...]
    known: Records
    known_value: np.ndarray
    y: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    features: np.ndarray | None = None
    x: np.ndarray | None = None
    column: int | None = None
    centres: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the answer: one score a record and value, higher where it is the likelier one."""
        return len(self), len(self.values)


@dataclass(frozen=True)
class MessageAttributeChallenge(GoalChallenge):
    """Which value of an attribute most of the records behind an observed message have; T messages.

    Attributes:
        attribute, values, known, known_value: see `AttributeChallenge`.
        indices: ``(T,)`` int, positions in the release's sequence of observations.
        n_records: ``(T,)`` int, records behind each.
    """

    attribute: str
    values: tuple[str, ...]
    known: Records
    known_value: np.ndarray
    indices: np.ndarray
    n_records: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shape(self) -> tuple[int, int]:
        """Of the answer: one score a message and value."""
        return len(self), len(self.values)


@dataclass(frozen=True)
class AttributeScores:
    """What an attribute metric reads in addition to the truth.

    Attributes:
        scores: ``(N, V)``, comparable within a record: the largest is the guess.
        patients: ``(N,)``.
    """

    scores: np.ndarray
    patients: np.ndarray


@dataclass(frozen=True)
class AttributeTruth:
    """The truth about `AttributeScores`: `value` ``(N,)`` int, a place among the V values."""

    value: np.ndarray

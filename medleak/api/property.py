"""What is asked of an attack that infers a property of the whole training set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medleak.api.challenge import GoalChallenge


@dataclass(frozen=True)
class PropertyChallenge(GoalChallenge):
    """Which of two shares of its member patients has a value: one question about the whole run.

    The answer is one number, ``(1,)``: the higher, the likelier the higher share; above 0 where that is the
    guess.

    Attributes:
        attribute, value: the column, and the value that is meant.
        shares: the lower and the higher one.
        shadow_high: which of `Knowledge.shadows` have the higher one, ``(K,)`` bool.
    """

    attribute: str
    value: str
    shares: tuple[float, float]
    shadow_high: np.ndarray

    def __len__(self) -> int:
        return 1


@dataclass(frozen=True)
class PropertyScores:
    """What a property metric reads in addition to the truth.

    Attributes:
        scores: one for each target, ``(T,)``.
        shared: how far the patients that all targets are drawn from may part the two shares by chance: the
            variance of that difference, in units of a target's own variance.
    """

    scores: np.ndarray
    shared: float


@dataclass(frozen=True)
class PropertyTruth:
    """The truth about `PropertyScores`: whether a target has the higher share, ``(T,)`` bool."""

    high: np.ndarray

"""What every challenge says of the answer that it wants."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal


class GoalChallenge(ABC):
    """Base of what an attack is asked: `answer` says whether scores are wanted or rebuilt records."""

    answer: ClassVar[Literal["scores", "reconstructions"]] = "scores"

    @abstractmethod
    def __len__(self) -> int:
        """Questions in it: the first dimension of the answer."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Of the answer; None stands for any length."""
        return (len(self),)

"""What is measured, and what it comes as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medleak.api.defense import Guarantee
from medleak.api.words import Component, Goal


@dataclass(frozen=True)
class Estimate:
    """A number with its interval: `n` independent units, two-sided `level`, `method` in words.

    `value` None is "not measured", and `flag` says why or warns ("N*FPR < 10").
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    level: float = 0.95
    method: str = ""
    flag: str = ""


@dataclass(frozen=True)
class Curve:
    """A curve with a pointwise band: ``(P,)`` each of x, y, low, high."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    n: int
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True)
class Scored:
    """What a membership metric reads beside the secret.

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

    def take(self, index: np.ndarray) -> Scored:
        """The scores at `index` (positions or a boolean mask)."""
        parts = (self.scores, self.patients, self.run)
        return Scored(*(p if p is None else np.asarray(p)[index] for p in parts), self.independent)


@dataclass(frozen=True)
class Rebuilt:
    """What a reconstruction metric reads beside the secret.

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
class Originals:
    """The truth about `Rebuilt`: `positions` in the gallery, ``(T, B)`` int, -1 where padded."""

    positions: np.ndarray


class Metric(Component, ABC):
    """A pure function of (output, secret), as an object that holds its settings only.

    Class attributes: `goal`; `higher_is_leakier`; `needs_whole_runs`, where the sample must hold every
    patient of each run, so that a chosen few will not do.
    """

    goal: ClassVar[Goal] = "membership"
    higher_is_leakier: ClassVar[bool] = True
    needs_whole_runs: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, output: Any, secret: Any) -> Estimate | Curve:
        """Measure: `Scored` and `Secret` for membership, `Rebuilt` and `Originals` for reconstruction."""

    def ceiling(self, guarantees: Sequence[Guarantee]) -> float | None:
        """The largest value that `guarantees` allow; None is "vacuous" (nothing is promised)."""
        return None

"""What is measured, and what it comes as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from medleak.api.component import Component
from medleak.api.guarantee import Guarantee


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


class Metric(Component, ABC):
    """A pure function of (output, secret), as an object that holds its settings only.

    Class attributes: `goal`; `higher_is_leakier`; `needs_whole_runs`, where the sample must hold every
    patient of each run, so that a chosen few will not do; `is_curve`, where it gives a `Curve`.
    """

    goal: ClassVar[str] = "membership"
    higher_is_leakier: ClassVar[bool] = True
    needs_whole_runs: ClassVar[bool] = False
    is_curve: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, output: Any, secret: Any) -> Estimate | Curve:
        """Measure: `MembershipScores` and `MembershipTruth` for membership, `Reconstructions` and `ReconstructionTruth` for reconstruction."""

    def lower_bound(self, output: Any, secret: Any, level: float = 0.999) -> float | None:
        """One-sided lower bound at `level`; None where there is none: nothing can then be violated."""
        return None

    def excess(self, output: Any, baseline: Any, secret: Any) -> Estimate:
        """How much larger the metric is on `output` than on `baseline`, an answer without the release."""
        ours, theirs = self(output, secret), self(baseline, secret)
        if not isinstance(ours, Estimate) or ours.value is None or theirs.value is None:
            return Estimate(None, None, None, 0, flag="not measured")
        flag = "no interval of the difference"
        return Estimate(
            ours.value - theirs.value, None, None, ours.n, ours.level, ours.method, flag
        )

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """The largest value that `guarantees` allow; None is "vacuous" (nothing is promised).

        Args:
            prior: chance of success without the release, where the bound depends on it.
        """
        return None

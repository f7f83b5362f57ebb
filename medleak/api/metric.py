"""What is measured, and what it comes as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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

    `__call__` is left to write; the rest has defaults that claim nothing.

    Attributes:
        goal: whose outputs it reads.
        label: what tables print; empty for the name of its YAML.
        unit: of the value ("dB"), or empty.
        digits: decimals in tables.
        higher_is_leakier: whether larger values mean more leakage.
        direction: the same in a word; follows `higher_is_leakier` unless set.
        needs_whole_runs: whether the sample must hold every patient of each run, so that a chosen few
            will not do.
        is_curve: whether it gives a `Curve`.
    """

    goal: ClassVar[str] = "membership"
    label: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    digits: ClassVar[int] = 3
    higher_is_leakier: ClassVar[bool] = True
    direction: ClassVar[Literal["higher", "lower"]] = "higher"
    needs_whole_runs: ClassVar[bool] = False
    is_curve: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "higher_is_leakier" in vars(cls) and "direction" not in vars(cls):
            cls.direction = "higher" if cls.higher_is_leakier else "lower"

    @abstractmethod
    def __call__(self, output: Any, secret: Any) -> Estimate | Curve:
        """Measure: `MembershipScores` and `MembershipTruth` for membership, `Reconstructions` and `ReconstructionTruth` for reconstruction."""

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """The largest value that `guarantees` allow; None is "vacuous" (nothing is promised).

        Args:
            prior: the chance of success without the release, for metrics whose ceiling rests on it.
        """
        return None

    def lower_bound(self, output: Any, secret: Any, level: float = 0.999) -> float | None:
        """One-sided lower bound at `level`; None, the default, where there is none: nothing can then
        be found to lie above a ceiling."""
        return None

    def excess(self, output: Any, baseline: Any, secret: Any) -> Estimate:
        """How much higher the metric is on `output` than on `baseline`, what is known without the
        release. By default the plain difference, without an interval."""
        ours, theirs = self(output, secret), self(baseline, secret)
        if not isinstance(ours, Estimate) or not isinstance(theirs, Estimate):
            return Estimate(None, None, None, ours.n, flag="a curve has no difference")
        known = ours.value is not None and theirs.value is not None
        value = ours.value - theirs.value if known else None
        flag = "no interval" if known else ours.flag or theirs.flag
        return Estimate(value, None, None, ours.n, ours.level, ours.method, flag)

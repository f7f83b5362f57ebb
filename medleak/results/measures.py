"""One line for each measure of a result: what the tidy frame and every table are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from medleak.api import Curve, Estimate


@dataclass(frozen=True)
class Measure:
    """One figure of a result.

    Attributes:
        kind: "leakage", "utility", "group" (leakage of a subgroup), "utility group", "worst group",
            "baseline", "excess" (gain over the best baseline), "control", "tampering", "spread" (over
            targets), "guarantee" or "cost".
        name: of the metric, or of the cost.
        group: subgroup, or the statistic of a spread; `baseline`: which one.
        n: independent units; 0 where nothing was counted. `points`: of a curve, which has no value.
        bound: the largest value that the guarantees allow.
        bound_status: "limited", "vacuous", "not binding" (no guarantee speaks of this attacker), or ""
            without a guarantee.
        violated: in how many seeds the figure lies above its bound.
    """

    kind: str
    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    level: float | None = None
    method: str = ""
    flag: str = ""
    group: str = ""
    baseline: str = ""
    points: int = 0
    bound: float | None = None
    bound_status: str = ""
    violated: int = 0

    @property
    def sure(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low is not None and self.low > 0


def measures(one: Any) -> list[Measure]:
    """Every figure of `one`, in the order of a row's fields."""
    found = [_leakage(one, name, value) for name, value in one.leakage.items()]
    found += _block("utility", one.utility)
    for kind, groups in (("group", one.groups), ("utility group", one.utility_groups)):
        for group, block in groups.items():
            found += _block(kind, block, group=group)
    for name, (group, worst) in one.worst_group.items():
        found.append(_measure("worst group", name, worst, group=group))
    for baseline, block in one.baselines.items():
        found += _block("baseline", block, baseline=baseline)
    found += _block("excess", one.excess)
    found += _block("control", one.controls)
    found += _block("tampering", one.tampering)
    found += list(_spread(one.row.spread))
    if one.epsilon is not None:
        found.append(Measure("guarantee", "epsilon", one.epsilon))
    found += [Measure("cost", name, value) for name, value in one.cost.items()]
    return found


def _block(kind: str, block: Mapping[str, Any], **place: str) -> list[Measure]:
    return [_measure(kind, name, value, **place) for name, value in block.items()]


def _measure(kind: str, name: str, found: Estimate | Curve, **place: Any) -> Measure:
    if isinstance(found, Curve):
        parts = {"value": None, "points": len(found.x)}
    else:
        parts = {part: getattr(found, part) for part in ("value", "low", "high", "flag")}
    shared = {part: getattr(found, part) for part in ("n", "level", "method")}
    return Measure(kind, name, **parts, **shared, **place)


def _leakage(one: Any, name: str, found: Estimate | Curve) -> Measure:
    bound = one.upper_bounds.get(name)
    status = "vacuous" if bound is None else "limited"
    if not one.row.guarantees:
        status = ""
    elif not any(map(one.binds, one.row.guarantees)):
        status = "not binding"
    above = one.violations.get(name, 0)
    return _measure("leakage", name, found, bound=bound, bound_status=status, violated=above)


def _spread(spread: Mapping[str, Mapping[str, float]]) -> Iterator[Measure]:
    for name, told in spread.items():
        n = int(told.get("n", 0))
        for part in ("mean", "sd", "min", "max"):
            yield Measure("spread", name, told.get(part), n=n, group=part)

"""ε*: how large a budget still protects, against each attack and adversary, as far as was measured."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medleak.report import formatting
from medleak.report.cells import Cell, Column, Table, build, coordinate
from medleak.report.specs import headline, spec_of
from medleak.results.aggregate import Aggregate, by_goal, extras

STAR = "ε*"
TITLE = f"{STAR}: budgets that still protect"
MEANING = (
    "ε*: the largest budget measured such that there, and at every smaller one measured, the lower "
    "bound of the attack does not exceed the best guess without it (AUC 0.5, or no gain). "
    "It holds for these attacks and this many patients; a wide interval stays below as well"
)


def over_prior(one: Aggregate) -> float | None:
    """By how much the attack's lower bound exceeds the best guess without it; None if not measured.

    The gain over the baselines counts where there are any, else the guess that the goal names.
    """
    if one.status != "ok":
        return None
    spec = spec_of(one.row.goal, [one])
    name = headline(spec, [one])
    gain, found = one.find("excess", name), one.find("leakage", name)
    if gain is not None:
        return gain.low
    if spec.guess is None or found is None or found.low is None:
        return None
    return found.low - spec.guess


def budget(one: Aggregate) -> float | None:
    """The smallest ε whose promise binds this adversary."""
    return min((g["epsilon"] for g in one.promises if one.binds(g)), default=None)


@dataclass(frozen=True)
class Series:
    """One attack against one kind of promise at several budgets; in a table it stands as one line.

    Attributes:
        lines: smallest budget first.
    """

    lines: tuple[Aggregate, ...]

    @property
    def row(self) -> Any:
        return self.lines[0].row

    @property
    def axes(self) -> dict[str, Any]:
        return {k: v for k, v in self.lines[0].axes.items() if not _is_budget(k)}

    @property
    def target(self) -> str:
        return self.lines[0].target

    @property
    def attack(self) -> str:
        return self.lines[0].attack

    @property
    def status(self) -> str:
        return "ok"

    @property
    def defense(self) -> str:
        """What the defenses' names have in common, and the axes that they share."""
        names = list(dict.fromkeys(one.row.defense for one in self.lines))
        stem = re.sub(r"_?eps(ilon)?[\d.e_]*$", "", os.path.commonprefix(names))  # noqa: RUF071 (letters, not folders)
        name = names[0] if len(names) == 1 else stem or ", ".join(names)
        shared = {k: v for k, v in self.axes.items() if k.startswith("defense")}
        return f"{name} ({extras(shared)})" if shared else name

    @cached_property
    def exceeded(self) -> dict[float, bool | None]:
        """Budget -> whether the attack beat its baseline there; None where nothing was measured."""
        found: dict[float, bool | None] = {}
        for one in self.lines:
            over, epsilon = over_prior(one), budget(one)
            if over is not None:
                found[epsilon] = bool(found.get(epsilon)) or over > 0
            else:
                found.setdefault(epsilon, None)
        return found

    @property
    def measured(self) -> list[float]:
        """The budgets with a figure, smallest first."""
        return [epsilon for epsilon, beaten in self.exceeded.items() if beaten is not None]

    @property
    def star(self) -> float | None:
        """ε*; None where the smallest budget measured does not protect."""
        held = None
        for epsilon in self.measured:
            if self.exceeded[epsilon]:
                break
            held = epsilon
        return held

    @property
    def is_open(self) -> bool:
        """Whether even the largest budget measured protects, so that ε* may be larger."""
        return self.star is not None and self.star == self.measured[-1]


def series(aggregates: Sequence[Aggregate]) -> list[Series]:
    """Lines that differ in the budget alone, two budgets or more with a figure."""
    found: dict[tuple, list[Aggregate]] = {}
    for one in aggregates:
        if budget(one) is not None:
            found.setdefault(_alike(one), []).append(one)
    kinds = [Series(tuple(sorted(lines, key=budget))) for lines in found.values()]
    return [one for one in kinds if len(one.measured) > 1]


def absent(aggregates: Sequence[Aggregate]) -> list[str]:
    """Why a goal that was measured under a privacy budget has no ε*: one sentence for each."""
    there = {one.row.goal for one in series(aggregates)}
    reasons = []
    for goal, lines in by_goal(aggregates).items():
        bound = [one for one in lines if one.status == "ok" and budget(one) is not None]
        if goal in there or not bound:
            continue
        known = [one for one in bound if over_prior(one) is not None]
        why = (
            "it needs two budgets or more with a figure"
            if known
            else "its measures have no lower bound to compare with a guess without the attack"
        )
        reasons.append(f"There is no ε* for {spec_of(goal, lines).title.lower()}: {why}.")
    return reasons


def _alike(one: Aggregate) -> tuple:
    row = one.row
    axes = sorted((k, str(v)) for k, v in row.extra.items() if not _is_budget(k))
    promises = sorted(
        (g["kind"], g["unit"], str(g.get("adjacency")), str(g.get("mechanism", {}).get("name")))
        for g in one.promises
        if one.binds(g)
    )
    place = (row.target, row.n_members, row.goal, row.attack, row.adversary, row.access)
    game = (row.records, row.unit, row.pool, row.n_shadows, row.n_targets)
    made = _classes(row.provenance.get("slots", {}))
    return *place, *game, tuple(axes), tuple(promises), tuple(sorted(made))


def _classes(slots: Any) -> list[str]:
    """What stands in the slots of a defense, whatever its numbers."""
    if isinstance(slots, Mapping):
        own = [str(slots["_target_"])] if "_target_" in slots else []
        return own + [name for value in slots.values() for name in _classes(value)]
    if isinstance(slots, list | tuple):
        return [name for value in slots for name in _classes(value)]
    return []


def _is_budget(axis: str) -> bool:
    return axis.rpartition(".")[2] == "epsilon"


# --------------------------------------------------------------------------- printed


def table(aggregates: Sequence[Aggregate]) -> Table:
    """A line for each attack, adversary and kind of promise that was measured at several budgets."""
    found = series(aggregates)
    made = [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("promise", lambda one: one.defense, fold=False),
        coordinate("attack", lambda one: one.attack, fold=False),
        coordinate("adversary", lambda one: one.row.adversary),
        coordinate("records", lambda one: formatting.kind(one.row.records, spec_of(one.row.goal))),
        coordinate("unit", lambda one: one.row.unit),
        Column(STAR, _star),
        Column("not exceeded at ε =", _budgets(False)),
        Column("exceeded at ε =", _budgets(True)),
        Column("not measured at ε =", _budgets(None), fold=True),
    ]
    return build(TITLE, made, found, [MEANING] * bool(found), "epsilon-star")


def _star(one: Series) -> Cell:
    if one.star is None:
        return Cell("none measured", f"(< {formatting.epsilon(one.measured[0])})", sort=0.0)
    shown = formatting.epsilon(one.star)
    return Cell(f"≥ {shown}" if one.is_open else shown, sort=one.star)


def _budgets(beaten: bool | None) -> Callable[[Series], Cell]:
    def cell(one: Series) -> Cell:
        mine = [epsilon for epsilon, found in one.exceeded.items() if found is beaten]
        return Cell(
            ", ".join(map(formatting.epsilon, mine)) or formatting.NONE,
            sort=max(mine, default=None),
        )

    return cell


def flat(one: Aggregate, found: Sequence[Series]) -> dict[str, object]:
    """``epsilon_star``, what it is ("none measured", "measured", "at least"), and the budgets measured."""
    mine = next((kind for kind in found if any(one is line for line in kind.lines)), None)
    if mine is None:
        return {}
    held = "none measured" if mine.star is None else "at least" if mine.is_open else "measured"
    measured = " ".join(map(formatting.epsilon, mine.measured))
    return {"epsilon_star": mine.star, "epsilon_star_is": held, "epsilons_measured": measured}

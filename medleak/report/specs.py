"""Where report specs are found, and the one for goals that bring none."""

from __future__ import annotations

from collections.abc import Sequence

from medleak.api import Estimate
from medleak.api.goal_report import COORDINATES, GoalReport, ReportColumn
from medleak.goals import goal_of, known_goals
from medleak.results.aggregate import Aggregate, by_goal, metric_names


def spec_of(goal: str, lines: Sequence[Aggregate] = ()) -> GoalReport:
    """The report spec of `goal`; for a goal that brings none, a generic one made from its `lines`."""
    return _known(goal) or generic(goal, lines)


def specs(aggregates: Sequence[Aggregate]) -> list[tuple[GoalReport, list[Aggregate]]]:
    """The spec of each goal in `aggregates`, with its lines, in order of appearance."""
    return [(spec_of(goal, lines), lines) for goal, lines in by_goal(aggregates).items()]


def _known(goal: str) -> GoalReport | None:
    return goal_of(goal).report if goal in known_goals() else None


def generic(goal: str, lines: Sequence[Aggregate]) -> GoalReport:
    """Every measure with its interval, n and bound, and its gain over the best baseline."""
    names = metric_names(lines)
    gained = [name for name in names if any(name in one.excess for one in lines)]
    head = next(iter([*gained, *names]), "")
    others = [name for name in names if name != head]
    columns = [ReportColumn("utility"), ReportColumn("measure", head, detail=True)]
    columns += [ReportColumn("measure", name, terminal=False) for name in others]
    for name in gained:
        first = name == head
        columns.append(ReportColumn("without", name, terminal=first))
        columns.append(ReportColumn("gain", name, detail=first, terminal=first))
    columns += [ReportColumn("bound", name, terminal=name == head) for name in [head, *others]]
    columns += [ReportColumn("promise"), ReportColumn("n", head, fold=True)]
    asked = {key: None for one in lines for key in one.row.controls.get("asked", {})}
    return GoalReport(
        goal=goal,
        title=goal.replace("_", " ").capitalize() or "Goal not recorded",
        anchor="".join(c if c.isalnum() and c.isascii() else "-" for c in goal) or "goal",
        headline=head,
        source="attack",
        coordinates=(
            *COORDINATES,
            *([ReportColumn("asked", "attribute")] * ("attribute" in asked)),
        ),
        columns=tuple(columns) if head else (ReportColumn("utility"), ReportColumn("promise")),
        compared=tuple(names),
        split=False,
        figures=("tradeoff",) if gained else (),
    )


def headline(spec: GoalReport, lines: Sequence[Aggregate]) -> str:
    """The measure that stands for leakage: that of the spec, or the first that these lines have."""
    gained = [name for one in lines for name in one.excess]
    known = gained or [
        n for one in lines for n, e in one.leakage.items() if isinstance(e, Estimate)
    ]
    return spec.headline if spec.headline in known or not known else known[0]

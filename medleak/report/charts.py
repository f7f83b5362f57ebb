"""Charts of what was gained, defense by defense: who is named by rebuilt images, and the like."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from medleak.api import Estimate
from medleak.api.goal_report import GoalReport
from medleak.report import formatting
from medleak.report.drawing import AGES, FAINT, INK, SOFT, subject
from medleak.report.narrative import VOID
from medleak.report.specs import headline
from medleak.results.aggregate import Aggregate, status_name
from medleak.results.frame import without

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 44
"""Lines of one chart: more would not fit on a page."""


def _order(aggregates: Iterable[Aggregate]) -> dict[str, list[str]]:
    """Defense -> its attacks, both in order of appearance."""
    found: dict[str, dict[str, None]] = {}
    for one in aggregates:
        found.setdefault(one.defense, {})[one.attack] = None
    return {defense: list(attacks) for defense, attacks in found.items()}


def chunks(aggregates: Sequence[Aggregate]) -> list[list[str]]:
    """Defenses of one chart, then of the next."""
    made: list[list[str]] = [[]]
    lines = 0
    for defense, attacks in _order(aggregates).items():
        if lines and lines + 1 + len(attacks) > MOST_LINES:
            made.append([])
            lines = 0
        made[-1].append(defense)
        lines += 1 + len(attacks)
    return made


def gained(aggregates: Sequence[Aggregate], spec: GoalReport, *, tint: Mapping[str, str]) -> Figure:
    """A line per attack under its defense, a panel per kind of question.

    A dot with its interval is what was found, a dark tick the best baseline; what the guarantee rules out
    is shaded. What was not measured says so.
    """
    from matplotlib.figure import Figure

    metric = headline(spec, aggregates)

    ages = [one.row.records for one in aggregates if one.row.records]
    panels = sorted(
        dict.fromkeys(ages), key=lambda age: (AGES.index(age) if age in AGES else 9, age)
    )
    lines = _lines(_order(aggregates))
    figure = Figure(
        figsize=(2.2 + 3.1 * max(2, len(panels)), 1.25 + 0.2 * len(lines)), layout="constrained"
    )
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    places = {place: -i for i, place in enumerate(lines)}
    for axis, age in zip(axes, panels, strict=True):
        axis.set_title(age, loc="left", fontsize=10, fontweight="bold")
        axis.set_xlabel(", ".join(filter(None, (formatting.metric(metric, spec), spec.axis))))
        axis.grid(True, axis="x", color=FAINT, linewidth=0.5)
        axis.tick_params(axis="y", length=0)
        for one in aggregates:
            y = places[one.defense, one.attack]
            colour = tint.get(one.defense, SOFT)
            if one.row.records == age and one.status == "ok":
                _dot(axis, one, metric, y, colour)
            elif one.row.records in (age, ""):
                words = status_name(one.status)
                axis.text(0.012, y, words, fontsize=7.5, color=SOFT, va="center", style="italic")
    axes[0].set_xlim(-0.02, 1.02)
    axes[0].set_ylim(-len(lines) + 0.4, 0.6)
    _names(axes, lines, tint)
    _legend(figure, aggregates, metric, spec.source)
    return figure


def _lines(order: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """(defense, "") for a heading, then (defense, attack)."""
    return [(d, attack) for d, attacks in order.items() for attack in ("", *attacks)]


def _names(axes: Sequence[Axes], lines: Sequence[tuple[str, str]], tint: Mapping[str, str]) -> None:
    axes[0].set_yticks([-i for i in range(len(lines))], [a or d for d, a in lines], fontsize=8)
    for label, (defense, attack) in zip(axes[0].get_yticklabels(), lines, strict=True):
        if not attack:
            label.set(fontweight="bold", color=tint.get(defense, SOFT))


def _dot(axis: Axes, one: Aggregate, metric: str, y: float, colour: str) -> None:
    found, upper_bound, prior = (
        one.leakage.get(metric),
        one.upper_bounds.get(metric),
        without(one, metric),
    )
    if not isinstance(found, Estimate) or found.value is None:
        return
    if upper_bound is not None and upper_bound <= VOID and any(map(one.binds, one.row.guarantees)):
        axis.barh(
            y, 1.02 - upper_bound, left=upper_bound, height=0.86, color=colour, alpha=0.13, zorder=1
        )
        axis.plot([upper_bound] * 2, [y - 0.43, y + 0.43], color=colour, linewidth=1.3, zorder=2)
    if None not in (found.low, found.high):
        axis.plot(
            [found.low, found.high], [y] * 2, color=colour, linewidth=1.6, alpha=0.75, zorder=3
        )
    axis.plot(
        found.value, y, "o", color=colour, markersize=5.2, markeredgecolor="white",
        markeredgewidth=0.6, zorder=4, clip_on=False,
    )  # fmt: skip
    if prior is not None:
        axis.plot(
            prior, y, "|", color=INK, markersize=9, markeredgewidth=1.5, zorder=5, clip_on=False
        )


def _legend(figure: Figure, aggregates: Sequence[Aggregate], metric: str, source: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=SOFT, marker="o", linewidth=1.6, label=f"with the {source}"),
        Line2D([], [], color=INK, marker="|", linestyle="", markersize=9, markeredgewidth=1.5,
               label="without it (best baseline)"),
    ]  # fmt: skip
    if any((one.upper_bounds.get(metric) or 1) <= VOID for one in aggregates):
        handles.append(Patch(color=SOFT, alpha=0.2, label="ruled out by the guarantee"))
    size = aggregates[0].row.n_members
    figure.legend(
        handles=handles, loc="outside upper left", ncols=3, fontsize=8, frameon=False,
        title=f"{subject(aggregates)}, {size:,} members in training", title_fontsize=9,
        alignment="left", columnspacing=1.6,
    )  # fmt: skip

"""The trade-off of a whole grid: accuracy, leakage and cost of each defense."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from medleak.api.goal_report import GoalReport
from medleak.report import formatting
from medleak.report.columns import utility_name
from medleak.report.drawing import AGES, INK, SOFT, subject, useful
from medleak.report.specs import headline, specs
from medleak.results.aggregate import Aggregate, typical
from medleak.results.measures import Measure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TOLD_APART = 10
"""Defenses, beyond which a colour is not enough and marks are numbered."""
COSTS = {"client_bytes": "bytes sent by a client", "train_seconds": "training time"}


class Panel(NamedTuple):
    """One goal: what its y axis shows, the `level` of an attack that learns nothing and what that is
    called, and the strongest attacks."""

    goal: str
    label: str
    level: float
    said: str
    points: list[tuple[Aggregate, Measure]]


def tradeoff(aggregates: Sequence[Aggregate], *, tint: Mapping[str, str]) -> Figure:
    """Accuracy against leakage: the strongest attack on each defense of a target, a panel per goal.

    The larger the mark, the dearer the defense, relative to none (or to the cheapest). Attacks on a
    fresh model are hollow. Where defenses are many, marks bear their numbers.
    """
    from matplotlib.figure import Figure

    panels = _panels(aggregates)
    shown = [one for panel in panels for one, _ in panel.points]
    cost = Cost.of(shown)
    names = numbered(list(dict.fromkeys(one.defense for one in shown)))
    below = 0.1 * len(names)
    width = 0.9 + 4.3 * max(1.5, len(panels))
    figure = Figure(figsize=(width, 4.1 + below), layout="constrained")
    if not panels:
        return figure
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        axis.axhline(panel.level, color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        axis.annotate(
            panel.said, (1, panel.level), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=7, color=SOFT, annotation_clip=False,
        )  # fmt: skip
        # The small on top of the large.
        for one, estimate in sorted(panel.points, key=lambda point: -cost.diameter(point[0])):
            _mark(axis, one, estimate, tint[one.defense], cost.diameter(one))
            _number(axis, one, estimate, names[one.defense], cost.diameter(one))
        axis.set_title(panel.goal, loc="left", fontsize=10, fontweight="bold")
        axis.set_ylabel(panel.label)
        axis.set_xlabel(utility_name([one for one, _ in panel.points]))
        _room(axis, panel)
    _keys(figure, shown, tint, cost, names)
    return figure


def numbered(names: Sequence[str]) -> dict[str, str]:
    """What the legend calls each of `names`: with a number before it where there are many."""
    if len(names) <= MOST_TOLD_APART:
        return {name: name for name in names}
    return {name: f"{i}  {name}" for i, name in enumerate(names, 1)}


def _panels(aggregates: Sequence[Aggregate]) -> list[Panel]:
    drawn = {"leakage", "tradeoff"}
    made = [_panel(spec, lines) for spec, lines in specs(aggregates) if drawn & set(spec.figures)]
    return [panel for panel in made if panel.points]


def _panel(spec: GoalReport, lines: Sequence[Aggregate]) -> Panel:
    """The gain over the baselines, or the measure itself for a goal whose guess is known."""
    name = headline(spec, lines)
    label = formatting.metric(name, spec)
    if spec.guess is not None:
        points = _strongest(typical(lines), lambda one: one.find("leakage", name))
        return Panel(spec.goal, f"leakage: {label} of the attack", spec.guess, "guessing", points)
    same = [one for one in lines if spec.informed_by not in one.baselines] or lines
    points = _strongest(same, lambda one: one.find("excess", name))
    return Panel(spec.goal, f"gain of the {spec.source}: {label}", 0.0, "no gain", points)


def _strongest(
    aggregates: Sequence[Aggregate], of: Callable[[Aggregate], Measure | None]
) -> list[tuple[Aggregate, Measure]]:
    """The strongest attack on each defense, size and age of the model."""
    best: dict[tuple, tuple[Aggregate, Measure]] = {}
    for one in aggregates:
        found = of(one)
        if found is None or None in (found.value, useful(one)):
            continue
        place = (one.defense, one.row.n_members, one.row.records)
        if place not in best or found.value > best[place][1].value:
            best[place] = one, found
    return list(best.values())


def _mark(axis: Axes, one: Aggregate, found: Measure, colour: str, diameter: float) -> None:
    from matplotlib.transforms import ScaledTranslation

    figure = axis.get_figure()
    fresh, x = one.row.records == AGES[0], useful(one)
    aside = _aside(one, diameter) / 72
    shifted = axis.transData + ScaledTranslation(aside, 0, figure.dpi_scale_trans)
    if None not in (found.low, found.high):
        axis.plot(
            [x, x], [found.low, found.high], color=colour, linewidth=1.1, alpha=0.6,
            transform=shifted, zorder=3, solid_capstyle="round",
        )  # fmt: skip
    axis.plot(
        x, found.value, "o", color="white" if fresh else colour, transform=shifted,
        markersize=diameter, markeredgecolor=colour if fresh else "white",
        markeredgewidth=1.4 if fresh else 0.6, zorder=5,
    )  # fmt: skip


def _aside(one: Aggregate, diameter: float) -> float:
    """Points: both ages of a model have its accuracy, and the fresh one stands to the left of it."""
    side = -1 if one.row.records == AGES[0] else 1
    return max(4.0, 0.55 * diameter) * side * (one.row.records in AGES)


def _number(axis: Axes, one: Aggregate, found: Measure, name: str, diameter: float) -> None:
    if name == one.defense:
        return
    beside = _aside(one, diameter) + 0.5 * diameter + 0.5
    axis.annotate(
        name.split()[0], (useful(one), found.value), xytext=(beside, 1.5), fontsize=6,
        textcoords="offset points", color=INK, zorder=6,
    )  # fmt: skip


def _room(axis: Axes, panel: Panel) -> None:
    xs = [useful(one) for one, _ in panel.points]
    pad = max(0.015, 0.12 * (max(xs) - min(xs)))
    axis.set_xlim(min(xs) - pad, max(xs) + pad)
    ends = [v for _, e in panel.points for v in (e.value, e.low, e.high) if v is not None]
    low, high = min([panel.level, *ends]), max([panel.level, *ends])
    pad = 0.06 * (high - low) + 0.01
    axis.set_ylim(low - pad, high + pad)


# --------------------------------------------------------------------------- cost


class Cost(NamedTuple):
    """What a mark's size stands for: `ratios` by (target, members, defense)."""

    label: str
    ratios: Mapping[tuple[str, int, str], float]

    @classmethod
    def of(cls, aggregates: Sequence[Aggregate]) -> Cost:
        """Bytes where all have them, else seconds of training, else nothing; or, where it grew more, the
        time of a query.

        Relative to no defense, or to the cheapest where that was not measured.
        """
        known = [n for n in COSTS if aggregates and all(one.cost.get(n) for one in aggregates)]
        if not known:
            return cls("", {})
        costs = {_place(one): one.cost[known[0]] for one in aggregates}
        asked = {_place(one): one.cost.get("query_overhead", 1.0) for one in aggregates}
        ratios: dict[tuple[str, int, str], float] = {}
        bases: set[str] = set()
        for place, cost in costs.items():
            same = {other[2]: value for other, value in costs.items() if other[:2] == place[:2]}
            base = "none" if "none" in same else min(same, key=same.__getitem__)
            ratios[place] = max(cost / same[base], asked[place])
            bases.add(base)
        base = bases.pop() if len(bases) == 1 else "the cheapest defense"
        what = COSTS[known[0]] + (" or time of a query" if max(asked.values()) > 1 else "")
        return cls(f"{what}, against {'no defense' if base == 'none' else base}", ratios)

    @property
    def steps(self) -> list[float]:
        """Ratios for the legend: 1, 10, 100 ...; none where all cost about the same."""
        largest = max(self.ratios.values(), default=1.0)
        if largest < 1.05:
            return []
        tens = [10.0**power for power in range(1, 1 + math.floor(math.log10(largest)))]
        return [1.0, *(tens or [largest])]

    def diameter(self, one: Aggregate) -> float:
        return _diameter(self.ratios.get(_place(one), 1.0))


def _place(one: Aggregate) -> tuple[str, int, str]:
    return one.target, one.row.n_members, one.defense


def _diameter(ratio: float) -> float:
    """Points: what costs ten times as much is wider by three."""
    return min(17.0, max(4.0, 5.5 + 3 * math.log10(ratio)))


def _keys(
    figure: Figure,
    aggregates: Sequence[Aggregate],
    tint: Mapping[str, str],
    cost: Cost,
    names: Mapping[str, str],
) -> None:
    """What marks mean stands above the panels, the defenses below: each legend has its own room."""
    from matplotlib.lines import Line2D

    def dot(diameter: float, label: str, colour: str = SOFT, **look: object) -> Line2D:
        look |= {"marker": "o", "linestyle": "", "markersize": diameter}
        return Line2D([], [], color=colour, label=label, **look)

    handles = []
    if {one.row.records for one in aggregates} & set(AGES):
        handles.append(dot(5.5, AGES[0], markerfacecolor="white", markeredgewidth=1.4))
        handles.append(dot(5.5, AGES[1]))
    steps = cost.steps
    handles += [dot(_diameter(s), f"×{s:.3g}" if s < 1000 else f"×{s:,.0f}") for s in steps]
    size = f"; size: {cost.label}" if steps else ""
    tallest = max((handle.get_markersize() for handle in handles), default=0)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=max(1, len(handles)), fontsize=8,
        frameon=False, title=f"{subject(aggregates)}: strongest attack on each defense{size}",
        title_fontsize=9, alignment="left", columnspacing=1.4, handletextpad=0.4,
        handleheight=max(0.7, tallest / 8),
    )  # fmt: skip
    room = figure.get_figwidth() * 14  # characters of this size
    columns = int(room / (max(map(len, names.values())) + 6))
    figure.legend(
        handles=[dot(5.5, said, tint[name]) for name, said in names.items()], loc="outside lower left",
        ncols=max(1, min(4, columns)), fontsize=8, frameon=False, handletextpad=0.2,
        columnspacing=1.4,
    )  # fmt: skip

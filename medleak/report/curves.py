"""Log-log ROC curves with bands."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from medleak.report import formatting
from medleak.report.drawing import ATTACKS, FAINT, INK, SOFT, colours, kinds, subject
from medleak.report.specs import spec_of
from medleak.results.aggregate import Aggregate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def roc(
    aggregates: Sequence[Aggregate], *, tint: Mapping[str, str], floor: float | None = None
) -> Figure:
    """Log-log ROC: a row per kind of record, a column per defense, a band per attack.

    Where the guarantee has a bound at some false-positive rate, a dash marks it. Axes begin at `floor`
    (None: at what the number of patients can tell).
    """
    from matplotlib.figure import Figure

    panels, spec = kinds(aggregates), spec_of(aggregates[0].row.goal)
    defenses = list(dict.fromkeys(one.defense for one in aggregates))
    line = colours([one.attack for one in aggregates], ATTACKS)
    figure = Figure(
        figsize=(0.8 + 2.35 * max(2, len(defenses)), 0.7 + 2.35 * len(panels)), layout="constrained"
    )
    axes = figure.subplots(len(panels), len(defenses), sharex=True, sharey=True, squeeze=False)
    floor = floor or _floor(aggregates)
    for row, (records, unit) in enumerate(panels):
        for column, defense in enumerate(defenses):
            axis = axes[row, column]
            mine = [
                one
                for one in aggregates
                if (one.row.records, one.row.unit, one.defense) == (records, unit, defense)
            ]
            _roc_panel(axis, mine, line, floor)
            if row == 0:
                axis.set_title(defense, fontsize=9, color=tint[defense], fontweight="bold")
            if row == len(panels) - 1:
                axis.set_xlabel("false-positive rate", fontsize=8)
        axes[row, 0].set_ylabel(f"{formatting.kind(records, spec)}\ntrue-positive rate", fontsize=8)
    _roc_keys(figure, line, aggregates)
    return figure


def _floor(aggregates: Sequence[Aggregate]) -> float:
    largest = max(one.leakage["roc"].n for one in aggregates)
    finest = 10.0 ** math.floor(math.log10(2 / max(largest, 2)))
    smallest = min((x for one in aggregates for x in one.leakage["roc"].x if x > 0), default=0.1)
    return min(0.1, max(finest, smallest))


def _roc_panel(
    axis: Axes, aggregates: Sequence[Aggregate], line: Mapping[str, str], floor: float
) -> None:
    import numpy as np

    axis.set(xscale="log", yscale="log", xlim=(floor, 1), ylim=(floor, 1.15))
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(lambda value, _: formatting.percent(value))
    axis.minorticks_off()
    axis.set_box_aspect(1)
    axis.grid(True, color=FAINT, linewidth=0.5)
    axis.plot([floor, 1], [floor, 1], color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    for one in aggregates:
        curve = one.leakage["roc"]
        kept = np.asarray(curve.x) > 0
        x, y, low, high = (
            np.clip(np.asarray(part)[kept], floor / 10, None)
            for part in (curve.x, curve.y, curve.low, curve.high)
        )
        colour = line[one.attack]
        axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0, zorder=2)
        axis.plot(x, y, color=colour, linewidth=1.3, zorder=3)
    _dashes(axis, aggregates)


def _dashes(axis: Axes, aggregates: Sequence[Aggregate]) -> None:
    found = {
        fpr: one.upper_bounds[name]
        for one in aggregates
        for fpr, name in formatting.tpr_names(one.upper_bounds).items()
        if one.upper_bounds[name] is not None and one.row.guarantees
    }
    for fpr, height in found.items():
        axis.plot(
            [fpr / 1.6, fpr * 1.6], [height] * 2, color=INK, linewidth=1.8, zorder=4,
            solid_capstyle="butt",
        )  # fmt: skip


def _roc_keys(figure: Figure, line: Mapping[str, str], aggregates: Sequence[Aggregate]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=c, linewidth=2, label=name) for name, c in line.items()]
    handles.append(Line2D([], [], color=SOFT, linestyle=(0, (2, 3)), label="guessing"))
    if any(v is not None for one in aggregates for v in one.upper_bounds.values()):
        handles.append(Line2D([], [], color=INK, linewidth=1.8, label="bound"))
    size = aggregates[0].row.n_members
    figure.legend(
        handles=handles, loc="outside upper left", ncols=7, fontsize=8, frameon=False,
        title=f"{subject(aggregates)}, {size:,} members in training", title_fontsize=9,
        alignment="left", handlelength=1.4, columnspacing=1.6,
    )  # fmt: skip

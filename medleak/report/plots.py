"""The plots: leakage against accuracy under its ceiling, and log-log ROC curves with bands.

Figures are drawn without pyplot, so that nothing global changes, and saved without dates, so that
the same rows give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from medleak.api import Curve, Estimate
from medleak.report import naming
from medleak.report.aggregated import Aggregate
from medleak.report.tables import headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, SOFT, FAINT = "#26303a", "#75808a", "#dfe3e6"
# Okabe and Ito's palette, darkened until thin lines read on white; safe for the colour-blind.
DEFENSES = (
    "#4a4f57", "#c8641b", "#1f6fb2", "#0f8a6a", "#a8548c", "#8a7a14", "#4aa3d8", "#7a4b2a",
    "#c2456b", "#6a4fa3", "#5b6f1e", "#0b6f7c", "#d9a21b", "#9a9fa6", "#d98a9e", "#8fb339",
)  # fmt: skip
ATTACKS = ("#1b4f72", "#d1662a", "#2f8f6b", "#9b5aa5", "#b8992a", "#5c6670", "#c2456b", "#3aa0c4")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "p", "<", ">", "h", "d", "8")
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    # Names are printed as they are: a dollar sign in one must not start a formula.
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "medleak",
    "pdf.fonttype": 42,
}


def figures(
    aggregates: Sequence[Aggregate], forms: Sequence[str] = ("svg",)
) -> dict[str, dict[str, bytes]]:
    """Plot name -> {form: bytes}: the picture first, then one ROC figure per size.

    Forms are "svg" and "pdf"; the latter takes as long as all the rest.
    """
    measured = [one for one in aggregates if one.status == "ok"]
    if not measured:
        return {}
    drawn: dict[str, dict[str, bytes]] = {}
    for target in dict.fromkeys(one.target for one in measured):
        mine = [one for one in measured if one.target == target]
        drawn[_unused(drawn, f"leakage-{_slug(target)}")] = saved(picture, mine, forms)
    curved = [one for one in measured if isinstance(one.leakage.get("roc"), Curve)]
    for target, size in dict.fromkeys((one.target, one.row.n_members) for one in curved):
        mine = [one for one in curved if (one.target, one.row.n_members) == (target, size)]
        tint = colours([one.defense for one in measured if one.target == target], DEFENSES)
        for names in _chunks([name for name in tint if name in {one.defense for one in mine}]):
            some = [one for one in mine if one.defense in names]
            drawn[_unused(drawn, f"roc-{_slug(target)}-{size}")] = saved(
                partial(roc, tint=tint), some, forms
            )
    return drawn


def _chunks(names: Sequence[str]) -> list[Sequence[str]]:
    """Four defenses to a figure: more would shrink out of sight on a page."""
    return [names[i : i + 4] for i in range(0, len(names), 4)]


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part) or "target"


def _unused(taken: Mapping[str, Any], name: str) -> str:
    return name if name not in taken else f"{name}-{len(taken)}"


def saved(draw: Any, aggregates: Sequence[Aggregate], forms: Sequence[str]) -> dict[str, bytes]:
    """What `draw` makes of `aggregates`, in the style of every plot, as {form: bytes}."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        figure = draw(aggregates)
        # Laid out once for all forms: layout is most of the time that a figure takes.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        return {form: _bytes(figure, form) for form in forms}


def _bytes(figure: Figure, form: str) -> bytes:
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    (FigureCanvasSVG if form == "svg" else FigureCanvasPdf)(figure)
    buffer = io.BytesIO()
    undated = {"Date": None} if form == "svg" else {"CreationDate": None}
    figure.savefig(buffer, format=form, metadata=undated)
    if form == "pdf":
        return buffer.getvalue()
    return re.sub(rb' d="[^"]*"', _rounded, buffer.getvalue())


def _rounded(path: re.Match[bytes]) -> bytes:
    """Hundredths of a point are finer than any screen, and halve the page."""
    return re.sub(rb"(\.\d\d)\d+", rb"\1", path[0])


def colours(names: Sequence[str], palette: Sequence[str]) -> dict[str, str]:
    """A colour per name, in order of appearance."""
    return {name: palette[i % len(palette)] for i, name in enumerate(dict.fromkeys(names))}


def _subject(aggregates: Sequence[Aggregate]) -> str:
    """The target, and whether it is simulated: a plot is shown without its page."""
    first = aggregates[0]
    return f"{first.target} – {naming.SIMULATED}" if first.row.simulated else first.target


def _panels(aggregates: Sequence[Aggregate]) -> list[tuple[str, str]]:
    """(kind of record, unit), natural records first."""
    pairs = dict.fromkeys((one.row.records, one.row.unit) for one in aggregates)
    return sorted(pairs, key=lambda pair: pair[0] != "natural")


# --------------------------------------------------------------------------- the picture


def picture(aggregates: Sequence[Aggregate]) -> Figure:
    """Leakage against accuracy: a panel per kind of record, a line per defense, ceilings as roofs.

    The line follows the strongest attack from size to size; every attack has its own mark.
    """
    from matplotlib.figure import Figure

    metric = headline(aggregates)
    panels = _panels(aggregates)
    across, down = min(2, len(panels)), -(-len(panels) // 2)
    figure = Figure(figsize=(0.9 + 4.3 * across, 0.8 + 3.3 * down), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    axes = grid.ravel()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    tint = colours([one.defense for one in aggregates], DEFENSES)
    mark = dict(zip(dict.fromkeys(one.attack for one in aggregates), MARKERS * 9, strict=False))
    span = _accuracy_span(aggregates)
    for axis, (records, unit) in zip(axes, panels, strict=False):
        mine = [one for one in aggregates if (one.row.records, one.row.unit) == (records, unit)]
        _guess(axis, metric)
        for defense in tint:
            points = [one for one in mine if one.defense == defense and _plottable(one, metric)]
            _roof(axis, points, metric, tint[defense], span)
            _defense(axis, points, metric, tint[defense], mark)
        axis.set_title(naming.kind(records), loc="left", fontsize=10, fontweight="bold")
        axis.set_title(f"unit: {unit}", loc="right", fontsize=8, color=SOFT)
        axis.set_xlabel(_utility_name(aggregates))
    axes[0].set_xlim(span[0], span[1])
    for axis in grid[:, 0]:
        axis.set_ylabel(f"leakage: {naming.metric(metric)} of the attack")
    _limits(axes[0], aggregates, metric)
    _sizes(axes[0], aggregates, metric)
    _keys(figure, aggregates, tint, mark)
    return figure


def _utility_name(aggregates: Sequence[Aggregate]) -> str:
    names = {naming.main_utility(one.utility) for one in aggregates if one.utility}
    return naming.metric(names.pop() or "utility") if len(names) == 1 else "utility"


def _useful(one: Aggregate) -> float | None:
    estimate = one.utility.get(naming.main_utility(one.utility) or "")
    return estimate.value if isinstance(estimate, Estimate) else None


def _plottable(one: Aggregate, metric: str) -> bool:
    estimate = one.leakage.get(metric)
    return isinstance(estimate, Estimate) and None not in (estimate.value, _useful(one))


def _accuracy_span(aggregates: Sequence[Aggregate]) -> tuple[float, float]:
    values = [value for one in aggregates if (value := _useful(one)) is not None] or [0.0, 1.0]
    pad = max(0.03, 0.12 * (max(values) - min(values)))
    return min(values) - pad, max(values) + pad


def _guess(axis: Axes, metric: str) -> None:
    if metric == "auc":
        axis.axhline(0.5, color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
        axis.annotate(
            "guessing", (1, 0.5), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=7, color=SOFT, annotation_clip=False,
        )  # fmt: skip


def _roof(
    axis: Axes, points: Sequence[Aggregate], metric: str, colour: str, span: tuple[float, float]
) -> None:
    """Shade what the guarantee rules out, over the accuracies that the defense reaches."""
    known = [one for one in points if one.row.guarantees and one.ceilings.get(metric) is not None]
    known.sort(key=_useful)
    if not known:
        return
    pad = 0.055 * (span[1] - span[0])
    x = [_useful(known[0]) - pad, *map(_useful, known), _useful(known[-1]) + pad]
    heights = [one.ceilings[metric] for one in known]
    y = [heights[0], *heights, heights[-1]]
    axis.fill_between(x, y, 1.02, color=colour, alpha=0.13, linewidth=0, zorder=1)
    axis.plot(x, y, color=colour, linewidth=1.3, zorder=2)
    axis.annotate(
        f"ceiling at ε = {naming.epsilon(known[0].epsilon)}", (x[0], y[0]), xytext=(3, 4),
        textcoords="offset points", fontsize=7, color=colour, va="bottom",
    )  # fmt: skip


def _defense(
    axis: Axes, points: Sequence[Aggregate], metric: str, colour: str, mark: Mapping[str, str]
) -> None:
    from matplotlib.transforms import ScaledTranslation

    figure = axis.get_figure()
    strongest = []
    for size in sorted({one.row.n_members for one in points}):
        mine = [one for one in points if one.row.n_members == size]
        mine.sort(key=lambda one: -one.leakage[metric].value)
        centre = sum(map(_useful, mine)) / len(mine)
        strongest.append((centre, mine[0].leakage[metric].value))
        for i, one in enumerate(mine):
            # Attacks of one model share its accuracy: the strongest on it, the others beside it.
            aside = 5.5 * ((i + 1) // 2) * (-1) ** i
            shifted = axis.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
            estimate = one.leakage[metric]
            if None not in (estimate.low, estimate.high):
                axis.plot(
                    [centre] * 2, [estimate.low, estimate.high], color=colour, linewidth=1.2,
                    alpha=0.75, transform=shifted, zorder=3, solid_capstyle="round",
                )  # fmt: skip
            axis.plot(
                centre, estimate.value, mark[one.attack], color=colour, transform=shifted,
                markersize=4.6, markeredgecolor="white", markeredgewidth=0.5, zorder=5,
            )  # fmt: skip
    if strongest:
        x, y = zip(*strongest, strict=True)
        axis.plot(x, y, color=colour, linewidth=1.1, alpha=0.55, zorder=2)


def _limits(axis: Axes, aggregates: Sequence[Aggregate], metric: str) -> None:
    lows = [
        e.low if e.low is not None else e.value
        for one in aggregates
        if _plottable(one, metric) and (e := one.leakage[metric])
    ]
    floor = min([*lows, 0.5 if metric == "auc" else 0.0])
    axis.set_ylim(max(0.0, floor - 0.03), 1.005)


def _sizes(axis: Axes, aggregates: Sequence[Aggregate], metric: str) -> None:
    sizes = sorted({one.row.n_members for one in aggregates if _plottable(one, metric)})
    if len(sizes) > 1:
        told = " → ".join(f"{size:,}" for size in sizes)
        axis.figure.supxlabel(
            f"along each line: {told} members in training, strongest attack of each size",
            fontsize=8, color=SOFT,
        )  # fmt: skip


def _keys(
    figure: Figure, aggregates: Sequence[Aggregate], tint: Mapping[str, str], mark: Mapping
) -> None:
    from matplotlib.lines import Line2D

    def promise(defense: str) -> str:
        one = next(one for one in aggregates if one.defense == defense)
        metric = headline(aggregates)
        vacuous = one.row.guarantees and one.ceiling(metric) == naming.VACUOUS
        return f"{defense} (ceiling vacuous)" if vacuous else defense

    lines = [
        Line2D([], [], color=colour, linewidth=2.2, label=promise(name))
        for name, colour in tint.items()
    ]
    marks = [
        Line2D([], [], color=SOFT, marker=shape, linestyle="", markersize=5, label=name)
        for name, shape in mark.items()
    ]
    columns = max(len(lines), len(marks))
    handles = [*lines, *marks]
    if columns <= 5:
        # Legends fill column by column: paired, defenses make the first row, attacks the second.
        blank = Line2D([], [], linestyle="", label=" ")
        pairs = zip_longest(lines, marks, fillvalue=blank)
        handles = [handle for pair in pairs for handle in pair]
    columns = min(columns, 5)
    figure.legend(
        handles=handles, loc="outside upper left", ncols=columns, fontsize=8, frameon=False,
        handlelength=1.4, columnspacing=1.6, title=_subject(aggregates), title_fontsize=9,
        alignment="left",
    )  # fmt: skip


# --------------------------------------------------------------------------- ROC


def roc(aggregates: Sequence[Aggregate], *, tint: Mapping[str, str]) -> Figure:
    """Log-log ROC: a row per kind of record, a column per defense, a band per attack.

    Where the guarantee has a ceiling at some false-positive rate, a dash marks it.
    """
    from matplotlib.figure import Figure

    panels = _panels(aggregates)
    defenses = list(dict.fromkeys(one.defense for one in aggregates))
    line = colours([one.attack for one in aggregates], ATTACKS)
    figure = Figure(
        figsize=(0.8 + 2.35 * max(2, len(defenses)), 0.7 + 2.35 * len(panels)), layout="constrained"
    )
    axes = figure.subplots(len(panels), len(defenses), sharex=True, sharey=True, squeeze=False)
    floor = _floor(aggregates)
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
        axes[row, 0].set_ylabel(f"{naming.kind(records)}\ntrue-positive rate", fontsize=8)
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
        scale.set_major_formatter(lambda value, _: naming.percent(value))
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
        fpr: one.ceilings[name]
        for one in aggregates
        for fpr, name in naming.tpr_names(one.ceilings).items()
        if one.ceilings[name] is not None and one.row.guarantees
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
    if any(v is not None for one in aggregates for v in one.ceilings.values()):
        handles.append(Line2D([], [], color=INK, linewidth=1.8, label="ceiling"))
    size = aggregates[0].row.n_members
    figure.legend(
        handles=handles, loc="outside upper left", ncols=7, fontsize=8, frameon=False,
        title=f"{_subject(aggregates)}, {size:,} members in training", title_fontsize=9,
        alignment="left", handlelength=1.4, columnspacing=1.6,
    )  # fmt: skip

"""Which figures a report has, and the first of them: leakage against accuracy under its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from medleak.api import Curve, Estimate
from medleak.api.goal_report import GoalReport
from medleak.report import charts, curves, formatting, tampering
from medleak.report.columns import bound_text, utility_name
from medleak.report.drawing import DEFENSES, MARKERS, SOFT, colours, kinds, saved, subject, useful
from medleak.report.specs import headline, specs
from medleak.report.tradeoffs import tradeoff
from medleak.results.aggregate import Aggregate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figures(
    aggregates: Sequence[Aggregate], forms: Sequence[str] = ("svg",)
) -> dict[str, dict[str, bytes]]:
    """Plot name -> {form: bytes}: the leakage figures first, then gains, then ROC figures, those of
    clients who check what they receive last.

    Forms are "svg" and "pdf"; the latter takes as long as all the rest.
    """
    measured = [one for one in aggregates if one.status == "ok"]
    drawn: dict[str, dict[str, bytes]] = {}

    def add(name: str, draw: Any, some: Sequence[Aggregate]) -> None:
        drawn[name if name not in drawn else f"{name}-{len(drawn)}"] = saved(draw, some, forms)

    def tint(target: str) -> dict[str, str]:
        return colours([one.defense for one in measured if one.target == target], DEFENSES)

    def roc(name: str, some: Sequence[Aggregate], floor: float | None = None) -> None:
        for target, size, mine in _places(some):
            for names in _chunks([n for n in tint(target) if n in {one.defense for one in mine}]):
                draw = partial(curves.roc, tint=tint(target), floor=floor)
                add(f"{name}-{_slug(target)}-{size}", draw, [o for o in mine if o.defense in names])

    goals = specs(measured)
    for spec, lines in goals:
        if "leakage" in spec.figures:
            for target in dict.fromkeys(one.target for one in lines):
                mine = [one for one in lines if one.target == target]
                draw = partial(picture, spec=spec, tint=tint(target))
                add(f"leakage-{_slug(target)}", draw, mine)
    priced = [one for spec, lines in goals if "tradeoff" in spec.figures for one in lines]
    priced += [one for one in measured if one.cost.get("query_overhead")]
    for target in dict.fromkeys(one.target for one in priced):
        mine = [one for one in measured if one.target == target]
        add(f"tradeoff-{_slug(target)}", partial(tradeoff, tint=tint(target)), mine)
    # What a grid lists without running it is in its tables; a picture of it would hold little else.
    there = [one for one in aggregates if one.status != "not_run"]
    for spec, lines in specs(there):
        for target, size, mine in _places(lines) if "gains" in spec.figures else ():
            if any(one.status == "ok" for one in mine):
                draw = partial(charts.gained, spec=spec, tint=tint(target))
                for names in charts.chunks(mine):
                    name = f"{spec.anchor}-{_slug(target)}-{size}"
                    add(name, draw, [one for one in mine if one.defense in names])
    for spec, lines in goals:
        if "roc" in spec.figures:
            roc("roc", [one for one in lines if isinstance(one.leakage.get("roc"), Curve)])
    roc("detector", tampering.curved(measured), tampering.FLOOR)
    return drawn


def _places(lines: Sequence[Aggregate]) -> list[tuple[str, int, list[Aggregate]]]:
    """(target, members, its lines)."""
    found: dict[tuple[str, int], list[Aggregate]] = {}
    for one in lines:
        found.setdefault((one.target, one.row.n_members), []).append(one)
    return [(*place, mine) for place, mine in found.items()]


def _chunks(names: Sequence[str]) -> list[Sequence[str]]:
    """Four defenses to a figure: more would shrink out of sight on a page."""
    return [names[i : i + 4] for i in range(0, len(names), 4)]


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() and c.isascii() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part) or "target"


# --------------------------------------------------------------------------- the picture


def picture(
    aggregates: Sequence[Aggregate], spec: GoalReport, *, tint: Mapping[str, str]
) -> Figure:
    """Leakage against accuracy: a panel per kind of record, a line per defense, bounds shaded.

    The line follows the strongest attack from size to size; every attack has its own mark.
    """
    from matplotlib.figure import Figure

    metric = headline(spec, aggregates)
    panels = kinds(aggregates)
    across, down = min(2, len(panels)), -(-len(panels) // 2)
    figure = Figure(figsize=(0.9 + 4.3 * across, 0.8 + 3.3 * down), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    axes = grid.ravel()
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    mine = {one.defense for one in aggregates}
    tint = {name: colour for name, colour in tint.items() if name in mine}
    mark = dict(zip(dict.fromkeys(one.attack for one in aggregates), MARKERS * 9, strict=False))
    span = _accuracy_span(aggregates)
    for axis, (records, unit) in zip(axes, panels, strict=False):
        mine = [one for one in aggregates if (one.row.records, one.row.unit) == (records, unit)]
        if spec.guess is not None and metric == spec.headline:
            _guess(axis, spec.guess)
        for defense in tint:
            points = [one for one in mine if one.defense == defense and _plottable(one, metric)]
            _roof(axis, points, metric, tint[defense], span)
            _defense(axis, points, metric, tint[defense], mark)
        axis.set_title(formatting.kind(records, spec), loc="left", fontsize=10, fontweight="bold")
        if ", " not in records:  # a share of a kind: its panel stands beside that of the whole
            axis.set_title(f"unit: {unit}", loc="right", fontsize=8, color=SOFT)
        axis.set_xlabel(utility_name(aggregates))
    axes[0].set_xlim(span[0], span[1])
    for axis in grid[:, 0]:
        axis.set_ylabel(f"leakage: {formatting.metric(metric, spec)} of the attack")
    _limits(axes[0], aggregates, metric, spec)
    _sizes(axes[0], aggregates, metric)
    _keys(figure, aggregates, metric, tint, mark)
    return figure


def _plottable(one: Aggregate, metric: str) -> bool:
    estimate = one.leakage.get(metric)
    return isinstance(estimate, Estimate) and None not in (estimate.value, useful(one))


def _accuracy_span(aggregates: Sequence[Aggregate]) -> tuple[float, float]:
    values = [value for one in aggregates if (value := useful(one)) is not None] or [0.0, 1.0]
    pad = max(0.03, 0.12 * (max(values) - min(values)))
    return min(values) - pad, max(values) + pad


def _guess(axis: Axes, level: float) -> None:
    axis.axhline(level, color=SOFT, linewidth=0.8, linestyle=(0, (2, 3)), zorder=1)
    axis.annotate(
        "guessing", (1, level), xycoords=("axes fraction", "data"), xytext=(3, 0),
        textcoords="offset points", va="center", fontsize=7, color=SOFT, annotation_clip=False,
    )  # fmt: skip


def _roof(
    axis: Axes, points: Sequence[Aggregate], metric: str, colour: str, span: tuple[float, float]
) -> None:
    """Shade what the guarantee rules out, over the accuracies that the defense reaches."""
    known = [
        one for one in points if one.row.guarantees and one.upper_bounds.get(metric) is not None
    ]
    known.sort(key=useful)
    if not known:
        return
    pad = 0.055 * (span[1] - span[0])
    x = [useful(known[0]) - pad, *map(useful, known), useful(known[-1]) + pad]
    heights = [one.upper_bounds[metric] for one in known]
    y = [heights[0], *heights, heights[-1]]
    axis.fill_between(x, y, 1.02, color=colour, alpha=0.13, linewidth=0, zorder=1)
    axis.plot(x, y, color=colour, linewidth=1.3, zorder=2)
    axis.annotate(
        f"bound at ε = {formatting.epsilon(known[0].epsilon)}", (x[0], y[0]), xytext=(3, 4),
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
        centre = sum(map(useful, mine)) / len(mine)
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


def _limits(axis: Axes, aggregates: Sequence[Aggregate], metric: str, spec: GoalReport) -> None:
    lows = [
        e.low if e.low is not None else e.value
        for one in aggregates
        if _plottable(one, metric) and (e := one.leakage[metric])
    ]
    guess = spec.guess if metric == spec.headline else None
    floor = min([*lows, guess or 0.0])
    axis.set_ylim(max(0.0, floor - 0.03), 1.005)


def _sizes(axis: Axes, aggregates: Sequence[Aggregate], metric: str) -> None:
    sizes = sorted({one.row.n_members for one in aggregates if _plottable(one, metric)})
    if len(sizes) > 1:
        steps = " → ".join(f"{size:,}" for size in sizes)
        axis.figure.supxlabel(
            f"along each line: {steps} members in training, strongest attack of each size",
            fontsize=8, color=SOFT,
        )  # fmt: skip


def _keys(
    figure: Figure, aggregates: Sequence[Aggregate], metric: str, tint: Mapping, mark: Mapping
) -> None:
    from matplotlib.lines import Line2D

    def promise(defense: str) -> str:
        one = next(one for one in aggregates if one.defense == defense)
        vacuous = bound_text(one.find("leakage", metric)) == formatting.VACUOUS
        return f"{defense} (bound vacuous)" if vacuous else defense

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
        handlelength=1.4, columnspacing=1.6, title=subject(aggregates), title_fontsize=9,
        alignment="left",
    )  # fmt: skip

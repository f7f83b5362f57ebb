"""The columns of a goal's tables, filled from the measures of each result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from medleak.api.goal_report import GoalReport, ReportColumn
from medleak.report import formatting
from medleak.report.cells import Cell, Column, coordinate, estimate, text
from medleak.report.specs import headline, spec_of
from medleak.results.aggregate import Aggregate, metric_names, status_name
from medleak.results.frame import without
from medleak.results.measures import Measure

Lines = Sequence[Aggregate]


def _asked_axes(spec: GoalReport) -> list[str]:
    """Axes of the attack that have a column of their own."""
    return [shown.measure for shown in spec.coordinates if shown.what == "asked"]


def _attack(spec: GoalReport) -> Callable[[Aggregate], str]:
    hidden = _asked_axes(spec)
    return lambda one: one.labelled(one.row.attack, "attack", hidden=hidden)


def coordinates(spec: GoalReport) -> list[Column]:
    """The columns that say where a line stands."""
    getters: Mapping[str, Callable[[Aggregate], object]] = {
        "target": lambda one: one.target,
        "members": lambda one: one.row.n_members,
        "defense": lambda one: one.defense,
        "attack": _attack(spec),
        "records": lambda one: formatting.kind(one.row.records, spec),
        "unit": lambda one: one.row.unit,
        "asked": lambda one: formatting.asked(one.row),
    }
    return [
        replace(
            coordinate(shown.label or shown.measure or shown.what, getters[shown.what]),
            fold=shown.fold,
            terminal=shown.terminal,
        )
        for shown in spec.coordinates
    ]


def measure(name: str, spec: GoalReport, header: str = "") -> Column:
    """A figure with its interval; red where it lies above its bound."""

    def cell(one: Aggregate) -> Cell:
        found = one.find("leakage", name)
        tone = "alarm" if found and found.violated else ""
        return estimate(found, tone, formatting.label_of(name, spec).digits)

    header = header or formatting.metric(name, spec)
    return Column(header, cell, short=formatting.short(name, spec))


def bound(name: str, spec: GoalReport) -> Column:
    """The most that the guarantees allow; a dash where none speaks of this attacker."""

    def cell(one: Aggregate) -> Cell:
        shown = bound_text(one.find("leakage", name))
        known = shown not in (formatting.NONE, formatting.VACUOUS)
        return Cell(shown, sort=one.upper_bounds[name] if known else None)

    return Column(formatting.metric(name, spec, "bound"), cell, short="bound")


def bound_text(found: Measure | None) -> str:
    """A bound as printed: a number, ``vacuous``, or a dash where no guarantee binds."""
    if found is None or found.bound_status not in ("limited", "vacuous"):
        return formatting.NONE
    return formatting.limit(found.name, found.bound)


def gain(name: str, spec: GoalReport, header: str = "gain") -> Column:
    """The excess over the best baseline, in bold where its whole interval lies above 0."""
    digits = formatting.label_of(name, spec).digits

    def cell(one: Aggregate) -> Cell:
        found = one.find("excess", name)
        tone = "strong" if found is not None and found.sure else ""
        return estimate(rounded(found, digits), tone, digits)

    return Column(header, cell)


def rounded(found: Measure | None, digits: int) -> Measure | None:
    """Rounded, and without -0.0, which would read as a loss."""
    if found is None:
        return None
    parts = {name: getattr(found, name) for name in ("value", "low", "high")}
    known = {k: round(v, digits) + 0.0 for k, v in parts.items() if v is not None}
    return replace(found, **known)


def best_baseline(name: str, spec: GoalReport) -> Column:
    """What is known without the attack's source."""
    digits = formatting.label_of(name, spec).digits

    def cell(one: Aggregate) -> Cell:
        value = without(one, name)
        return Cell(formatting.number(value, digits), sort=value)

    return Column(f"without the {spec.source}", cell, short="without")


def worst_group(name: str, spec: GoalReport) -> Column:
    def cell(one: Aggregate) -> Cell:
        if name not in one.worst_group:
            return Cell(formatting.NONE)
        group, found = one.worst_group[name]
        digits = formatting.label_of(name, spec).digits
        return Cell(formatting.number(found.value, digits), group, found.value)

    short = f"worst {formatting.short(name, spec)}"
    return Column(f"worst-group {formatting.metric(name, spec)}", cell, short=short)


def _promise(one: Aggregate) -> Cell:
    if not one.promises:
        return Cell(formatting.NONE)
    best = min(one.promises, key=lambda promise: promise["epsilon"])
    details = [] if best["unit"] == "record" else [best["unit"]]
    details += [] if one.binds(best) else [f"not against the {one.role}"]
    detail = f"({', '.join(details)})" if details else ""
    return Cell(formatting.epsilon(best["epsilon"]), detail, best["epsilon"])


def cost(name: str) -> Column:
    """Seconds, bytes or a count."""

    def cell(one: Aggregate) -> Cell:
        value = one.cost.get(name)
        return Cell(formatting.cost(name)(value), sort=value)

    return Column(formatting.cost_name(name), cell)


def shadows(one: Aggregate) -> Cell:
    if not one.row.n_shadows:
        return Cell(formatting.NONE, sort=0)
    return Cell(str(one.row.n_shadows), one.row.pool, one.row.n_shadows)


def _size(name: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        found = one.find("leakage", name)
        return text(found.n if found else None)

    return cell


def utility(name: str | None = None) -> Callable[[Aggregate], Cell]:
    """One utility metric, or the main one."""

    def cell(one: Aggregate) -> Cell:
        return estimate(one.find("utility", name or formatting.main_utility(one.utility) or ""))

    return cell


def utility_name(lines: Iterable[Aggregate]) -> str:
    """The printed name of the main utility metric, where all have the same."""
    names = {formatting.main_utility(one.utility) for one in lines if one.utility}
    return formatting.metric(names.pop() or "utility") if len(names) == 1 else "utility"


def _status(one: Aggregate) -> Cell:
    spec = spec_of(one.row.goal)
    above = ", ".join(formatting.metric(name, spec) for name in one.violations)
    if above:
        return Cell("ok", f"above the bound: {above}", "ok", "alarm")
    missing = "; ".join(
        f"{count} of {len(one.asked)} seeds {status_name(status)}"
        for status, _, count in one.missing
    )
    return Cell(status_name(one.status), missing if one.status == "ok" else "", one.status)


def _seeds(one: Aggregate) -> Cell:
    shown = f"{len(one.seeds)} of {len(one.asked)}" if one.missing else str(len(one.asked))
    return Cell(shown, sort=len(one.seeds))


OUTCOME = (
    Column("seeds", _seeds, measured=False, fold=True, terminal=False),
    Column("status", _status, measured=False),
)


def columns_for(spec: GoalReport, shown: ReportColumn, lines: Lines) -> list[Column]:
    """The column that `shown` stands for; none where the lines have nothing for it."""
    name = shown.measure
    makers: Mapping[str, Callable[[], Column]] = {
        "utility": lambda: Column(utility_name(lines), utility()),
        "measure": lambda: measure(name, spec, shown.label),
        "without": lambda: best_baseline(name, spec),
        "gain": lambda: gain(name, spec),
        "worst group": lambda: worst_group(name, spec),
        "bound": lambda: bound(name, spec),
        "promise": lambda: Column("ε", _promise),
        "cost": lambda: cost(name),
        "n": lambda: Column("n", _size(name)),
        "shadows": lambda: Column("shadows", shadows),
    }
    head = headline(spec, lines)
    there = {
        "measure": name == head or name in metric_names(lines),
        "bound": name == head or name in promised(lines),
        "worst group": any(one.worst_group for one in lines),
        "cost": any(name in one.cost for one in lines),
    }
    if not there.get(shown.what, True):
        return []
    made = makers[shown.what]()
    header = shown.label or made.header
    if shown.what in ("without", "gain") and sum(c.what == shown.what for c in spec.columns) > 1:
        header = f"{formatting.metric(name, spec)} {header}"
    return [
        replace(made, header=header, fold=shown.fold, detail=shown.detail, terminal=shown.terminal)
    ]


def promised(lines: Lines) -> set[str]:
    return {name for one in lines if one.row.guarantees for name in one.upper_bounds}


def fitted(spec: GoalReport, lines: Lines) -> list[ReportColumn]:
    """The spec's columns, with the headline that these lines have in place of its own."""
    head = headline(spec, lines)
    if head == spec.headline:
        return list(spec.columns)
    return [
        replace(shown, measure=head) if shown.measure == spec.headline else shown
        for shown in spec.columns
        if shown.measure != head
    ]

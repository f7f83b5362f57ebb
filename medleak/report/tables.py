"""Tables as data, made from the spec of each goal; `text_tables` prints them, `pages` as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from medleak.api import Estimate
from medleak.api.goal_report import GoalReport
from medleak.report import epsilon_star, formatting, tampering
from medleak.report.cells import Cell, Column, Table, build, coordinate, estimate
from medleak.report.columns import (
    OUTCOME,
    Lines,
    bound,
    columns_for,
    coordinates,
    cost,
    fitted,
    gain,
    measure,
    promised,
    shadows,
    utility,
    worst_group,
)
from medleak.report.specs import headline, specs
from medleak.results.aggregate import Aggregate, metric_names, one_kind, status_name
from medleak.results.frame import gains

if TYPE_CHECKING:
    import pandas as pd

# --------------------------------------------------------------------------- tables of a goal


def results(spec: GoalReport, lines: Lines) -> Table:
    """The main table of a goal."""
    shown = [column for one in fitted(spec, lines) for column in columns_for(spec, one, lines)]
    remarks = _small_groups(spec, lines) if any(one.worst_group for one in lines) else []
    name = f"results-{spec.anchor}"
    return build(spec.title, [*coordinates(spec), *shown, *OUTCOME], lines, remarks, name)


def main(spec: GoalReport, lines: Lines) -> list[Table]:
    """The main table, or one for each block under a heading of its own."""
    if not spec.split:
        return [results(spec, lines)]
    return [
        replace(results(spec, block), title=f"{spec.title}: {_heading(spec, block)}")
        for block in blocks(lines)
    ]


def _heading(spec: GoalReport, block: Lines) -> str:
    one = next((one for one in block if one.row.records), block[0])
    kind = f", {formatting.kind(one.row.records, spec)}" if one.row.records else ""
    return f"{one.target}, {one.row.n_members:,} members{kind}"


def blocks(lines: Iterable[Aggregate]) -> list[list[Aggregate]]:
    """Aggregates of one goal by (target, members, kind of record, unit).

    A cell without any figure stands in every block of its target and size, where there is one.
    """
    lines = list(lines)
    places = {_block(one): None for one in lines if one.row.records}
    lonely = {_block(one) for one in lines} - {(*place[:2], "", "") for place in places}
    return [
        [one for one in lines if _block(one) in (place, (*place[:2], "", ""))]
        for place in [*places, *sorted(place for place in lonely if not place[2])]
    ]


def _block(one: Aggregate) -> tuple[str, int, str, str]:
    unit = one.row.unit if one.row.records else ""
    return one.target, one.row.n_members, one.row.records, unit


def subgroups(spec: GoalReport, lines: Lines) -> Table:
    """The headline in each subgroup, the most exposed one in bold."""
    head = headline(spec, lines)
    kept = [one for one in lines if any(head in block for block in one.groups.values())]
    names = sorted({group for one in kept for group in one.groups})
    digits = formatting.label_of(head, spec).digits

    def of(group: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            worst = one.worst_group.get(head, ("",))[0] == group
            return estimate(one.find("group", head, group=group), "strong" * worst, digits)

        return cell

    columns = [worst_group(head, spec), *(Column(group, of(group)) for group in names)]
    return build(
        f"{spec.title}: {formatting.metric(head, spec)} by subgroup",
        [*coordinates(spec), *columns],
        kept,
        _small_groups(spec, kept),
        f"subgroups-{spec.anchor}",
    )


def _small_groups(spec: GoalReport, lines: Lines) -> list[str]:
    """What a worst group was chosen from, where some groups were too small to be among them."""
    head = headline(spec, lines)
    found = ([g[head] for g in one.groups.values() if head in g] for one in lines)
    counts = [(sum(e.value is not None for e in some), len(some)) for some in found if some]
    if all(measured == total for measured, total in counts):
        return []
    low, high = min(m for m, _ in counts), max(m for m, _ in counts)
    span = f"{low}" if low == high else f"{low} to {high}"
    total = max(total for _, total in counts)
    return [f"worst group: of {span} measured, {total} in all (the others are too small)"]


def targets(spec: GoalReport, lines: Lines) -> Table:
    """Where several runs served as the target in turn, from the first measured seed on."""
    mine = [one for one in lines if one.row.spread]
    names = dict.fromkeys(m.name for one in mine for m in one.measures if m.kind == "spread")

    def spread(name: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            found = [one.find("spread", name, group=part) for part in ("mean", "sd", "min", "max")]
            if None in found:
                return Cell(formatting.NONE)
            mean, sd, least, most = (formatting.number(part.value) for part in found)
            return Cell(f"{mean} ± {sd}", f"{least} to {most}", found[0].value)

        return cell

    columns = [
        Column("targets", lambda one: Cell(str(one.row.n_targets), sort=one.row.n_targets)),
        Column("from seed", lambda one: Cell(str(one.row.seed), sort=one.row.seed)),
        *(Column(f"{formatting.metric(n, spec)} over targets", spread(n)) for n in names),
    ]
    title = f"{spec.title}: targets in turn"
    return build(title, [*coordinates(spec), *columns], mine, name=f"targets-{spec.anchor}")


def baselines(spec: GoalReport, lines: Lines) -> Table:
    """What each baseline reaches."""
    mine = [one for one in lines if one.baselines]
    names = list(dict.fromkeys(name for one in mine for name in one.baselines))
    shown = dict.fromkeys([headline(spec, lines), *spec.compared])

    def of(baseline: str, name: str) -> Callable[[Aggregate], Cell]:
        digits = formatting.label_of(name, spec).digits
        return lambda one: estimate(one.find("baseline", name, baseline=baseline), digits=digits)

    columns = [
        Column(f"{formatting.metric(measure, spec)}: {name}", of(name, measure))
        for measure in shown
        for name in names
        if any(measure in one.baselines.get(name, {}) for one in mine)
    ]
    title = f"{spec.title}: without the {spec.source}"
    return build(title, [*coordinates(spec), *columns], mine, name=f"baselines-{spec.anchor}")


def further(spec: GoalReport, lines: Lines) -> Table:
    """Every measure, gain, bound and utility that the main table leaves out."""
    kept = [one for one in lines if one.status == "ok"]
    names = metric_names(kept)
    main = {(shown.what, shown.measure) for shown in fitted(spec, kept)}
    gained = [name for name in names if any(name in one.excess for one in kept)]
    limited = promised(kept)
    utilities = dict.fromkeys(name for one in kept for name in one.utility)
    columns = [measure(name, spec) for name in names if ("measure", name) not in main]
    columns += [
        gain(name, spec, formatting.metric(name, spec, "gain"))
        for name in gained
        if ("gain", name) not in main
    ]
    columns += [
        replace(bound(name, spec), fold=True)
        for name in names
        if name in limited and ("bound", name) not in main
    ]
    columns += [Column(formatting.metric(name), utility(name)) for name in utilities]
    title = f"{spec.title}: further measures"
    remarks = _blank(spec, kept)
    return build(title, [*coordinates(spec), *columns], kept, remarks, f"further-{spec.anchor}")


def _blank(spec: GoalReport, lines: Lines) -> list[str]:
    """Measures that are a number in no line: they are named, never dropped."""
    known, names = metric_names(lines), {}
    for one in lines:
        names |= {m.name: m for m in one.measures if m.kind == "leakage" and m.name not in known}
    drawn = {"roc"} if "roc" in spec.figures else set()
    reasons = {n: "a curve" if m.points else m.flag.partition(";")[0] for n, m in names.items()}
    return [
        f"no figure: {formatting.metric(name, spec)}" + f" ({reason})" * bool(reason)
        for name, reason in reasons.items()
        if name not in drawn
    ]


def controls(spec: GoalReport, lines: Lines) -> Table:
    """Every control that is a number, and the replica check."""

    def replica(one: Aggregate) -> Cell:
        if one.replica is None:
            return Cell(formatting.NONE)
        ok, notes = one.replica
        return Cell("passed" if ok else "failed", "; ".join(notes), ok, "" if ok else "alarm")

    kept = [one for one in lines if one.controls or one.replica is not None]
    place = coordinates(spec)
    # Where no kind of record has controls of its own, one line for each cell says it all.
    alike = {}
    for one in kept:
        cell = (one.target, one.row.n_members, one.defense, one.attack, one.row.unit)
        alike.setdefault(cell, []).append(one)
    if all(one.controls == some[0].controls for some in alike.values() for one in some):
        kept = [some[0] for some in alike.values()]
        apart = {shown.label or "records" for shown in spec.coordinates if shown.what == "records"}
        place = [column for column in place if column.header not in apart]
    headers = {"blind_auc": "blind AUC (without the model)"}
    names = dict.fromkeys(m.name for one in kept for m in one.measures if m.kind == "control")
    columns = [
        Column(
            headers.get(name, formatting.metric(name)),
            lambda one, name=name: estimate(one.find("control", name)),
        )
        for name in names
    ]
    if any(one.replica for one in kept):
        columns.append(Column("replica check", replica, detail=True))
    title = f"{spec.title}: controls"
    return build(title, [*place, *columns], kept, name=f"controls-{spec.anchor}")


def of_goal(spec: GoalReport, lines: Lines) -> list[Table]:
    """What follows the main table of a goal, as far as there is anything to show."""
    made = [make(spec, lines) for make in (targets, subgroups, baselines, further, controls)]
    return [table for table in made if table.lines]


# --------------------------------------------------------------------------- of all goals


def costs(lines: Lines) -> Table:
    """Seconds, bytes and queries, means over seeds."""
    kept = one_kind(lines)
    names = dict.fromkeys(name for one in kept for name in one.cost)
    known = [n for n in formatting.COSTS if n in names]
    known += [n for n in names if n not in formatting.COSTS]
    columns = [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("defense", lambda one: one.defense, fold=False),
        coordinate("attack", lambda one: one.attack, fold=False),
        coordinate("unit", lambda one: one.row.unit),
        *(replace(cost(name), fold=True) for name in known),
        Column("shadows", shadows, fold=True),
    ]
    return build("Cost", columns, kept, name="cost")


def printed(aggregates: Lines) -> list[Table]:
    """The tables of the Markdown and LaTeX files: the main ones, then everything else."""
    found = specs(aggregates)
    made = [table for spec, lines in found for table in main(spec, lines)]
    made.append(epsilon_star.table(aggregates))
    made += [table for spec, lines in found for table in of_goal(spec, lines)]
    made += [tampering.table(aggregates), costs(aggregates)]
    return [table for table in made if table.lines]


# --------------------------------------------------------------------------- flat


def flat(aggregates: Iterable[Aggregate]) -> pd.DataFrame:
    """Every aggregate as one flat line, with full precision, for a spreadsheet."""
    import pandas as pd

    aggregates = list(aggregates)
    series = epsilon_star.series(aggregates)
    return pd.DataFrame([_flat(one) | epsilon_star.flat(one, series) for one in aggregates])


def _flat(one: Aggregate) -> dict[str, object]:
    row = one.row
    line: dict[str, object] = {
        "goal": row.goal, "target": row.target, "data": row.data, "simulated": row.simulated,
        "n_members": row.n_members, "defense": row.defense, "attack": row.attack, **row.extra,
        "records": row.records, "unit": row.unit, "pool": row.pool, "n_shadows": row.n_shadows,
        "status": status_name(one.status), "note": one.note,
        "seeds": " ".join(map(str, one.seeds)), "seeds_asked": " ".join(map(str, one.asked)),
        "epsilon": one.epsilon,
    }  # fmt: skip
    for name, value in [*one.leakage.items(), *one.utility.items()]:
        if isinstance(value, Estimate):
            line |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            line |= {f"{name}_n": value.n, f"{name}_flag": value.flag}
        if row.guarantees and name in one.upper_bounds:
            upper_bound = one.upper_bounds[name]
            line[f"{name}_ceiling"] = formatting.VACUOUS if upper_bound is None else upper_bound
        if name in one.worst_group:
            group, worst = one.worst_group[name]
            line |= {f"{name}_worst_group": group, f"{name}_worst": worst.value}
    blind = {"blind_auc": one.blind.value} if one.blind else {}
    for name, found in one.tampering.items():
        if isinstance(found, Estimate):
            line |= {f"tampering_{name}": found.value, f"tampering_{name}_low": found.low}
            line |= {f"tampering_{name}_high": found.high, f"tampering_{name}_n": found.n}
    return line | gains(one) | blind | {"violations": " ".join(one.violations)} | dict(one.cost)

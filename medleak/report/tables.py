"""Tables as data: `texts` prints them as text, Markdown and LaTeX, `pages` as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medleak.api import Curve, Estimate
from medleak.report import naming
from medleak.report.aggregated import Aggregate

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cell:
    """`text`, a `detail` beside it, what to `sort` by, a `tone`, and the `bounds` of a value."""

    text: str
    detail: str = ""
    sort: float | str | None = None
    tone: str = ""
    bounds: tuple[float, float] | None = None

    @property
    def full(self) -> str:
        shown = naming.interval(*self.bounds) if self.bounds else ""
        return " ".join(part for part in (self.text, shown, self.detail) if part)


@dataclass(frozen=True)
class Line:
    """Cells in order; a `span` stands in place of the cells that were not measured."""

    cells: tuple[Cell, ...]
    span: str = ""


@dataclass(frozen=True)
class Column:
    """A header and how an aggregate fills it.

    Attributes:
        measured: empty where nothing was measured; such columns give way to the reason.
        fold: told once in the caption when every line says the same.
        brief: left out of the terminal's detail; `terminal` False leaves out the column.
    """

    header: str
    cell: Callable[[Aggregate], Cell]
    measured: bool = True
    fold: bool = False
    brief: bool = True
    terminal: bool = True


@dataclass(frozen=True)
class Table:
    """A table ready to print: `measured` marks the columns that a line's span covers."""

    title: str
    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def span_at(self) -> tuple[int, int]:
        """First column that a span covers, and how many."""
        covered = [i for i, column in enumerate(self.columns) if column.measured]
        return (covered[0], len(covered)) if covered else (len(self.columns), 0)


# --------------------------------------------------------------------------- cells


def _text(value: object, tone: str = "") -> Cell:
    return Cell(str(value) if value not in (None, "") else naming.NONE, sort=value, tone=tone)


def _estimate(estimate: Estimate | Curve | None, tone: str = "") -> Cell:
    if not isinstance(estimate, Estimate) or estimate.value is None:
        return Cell(naming.NONE)
    known = None not in (estimate.low, estimate.high)
    few = " *" if naming.coarse(estimate.flag) else ""
    one_sided = estimate.high is None and estimate.low == estimate.value
    return Cell(
        naming.bound(estimate.value) if one_sided else naming.number(estimate.value) + few,
        sort=estimate.value,
        tone=tone,
        bounds=(estimate.low, estimate.high) if known else None,
    )


def _metric(name: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        return _estimate(one.leakage.get(name), "alarm" if name in one.violations else "")

    return cell


def _worst(name: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        if name not in one.worst_group:
            return Cell(naming.NONE)
        group, estimate = one.worst_group[name]
        return Cell(naming.number(estimate.value), group, estimate.value)

    return cell


def _ceiling(name: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        text = one.ceiling(name)
        number = one.ceilings.get(name)
        return Cell(text, sort=number if text not in (naming.NONE, naming.VACUOUS) else None)

    return cell


def _epsilon(one: Aggregate) -> Cell:
    if not one.promises:
        return Cell(naming.NONE)
    best = min(one.promises, key=lambda promise: promise["epsilon"])
    detail = "" if best["unit"] == "record" else f"({best['unit']})"
    return Cell(naming.epsilon(best["epsilon"]), detail, best["epsilon"])


def _size(one: Aggregate, name: str) -> Cell:
    estimate = one.leakage.get(name)
    return _text(estimate.n if estimate else None)


def _utility(one: Aggregate) -> Cell:
    return _estimate(one.utility.get(naming.main_utility(one.utility) or ""))


def _status(one: Aggregate) -> Cell:
    above = ", ".join(naming.metric(name) for name in one.violations)
    if above:
        return Cell("ok", f"above the ceiling: {above}", "ok", "alarm")
    short = "; ".join(
        f"{count} of {len(one.asked)} seeds {naming.STATUS[status]}"
        for status, _, count in one.missing
    )
    return Cell(naming.STATUS[one.status], short if one.status == "ok" else "", one.status)


def _seeds(one: Aggregate) -> Cell:
    told = f"{len(one.seeds)} of {len(one.asked)}" if one.missing else str(len(one.asked))
    return Cell(told, sort=len(one.seeds))


def _shadows(one: Aggregate) -> Cell:
    if not one.row.n_shadows:
        return Cell(naming.NONE, sort=0)
    return Cell(str(one.row.n_shadows), one.row.pool, one.row.n_shadows)


# --------------------------------------------------------------------------- the tables


def headline(aggregates: Sequence[Aggregate]) -> str:
    """The metric that stands for leakage in plots and ceilings: AUC, else the first estimate."""
    names = [n for one in aggregates for n, e in one.leakage.items() if isinstance(e, Estimate)]
    return "auc" if "auc" in names or not names else names[0]


def metric_names(aggregates: Iterable[Aggregate]) -> list[str]:
    """Every leakage metric that is a number in some line, in order of appearance."""
    named = (
        name
        for one in aggregates
        for name, e in one.leakage.items()
        if isinstance(e, Estimate) and e.value is not None
    )
    return list(dict.fromkeys(named))


def _shown(aggregates: Sequence[Aggregate]) -> list[str]:
    head = headline(aggregates)
    names = metric_names(aggregates)
    return [head] * (head in names) + list(naming.tpr_names(names).values())


def _roofed(aggregates: Sequence[Aggregate]) -> list[str]:
    """The metrics whose ceilings stand in the main table: the headline and the strictest TPR."""
    shown = _shown(aggregates)
    known = _promised(aggregates)
    return shown[:1] + [name for name in shown[1:][-1:] if name in known]


def _promised(aggregates: Sequence[Aggregate]) -> set[str]:
    return {name for one in aggregates if one.row.guarantees for name in one.ceilings}


def _coordinates(*, folded: bool = True) -> list[Column]:
    def plain(header: str, get: Callable[[Aggregate], object], fold: bool = folded) -> Column:
        return Column(header, lambda one: _text(get(one)), measured=False, fold=fold)

    return [
        plain("target", lambda one: one.target),
        plain("members", lambda one: one.row.n_members),
        plain("defense", lambda one: one.defense, False),
        plain("attack", lambda one: one.attack, False),
        plain("records", lambda one: naming.kind(one.row.records)),
        plain("unit", lambda one: one.row.unit),
    ]


def results(aggregates: Sequence[Aggregate]) -> Table:
    """The main table: utility, leakage, worst group, ceiling, promise, status."""
    head, shown = headline(aggregates), _shown(aggregates)
    utilities = {naming.main_utility(one.utility) for one in aggregates if one.utility}
    utility = naming.metric(utilities.pop()) if len(utilities) == 1 else "utility"
    columns = [
        *_coordinates(),
        Column(utility, _utility),
        *(Column(naming.metric(n), _metric(n), brief=n != head) for n in shown),
        *(
            [Column(f"worst-group {naming.metric(head)}", _worst(head), brief=False)]
            if any(one.worst_group for one in aggregates)
            else []
        ),
        *(
            Column(f"{naming.metric(n)} ceiling", _ceiling(n), terminal=n == head)
            for n in _roofed(aggregates)
        ),
        Column("ε", _epsilon),
        *(
            [Column("audited ε", _metric("epsilon"))]
            if "epsilon" in metric_names(aggregates)
            else []
        ),
        Column("shadows", _shadows, terminal=False),
        Column("n", lambda one: _size(one, head), fold=True),
        Column("seeds", _seeds, measured=False, fold=True),
        Column("status", _status, measured=False),
    ]
    return build("Results", columns, aggregates)


def further(aggregates: Sequence[Aggregate]) -> Table:
    """Every other leakage metric and ceiling, and every utility metric."""
    shown, roofed = _shown(aggregates), _roofed(aggregates)
    more = [name for name in metric_names(aggregates) if name not in (*shown, "epsilon")]
    known = _promised(aggregates)
    roofs = [n for n in metric_names(aggregates) if n in known and n not in roofed]
    utilities = list(dict.fromkeys(name for one in aggregates for name in one.utility))
    columns = [
        *_coordinates(),
        *(Column(naming.metric(name), _metric(name)) for name in more),
        *(Column(f"{naming.metric(name)} ceiling", _ceiling(name)) for name in roofs),
        *(
            Column(naming.metric(name), lambda one, name=name: _estimate(one.utility.get(name)))
            for name in utilities
        ),
    ]
    return build("Further metrics", columns, [one for one in aggregates if one.status == "ok"])


def subgroups(aggregates: Sequence[Aggregate]) -> Table:
    """Leakage of each subgroup, the most exposed one first."""
    head = headline(aggregates)
    kept = [one for one in aggregates if any(head in block for block in one.groups.values())]
    names = sorted({group for one in kept for group in one.groups})

    def of(group: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            worst = one.worst_group.get(head, ("",))[0] == group
            return _estimate(one.groups.get(group, {}).get(head), "strong" if worst else "")

        return cell

    columns = [
        *_coordinates(),
        Column(f"worst-group {naming.metric(head)}", _worst(head)),
        *(Column(group, of(group)) for group in names),
    ]
    return build(f"{naming.metric(head)} by subgroup", columns, kept)


def costs(aggregates: Sequence[Aggregate]) -> Table:
    """Seconds and queries, means over seeds."""

    def second(name: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            value = one.cost.get(name)
            return Cell(naming.seconds(value), sort=value)

        return cell

    def queries(one: Aggregate) -> Cell:
        value = one.cost.get("queries")
        return Cell(naming.NONE if value is None else f"{value:,.0f}", sort=value)

    columns = [
        *_coordinates(),
        Column("training the target", second("train_seconds")),
        Column("training the shadows", second("shadow_seconds")),
        Column("attacking", second("attack_seconds")),
        Column("queries", queries),
        Column("shadows", _shadows),
    ]
    return build("Cost", columns, _one_kind(aggregates))


def targets(aggregates: Sequence[Aggregate]) -> Table:
    """Where several runs served as the target in turn, from the first measured seed on."""
    mine = [one for one in aggregates if one.row.spread]

    def spread(name: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            told = one.row.spread.get(name)
            if told is None:
                return Cell(naming.NONE)
            text = f"{naming.number(told['mean'])} ± {naming.number(told['sd'])}"
            span = f"{naming.number(told['min'])} to {naming.number(told['max'])}"
            return Cell(text, span, told["mean"])

        return cell

    columns = [
        *_coordinates(),
        Column("targets", lambda one: Cell(str(one.row.n_targets), sort=one.row.n_targets)),
        Column("from seed", lambda one: Cell(str(one.row.seed), sort=one.row.seed)),
        *(
            Column(f"{naming.metric(name)} over targets", spread(name))
            for name in _shown(mine)
            if any(name in one.row.spread for one in mine)
        ),
    ]
    return build("Targets in turn", columns, mine)


def controls(aggregates: Sequence[Aggregate]) -> Table:
    """The model-free baseline and the replica check."""

    def replica(one: Aggregate) -> Cell:
        if one.replica is None:
            return Cell(naming.NONE)
        ok, notes = one.replica
        return Cell("passed" if ok else "failed", "; ".join(notes), ok, "" if ok else "alarm")

    columns = [
        *_coordinates(),
        Column("blind AUC (model never asked)", lambda one: _estimate(one.blind)),
        Column("replica check", replica, brief=False),
    ]
    kept = [one for one in aggregates if one.blind is not None or one.replica is not None]
    return build("Controls", columns, kept)


def _one_kind(aggregates: Sequence[Aggregate]) -> list[Aggregate]:
    """One aggregate per cell: cost does not depend on which records are asked about."""
    seen: dict[tuple, Aggregate] = {}
    for one in aggregates:
        if one.status == "ok":
            place = (one.target, one.row.n_members, one.defense, one.attack, one.row.n_shadows)
            seen.setdefault((*place, one.row.pool), one)
    return list(seen.values())


def printed(aggregates: Sequence[Aggregate]) -> list[Table]:
    """The tables of the Markdown and LaTeX files: results by block, then everything else."""
    found = [
        replace(table, title=_heading(block))
        for block in blocks(aggregates)
        if (table := results(block)).lines
    ]
    return [*found, *(make(aggregates) for make in (targets, subgroups, further, controls, costs))]


def _heading(block: Sequence[Aggregate]) -> str:
    told = next((one for one in block if one.row.records), block[0])
    kind = f", {naming.kind(told.row.records)}" if told.row.records else ""
    return f"{told.target}, {told.row.n_members:,} members{kind}"


def flat(aggregates: Iterable[Aggregate]) -> pd.DataFrame:
    """Every aggregate as one flat line, with full precision, for a spreadsheet."""
    import pandas as pd

    return pd.DataFrame([_flat(one) for one in aggregates])


def _flat(one: Aggregate) -> dict[str, object]:
    row = one.row
    line: dict[str, object] = {
        "target": row.target, "data": row.data, "simulated": row.simulated,
        "n_members": row.n_members, "defense": row.defense, "attack": row.attack, **row.extra,
        "records": row.records, "unit": row.unit, "pool": row.pool, "n_shadows": row.n_shadows,
        "status": naming.STATUS[one.status], "note": one.note,
        "seeds": " ".join(map(str, one.seeds)), "seeds_asked": " ".join(map(str, one.asked)),
        "epsilon": one.epsilon,
    }  # fmt: skip
    for name, value in [*one.leakage.items(), *one.utility.items()]:
        if isinstance(value, Estimate):
            line |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            line |= {f"{name}_n": value.n, f"{name}_flag": value.flag}
        if row.guarantees and name in one.ceilings:
            ceiling = one.ceilings[name]
            line[f"{name}_ceiling"] = naming.VACUOUS if ceiling is None else ceiling
        if name in one.worst_group:
            group, worst = one.worst_group[name]
            line |= {f"{name}_worst_group": group, f"{name}_worst": worst.value}
    blind = {"blind_auc": one.blind.value} if one.blind else {}
    return line | blind | {"violations": " ".join(one.violations)} | dict(one.cost)


def build(title: str, columns: Sequence[Column], aggregates: Sequence[Aggregate]) -> Table:
    """Fill `columns`, and fold those that say the same in every line into the caption."""
    filled = [[column.cell(one) for column in columns] for one in aggregates]
    told, kept = [], []
    for i, column in enumerate(columns):
        texts = {
            cells[i].full
            for cells, one in zip(filled, aggregates, strict=True)
            if (one.status == "ok" or not column.measured) and cells[i].full != naming.NONE
        }
        if column.fold and len(texts) <= 1:
            told += [f"{column.header} {text}" for text in texts]
        elif texts or not column.fold:
            kept.append(i)
    lines = tuple(
        Line(tuple(cells[i] for i in kept), one.note if one.status != "ok" else "")
        for cells, one in zip(filled, aggregates, strict=True)
    )
    if any(column.header == "n" for column in columns):
        told += ["n counts patients"] * any(one.row.unit == "record" for one in aggregates)
    starred = any(cell.text.endswith(" *") for line in lines for cell in line.cells)
    few = ["* fewer than 10 false alarms behind the figure"] * starred
    small = _small_groups(aggregates) * any(c.header.startswith("worst-group") for c in columns)
    caption = " · ".join([*told, *_sayings(aggregates), *small, *few])
    return Table(title, caption, tuple(columns[i] for i in kept), lines)


def _small_groups(aggregates: Sequence[Aggregate]) -> list[str]:
    """What a worst group was chosen from, where some groups were too small to be among them."""
    head = headline(aggregates)
    blocks = ([g[head] for g in one.groups.values() if head in g] for one in aggregates)
    counts = [(sum(e.value is not None for e in found), len(found)) for found in blocks if found]
    if all(measured == total for measured, total in counts):
        return []
    low, high = min(m for m, _ in counts), max(m for m, _ in counts)
    span = f"{low}" if low == high else f"{low} to {high}"
    total = max(total for _, total in counts)
    return [f"worst group: of {span} measured, {total} in all (the others are too small)"]


def _sayings(aggregates: Sequence[Aggregate]) -> list[str]:
    """What every caption has to say: the data, and that they are simulated."""
    said = sorted({f"data {one.row.data}" for one in aggregates if one.row.data})
    fixed = {k: v for one in aggregates for k, v in one.row.extra.items() if k not in one.axes}
    said += [naming.extras(fixed)] * bool(fixed)
    simulated = [one.row.simulated for one in aggregates]
    if any(simulated):
        names = sorted({one.target for one in aggregates if one.row.simulated})
        word = naming.SIMULATED
        said.append(word if all(simulated) else f"{word}: {', '.join(names)}")
    return said


def blocks(aggregates: Iterable[Aggregate]) -> list[list[Aggregate]]:
    """Aggregates by (target, members, kind of record, unit).

    A cell without any figure stands in every block of its target and size, where there is one.
    """
    aggregates = list(aggregates)
    places = {_block(one): None for one in aggregates if one.row.records}
    lonely = {_block(one) for one in aggregates} - {(*place[:2], "", "") for place in places}
    return [
        [one for one in aggregates if _block(one) in (place, (*place[:2], "", ""))]
        for place in [*places, *sorted(place for place in lonely if not place[2])]
    ]


def _block(one: Aggregate) -> tuple[str, int, str, str]:
    if not one.row.records:
        return one.target, one.row.n_members, "", ""
    return one.target, one.row.n_members, one.row.records, one.row.unit

"""What tables are made of: cells, columns, and how they are filled from aggregates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from medleak.api import Curve, Estimate
from medleak.report import naming
from medleak.report.aggregated import Aggregate


@dataclass(frozen=True)
class Cell:
    """`text`, a `detail` beside it, what to `sort` by, a `tone`, and the `bounds` of a value.

    `digits` is the number of decimals of the bounds.
    """

    text: str
    detail: str = ""
    sort: float | str | None = None
    tone: str = ""
    bounds: tuple[float, float] | None = None
    digits: int = 3

    @property
    def full(self) -> str:
        shown = naming.interval(*self.bounds, self.digits) if self.bounds else ""
        return " ".join(part for part in (self.text, shown, self.detail) if part)

    @property
    def span(self) -> str:
        """The bounds without brackets: ``0.541–0.591``."""
        if not self.bounds:
            return ""
        low, high = (naming.number(bound, self.digits) for bound in self.bounds)
        return f"{low} to {high}" if self.bounds[0] < 0 else f"{low}–{high}"


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


def text(value: object, tone: str = "") -> Cell:
    return Cell(str(value) if value not in (None, "") else naming.NONE, sort=value, tone=tone)


def estimate(found: Estimate | Curve | None, tone: str = "", digits: int = 3) -> Cell:
    if not isinstance(found, Estimate) or found.value is None:
        return Cell(naming.NONE)
    known = None not in (found.low, found.high)
    few = " *" if naming.coarse(found.flag) else ""
    one_sided = found.high is None and found.low == found.value
    return Cell(
        naming.bound(found.value) if one_sided else naming.number(found.value, digits) + few,
        sort=found.value,
        tone=tone,
        bounds=(found.low, found.high) if known else None,
        digits=digits,
    )


def metric(name: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        tone = "alarm" if name in one.violations else ""
        return estimate(one.leakage.get(name), tone, naming.digits(name))

    return cell


def upper_bound(name: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        told = one.upper_bound(name)
        number = one.ceilings.get(name)
        return Cell(told, sort=number if told not in (naming.NONE, naming.VACUOUS) else None)

    return cell


def epsilon(one: Aggregate) -> Cell:
    if not one.promises:
        return Cell(naming.NONE)
    best = min(one.promises, key=lambda promise: promise["epsilon"])
    details = [] if best["unit"] == "record" else [best["unit"]]
    details += [] if one.binds(best) else [f"not against the {one.role}"]
    detail = f"({', '.join(details)})" if details else ""
    return Cell(naming.epsilon(best["epsilon"]), detail, best["epsilon"])


def size(one: Aggregate, name: str) -> Cell:
    found = one.leakage.get(name)
    return text(found.n if found else None)


def cost(name: str, told: Callable[[float | None], str] = naming.seconds) -> Callable:
    """A cell of `Aggregate.cost`, printed by `told`."""

    def cell(one: Aggregate) -> Cell:
        value = one.cost.get(name)
        return Cell(told(value), sort=value)

    return cell


def utility(one: Aggregate) -> Cell:
    return estimate(one.utility.get(naming.main_utility(one.utility) or ""))


def utilities(aggregates: Sequence[Aggregate]) -> list[Column]:
    """A column for each utility metric."""
    names = dict.fromkeys(name for one in aggregates for name in one.utility)
    return [
        Column(naming.metric(name), lambda one, name=name: estimate(one.utility.get(name)))
        for name in names
    ]


def utility_name(aggregates: Iterable[Aggregate]) -> str:
    """The printed name of the main utility metric, where all have the same."""
    names = {naming.main_utility(one.utility) for one in aggregates if one.utility}
    return naming.metric(names.pop() or "utility") if len(names) == 1 else "utility"


def status(one: Aggregate) -> Cell:
    above = ", ".join(naming.metric(name) for name in one.violations)
    if above:
        return Cell("ok", f"above the ceiling: {above}", "ok", "alarm")
    short = "; ".join(
        f"{count} of {len(one.asked)} seeds {naming.STATUS[status]}"
        for status, _, count in one.missing
    )
    return Cell(naming.STATUS[one.status], short if one.status == "ok" else "", one.status)


def seeds(one: Aggregate) -> Cell:
    told = f"{len(one.seeds)} of {len(one.asked)}" if one.missing else str(len(one.asked))
    return Cell(told, sort=len(one.seeds))


# --------------------------------------------------------------------------- columns and tables


def coordinate(header: str, get: Callable[[Aggregate], object], *, fold: bool = True) -> Column:
    """A column that says where a line stands, not what was measured."""
    return Column(header, lambda one: text(get(one)), measured=False, fold=fold)


def outcome(*, seeds_in_terminal: bool = True) -> list[Column]:
    """The last columns of a main table."""
    return [
        Column("seeds", seeds, measured=False, fold=True, terminal=seeds_in_terminal),
        Column("status", status, measured=False),
    ]


def build(
    title: str,
    columns: Sequence[Column],
    aggregates: Sequence[Aggregate],
    remarks: Sequence[str] = (),
) -> Table:
    """Fill `columns`, and fold those that say the same in every line into the caption.

    `remarks` close the caption.
    """
    filled = [[column.cell(one) for column in columns] for one in aggregates]
    told, kept = [], []
    for i, column in enumerate(columns):
        texts = {
            cells[i].full
            for cells, one in zip(filled, aggregates, strict=True)
            if (one.status == "ok" or not column.measured) and cells[i].full != naming.NONE
        }
        if column.fold and len(texts) <= 1:
            told += [f"{column.header} {found}" for found in texts]
        elif texts or not column.fold:
            kept.append(i)
    lines = tuple(
        Line(tuple(cells[i] for i in kept), one.note if one.status != "ok" else "")
        for cells, one in zip(filled, aggregates, strict=True)
    )
    if any(column.header == "n" for column in columns):
        told += ["n counts patients"] * any(one.row.unit == "record" for one in aggregates)
        told += ["n counts clients"] * any(one.row.unit == "message" for one in aggregates)
    starred = any(cell.text.endswith(" *") for line in lines for cell in line.cells)
    few = ["* fewer than 10 false alarms behind the figure"] * starred
    caption = " · ".join([*told, *_sayings(aggregates), *remarks, *few])
    return Table(title, caption, tuple(columns[i] for i in kept), lines)


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

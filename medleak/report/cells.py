"""What tables are made of: cells, columns, and how they are filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from medleak.api import Estimate
from medleak.report import formatting
from medleak.results.aggregate import Aggregate, extras
from medleak.results.measures import Measure


@dataclass(frozen=True)
class Cell:
    """`text`, a `detail` behind it, what to `sort` by, a `tone`, and the `bounds` of a value.

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
        shown = formatting.interval(*self.bounds, self.digits) if self.bounds else ""
        return " ".join(part for part in (self.text, shown, self.detail) if part)

    @property
    def span(self) -> str:
        """The bounds without brackets: ``0.541–0.591``."""
        if not self.bounds:
            return ""
        low, high = (formatting.number(bound, self.digits) for bound in self.bounds)
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
        leads: stands on the left and is printed beside a reason.
        fold: said once in the caption when every line says the same.
        detail: the terminal shows the whole cell; `terminal` False leaves out the column there.
        short: the header in the terminal.
    """

    header: str
    cell: Callable[[Any], Cell]
    measured: bool = True
    leads: bool = False
    fold: bool = False
    detail: bool = False
    terminal: bool = True
    short: str = ""


@dataclass(frozen=True)
class Table:
    """A table ready to print. `name` is unique among the tables of a report."""

    title: str
    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    name: str = ""

    @property
    def span_at(self) -> tuple[int, int]:
        """First column that a span covers, and how many."""
        covered = [i for i, column in enumerate(self.columns) if column.measured]
        return (covered[0], len(covered)) if covered else (len(self.columns), 0)


# --------------------------------------------------------------------------- cells


def text(value: object, tone: str = "") -> Cell:
    return Cell(str(value) if value not in (None, "") else formatting.NONE, sort=value, tone=tone)


def estimate(found: Measure | Estimate | None, tone: str = "", digits: int = 3) -> Cell:
    """A value with its interval; a star where few false alarms stand behind it, "max" where no guess could
    have shown more."""
    if found is None or found.value is None:
        return Cell(formatting.NONE)
    known = None not in (found.low, found.high)
    few = " *" if formatting.coarse(found.flag) else ""
    one_sided = found.high is None and found.low == found.value
    number = formatting.number(found.value, digits) + few
    most = " max" if formatting.saturated(found.flag) else ""
    return Cell(
        formatting.bound(found.value) + most if one_sided else number,
        sort=found.value,
        tone=tone,
        bounds=(found.low, found.high) if known else None,
        digits=digits,
    )


# --------------------------------------------------------------------------- columns and tables


def coordinate(header: str, get: Callable[[Any], object], *, fold: bool = True) -> Column:
    """A column that says where a line stands, not what was measured."""
    return Column(header, lambda one: text(get(one)), measured=False, leads=True, fold=fold)


def build(
    title: str,
    columns: Sequence[Column],
    lines: Sequence[Any],
    remarks: Sequence[str] = (),
    name: str = "",
) -> Table:
    """Fill `columns`, and fold those that say the same in every line into the caption.

    Args:
        lines: aggregates, or what looks like one.
        remarks: close the caption.
    """
    filled = [[column.cell(one) for column in columns] for one in lines]
    facts, kept = [], []
    for i, column in enumerate(columns):
        texts = {
            cells[i].full
            for cells, one in zip(filled, lines, strict=True)
            if (one.status == "ok" or not column.measured) and cells[i].full != formatting.NONE
        }
        if column.fold and len(texts) <= 1:
            facts += [f"{column.header} {found}" for found in texts]
        elif texts or not column.fold:
            kept.append(i)
    made = tuple(
        Line(tuple(cells[i] for i in kept), one.note if one.status != "ok" else "")
        for cells, one in zip(filled, lines, strict=True)
    )
    if any(column.header == "n" for column in columns):
        facts += ["n counts patients"] * any(one.row.unit == "record" for one in lines)
        facts += ["n counts clients"] * any(one.row.unit == "message" for one in lines)
    starred = any(cell.text.endswith(" *") for line in made for cell in line.cells)
    few = ["* fewer than 10 false alarms behind the figure"] * starred
    reached = any(cell.text.endswith(" max") for line in made for cell in line.cells)
    most = ["max: no guesses could have shown more"] * reached
    caption = " · ".join([*facts, *_data(lines), *remarks, *few, *most])
    return Table(title, caption, tuple(columns[i] for i in kept), made, name or title)


def _data(lines: Sequence[Aggregate]) -> list[str]:
    """What every caption says: the data, and whether they are simulated."""
    said = sorted({f"data {one.row.data}" for one in lines if one.row.data})
    fixed = {k: v for one in lines for k, v in one.row.extra.items() if k not in one.axes}
    said += [extras(fixed)] * bool(fixed)
    simulated = [one.row.simulated for one in lines]
    if any(simulated):
        names = sorted({one.target for one in lines if one.row.simulated})
        word = formatting.SIMULATED
        said.append(word if all(simulated) else f"{word}: {', '.join(names)}")
    return said

"""How a report shows a goal: plain data, which tables, figures, page and narrative are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Shown = Literal[
    "target", "members", "defense", "attack", "records", "unit", "asked",
    "utility", "measure", "without", "gain", "worst group", "bound", "promise", "cost", "n", "shadows",
]  # fmt: skip
Figure = Literal["leakage", "tradeoff", "gains", "roc"]


@dataclass(frozen=True)
class MeasureLabel:
    """How a measure is printed.

    Attributes:
        label: its name in tables and figures.
        unit: in brackets behind the name, as "dB".
        digits: decimals of its figures.
        short: its name in the terminal.
    """

    label: str
    unit: str = ""
    digits: int = 3
    short: str = ""


@dataclass(frozen=True)
class ReportColumn:
    """One column of a goal's main table.

    Attributes:
        what: a coordinate ("target" ... "asked", an entry of the row's ``controls["asked"]``), or
            "measure" (value and interval), "without" (the best baseline), "gain" (over it), "bound" (the
            most that the guarantees allow), "worst group", "promise" (ε), "cost", "utility" ...
        measure: which one; for "cost" and "asked" the entry.
        label: the heading, where the usual one does not fit.
        fold: said once in the caption where every line says the same.
        detail: the terminal shows the interval as well.
        terminal: whether the terminal has the column.
    """

    what: Shown
    measure: str = ""
    label: str = ""
    fold: bool = False
    detail: bool = False
    terminal: bool = True


def columns(*shown: Shown, fold: bool = False) -> tuple[ReportColumn, ...]:
    """Columns without any particulars."""
    return tuple(ReportColumn(what, fold=fold) for what in shown)


COORDINATES = (
    *columns("target", "members", fold=True),
    *columns("defense", "attack"),
    *columns("records", "unit", fold=True),
)


@dataclass(frozen=True)
class GoalReport:
    """What a report shows of one goal.

    Attributes:
        goal: its name in rows.
        title: of its section and tables.
        anchor: its name in links and file names.
        headline: the measure that stands for leakage; where it is missing, the first with a gain.
        guess: what the headline is without any knowledge, for goals without baselines (AUC: 0.5).
        source: what the attack learns from: "model", "message". Baselines do "without" it.
        coordinates, columns: of the main table; seeds and status follow.
        compared: measures in the table of baselines.
        labels: measure -> how it is printed.
        records: kind of record -> how it is printed.
        split: a table for each target, size and kind of record, instead of one for all.
        note: how to read the main table.
        figures: which are drawn; `axis` is added to the measure's name on the axis of "gains".
        gallery: what the page of images shows: "pairs", "classes", or "" for none.
        spoken: the measures that the summary speaks of, by preference; the headline if empty.
        summary_by: a summary for each "members", "records" or "asked" attribute; "" for one in all.
        informed_by: a baseline that only attacks with more knowledge have; they speak last.
        narrative: text of a Jinja template with the macros ``question(row)``, what is asked of the
            attack, and ``summary(case)``, what was found (`medleak.report.narrative.Case`).
        method: paragraphs on how to read the figures.
    """

    goal: str
    title: str
    anchor: str
    headline: str
    guess: float | None = None
    source: str = "model"
    coordinates: tuple[ReportColumn, ...] = COORDINATES
    columns: tuple[ReportColumn, ...] = ()
    compared: tuple[str, ...] = ()
    labels: Mapping[str, MeasureLabel] = field(default_factory=dict)
    records: Mapping[str, str] = field(default_factory=dict)
    split: bool = True
    note: str = ""
    figures: tuple[Figure, ...] = ("tradeoff", "gains")
    axis: str = ""
    gallery: str = ""
    spoken: tuple[str, ...] = ()
    summary_by: Literal["", "members", "records", "asked"] = ""
    informed_by: str = ""
    narrative: str = ""
    method: tuple[str, ...] = ()

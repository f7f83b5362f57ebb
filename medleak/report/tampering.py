"""How well clients detect a dishonest server: a table of their detector, and its ROC."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from medleak.api import Curve
from medleak.report import formatting
from medleak.report.cells import Cell, Column, Table, build, coordinate, estimate, text
from medleak.results.aggregate import Aggregate, one_kind

SENT = "models sent to clients"
"""What stands in place of the kind of record in the detector's ROC."""

FLOOR = 0.01
"""Where the axes of that ROC begin: clients are few, but look at several models each."""


def observed_by(aggregates: Sequence[Aggregate]) -> list[Aggregate]:
    """One line for each cell whose server sent something else than the model."""
    return [one for one in one_kind(aggregates) if one.tampering]


def table(aggregates: Sequence[Aggregate]) -> Table:
    """What a client's detector sees of a dishonest server, whose attack stands in the main tables."""
    mine = observed_by(aggregates)
    shares = formatting.tpr_names(name for one in mine for name in one.tampering)

    def found(name: str) -> Callable[[Aggregate], Cell]:
        return lambda one: estimate(one.find("tampering", name))

    def kept_shape(one: Aggregate) -> Cell:
        kept = one.row.controls["tampering"].get("architecture_kept")
        return text(None if kept is None else "yes" if kept else "no")

    made = [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("defense", lambda one: one.defense, fold=False),
        coordinate("attack", lambda one: one.attack, fold=False),
        Column("AUC", found("auc")),
        *(Column(formatting.metric(name), found(name)) for name in shares.values()),
        Column("architecture kept", kept_shape),
        Column("n", lambda one: text(one.tampering["auc"].n), fold=True),
    ]
    remark = "n counts clients; FPR: honest models taken for tampered ones"
    return build("Tampering seen by clients", made, mine, [remark] * bool(mine), "tampering")


def curved(aggregates: Sequence[Aggregate]) -> list[Aggregate]:
    """The detectors as `curves.roc` draws them: without ceilings, for no promise binds a detector."""
    return [
        replace(
            one,
            leakage={"roc": one.tampering["roc"]},
            upper_bounds={},
            row=replace(one.row, records=SENT, unit="client"),
        )
        for one in observed_by(aggregates)
        if isinstance(one.tampering.get("roc"), Curve)
    ]

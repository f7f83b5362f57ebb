"""The most exposed patients, by name and picture: for the holder of the data, never published.

A patient's risk is how much higher the attack ranks them as a member than as a non-member, over
leave-one-out targets (`medleak.metrics.exposure`). Tables of all patients and a gallery of the worst.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.core.store import write_atomically
from medleak.engine.answers import stored_answers
from medleak.engine.cell import load_rows
from medleak.goals.membership.target_scores import TargetScores
from medleak.report.images import address

if TYPE_CHECKING:
    import pandas as pd

    from medleak.core.store import Store
    from medleak.engine.cell import Cell
    from medleak.engine.plan import Plan

FOLDER, PAGE, SHOWN = "risk", "risk.html", 12


def risk(plan: Plan) -> Path | None:
    """Write ``risk/*.csv`` and ``risk.html`` into the grid's folder; the page, or None without cells.

    One table for each cell that was measured on several targets. Patients stand in them by name, so
    that nobody but the owner may read the files.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    sections = []
    for cell in plan.cells:
        target_scores = scores_of(cell, plan.store)
        if target_scores is None:
            continue
        table = risks(target_scores, cell.experiment.challenge.kind)
        name = "-".join(str(cell.config[g]["name"]) for g in ("target", "defense", "attack"))
        file = plan.folder / FOLDER / f"{name}-{cell.key[:8]}.csv"
        write_atomically(file, table.to_csv(index=False), private=True)
        sections.append(_section(cell, table))
    if not sections:
        return None
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    page = plan.folder / PAGE
    text = environment.get_template("risk.html.j2").render(sections=sections)
    write_atomically(page, text, private=True)
    return page


def scores_of(cell: Cell, store: Store) -> TargetScores | None:
    """What a membership attack scored on several targets; None for other cells, or before it did."""
    rows = load_rows(cell, store) or []
    if cell.attack.requires.goal != "membership" or len(cell.shadowed_targets) < 2 or not rows:
        return None
    if "answers" not in rows[0].provenance:
        return None
    answers = stored_answers(store, rows[0])
    runs = [shadowed.target for shadowed in cell.shadowed_targets]
    return TargetScores(
        np.stack([answer.arrays["scores"] for answer in answers]),
        np.stack([cell.experiment.secret(run.column).member for run in runs]),
        cell.experiment.challenge.records,
    )


def risks(target_scores: TargetScores, kind: np.ndarray) -> pd.DataFrame:
    """A line for each patient, the most exposed first.

    Columns: patient, kind, scans, times a member and a non-member, mean rank (0..1 among all patients
    of a target) as either, and `gap`, their difference: 0 where the attack learns nothing.
    """
    import pandas as pd

    from medleak.metrics.exposure import ranks, vulnerability

    patients = target_scores.records.patients
    _, first, counts = np.unique(patients, return_index=True, return_counts=True)
    joint = target_scores.by_patient()
    ranked, member = ranks(joint.scores), joint.member
    inside, outside = member.sum(0), (~member).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        table = pd.DataFrame(
            {
                "patient": joint.records.patients,
                "kind": kind[first],
                "scans": counts,
                "member": inside,
                "non_member": outside,
                "rank_as_member": (ranked * member).sum(0) / inside,
                "rank_as_non_member": (ranked * ~member).sum(0) / outside,
                "gap": vulnerability(ranked, member),
                "record": first,
            }
        )
    return table.sort_values("gap", ascending=False, kind="stable").reset_index(drop=True)


def _section(cell: Cell, table: pd.DataFrame) -> dict[str, Any]:
    records = cell.target_spec.experiment.challenge.records
    worst = [
        {**line, "picture": address(records.x[line["record"]])}
        for line in table.head(SHOWN).to_dict("records")
    ]
    names = {group: cell.config[group]["name"] for group in ("target", "defense", "attack")}
    return {**names, "n_targets": len(cell.shadowed_targets), "n": len(table), "worst": worst}

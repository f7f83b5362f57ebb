"""An audit as text and as a self-contained page: one file, no network, the ROC inline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from medleak.api import Estimate
from medleak.audit.given_scores import OUT, Audit
from medleak.core.formatting import count
from medleak.report import curves, drawing, formatting, pages, tables
from medleak.report.specs import spec_of
from medleak.results.aggregate import Aggregate, aggregate
from medleak.results.row import Row

METHOD = (
    "Scores say how likely each record seemed a member; the truth decides how well they did. Intervals "
    "are 95% and treat patients as independent units.",
    "An audited ε is a one-sided lower bound: the mechanism cannot have promised less, if the bound's "
    "assumptions hold. Zero shows nothing, and no audit can show that ε is small.",
    "The bounds of one run assume that each patient was put in or left out by an independent fair coin. "
    "Where members were chosen otherwise, they are no evidence about a claim.",
    "A violation is called when a 99.9% lower bound lies above what the claim allows, never for a point "
    "estimate. A claim for single records limits nothing where a patient has several.",
    "If members and non-members differ in date, site or scanner, an attack may find that difference "
    "instead of a leak: nothing here can tell.",
)


_SPEC = spec_of("membership")
BELOW = "Below chance: a higher score must mean a likelier member. Were losses given?"


def terminal(audit: Audit) -> str:
    """The figures as text: a block for each attack, a line for each metric."""
    return "\n\n".join(_block(row, audit.bounds) for row in audit.rows)


def _block(row: Row, bounds: Sequence[Mapping[str, Any]]) -> str:
    lines = _metrics([row]) if row.status == "ok" else []
    width = max((len(name) for name, _ in lines), default=0)
    text = [f"  {name:{width}}  {figure}" for name, figure in lines]
    text += [f"  {_bound(one)}" for one in bounds if one["attack"] == row.attack]
    text += [f"  {row.reason}"] if row.reason else []
    text += [f"  {BELOW}"] if _inverted(row) else []
    text += [f"  ABOVE WHAT IS CLAIMED: {one}" for one in _violations([row])]
    return "\n".join([f"{row.attack}: {_counted(row)}", *text])


def _inverted(row: Row) -> bool:
    auc = row.leakage.get("auc")
    return isinstance(auc, Estimate) and auc.high is not None and auc.high < 0.5


def page(audit: Audit, provenance: Mapping[str, Any]) -> str:
    """The whole page as text."""
    from markupsafe import Markup

    aggregates = aggregate(audit.rows)
    groups = tables.subgroups(_SPEC, aggregates)
    return pages.rendered(
        "audit.html.j2",
        title=audit.name,
        facts=_facts(audit),
        violations=_violations(audit.rows),
        invalid=[(row.attack, row.reason) for row in audit.rows if row.reason],
        inverted=[(row.attack, BELOW) for row in audit.rows if _inverted(row)],
        attacks=[row.attack for row in audit.rows],
        metrics=_metrics(audit.rows),
        claimed=bool(audit.rows[0].guarantees),
        curve=Markup(_curve(aggregates)),
        bounds=[one | {"text": _bound(one)} for one in audit.bounds],
        subgroups=groups if groups.lines else None,
        method=METHOD,
        intervals=pages.intervals(aggregates),
        provenance=provenance,
    )  # fmt: skip


def _facts(audit: Audit) -> list[tuple[str, str]]:
    row = audit.rows[0]
    claim = next(iter(row.guarantees), None)
    text = f"{formatting.epsilon(claim['epsilon'])}, {claim['unit']}, add/remove" if claim else ""
    facts = [
        ("Source", audit.source),
        ("Counted", _counted(row)),
        ("Unit", row.unit),
        ("Shadows", f"{row.n_shadows} ({row.pool})" if row.n_shadows else ""),
        ("Claimed ε", text),
        ("Claimed δ", f"{claim['delta']:g}" if claim else ""),
    ]
    return [(name, value) for name, value in facts if value]


def _counted(row: Row) -> str:
    noun = "patient" if row.unit == "patient" else "record"
    n = max((e.n for e in row.leakage.values()), default=0)
    return f"{count(n, noun)}, {row.n_members:,} of them members"


def _metrics(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each metric that is a number: name, then its figure in each row."""
    names = dict.fromkeys(
        name for row in rows for name, e in row.leakage.items() if isinstance(e, Estimate)
    )
    return [
        [formatting.metric(name, _SPEC), *(_figure(row, name) for row in rows)] for name in names
    ]


def _figure(row: Row, name: str) -> str:
    estimate = row.leakage.get(name)
    if row.status != "ok" or not isinstance(estimate, Estimate):
        return formatting.NONE
    if estimate.value is None:
        return f"not measured: {estimate.flag}"
    one_sided = estimate.high is None
    shown = f"≥ {estimate.value:.3f}" if one_sided else f"{estimate.value:.3f}"
    parts = [shown, formatting.interval(estimate.low, estimate.high)]
    if row.guarantees:
        bound = row.upper_bounds.get(name)
        allowed = formatting.VACUOUS if bound is None else f"at most {bound:.4g}"
        parts.append(f"(claim: {allowed})")
    parts.append(f"({estimate.flag})" if estimate.flag else "")
    return " ".join(part for part in parts if part)


def _bound(one: Mapping[str, Any]) -> str:
    mu = "" if one["mu"] is None else f" (μ ≥ {one['mu']:.2f})"
    return f"ε ≥ {one['epsilon']:.2f}{mu} at δ = {one['delta']:g}, {100 * one['level']:g}%: {one['method']}"


def _violations(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row.attack}, {formatting.metric(name, _SPEC)}: {_figure(row, name)}"
        for row in rows
        for name in row.violations
        if row.status == "ok"
    ]


def _curve(aggregates: Sequence[Aggregate]) -> str:
    drawn = [one for one in aggregates if one.status == "ok" and "roc" in one.leakage]
    if not drawn:
        return ""
    tint = drawing.colours([one.defense for one in drawn], drawing.DEFENSES)
    svg = drawing.saved(partial(curves.roc, tint=tint), drawn, ("svg",))["svg"]
    return pages.inline(svg, "roc")


PAGE, FACTS = "audit.html", "audit.json"


def write(audit: Audit, out: str | Path | None = None) -> Path:
    """Write the page and the JSON file of an audit; return the path of the page."""
    from medleak.core.provenance import versions
    from medleak.core.store import write_atomically

    folder = Path(out or OUT) / audit.name
    provenance = {"source": audit.source, "versions": versions()}
    rows = [replace(row, provenance=provenance) for row in audit.rows]
    facts = {
        "name": audit.name,
        "rows": [row.to_json() for row in rows],
        "bounds": list(audit.bounds),
    }
    files = {PAGE: page(audit, provenance), FACTS: json.dumps(facts, indent=1, default=float)}
    for file, content in files.items():
        write_atomically(folder / file, content)
    return folder / PAGE

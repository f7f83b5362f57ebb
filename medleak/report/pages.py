"""The self-contained HTML page: one file, no network, plots inline as SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medleak.api.goal_report import GoalReport
from medleak.report import drawing, epsilon_star, formatting, narrative, tables, tampering
from medleak.report.cells import Table
from medleak.report.columns import bound_text
from medleak.report.specs import spec_of, specs
from medleak.results.aggregate import Aggregate, status_name

_TEMPLATES = Path(__file__).parent / "templates"
_LABELS = {
    "leakage": "Leakage against accuracy",
    "tradeoff": "Leakage against accuracy and cost",
    "roc": "ROC curves",
    "detector": "How well clients detect a dishonest server",
}


@dataclass(frozen=True)
class Section:
    """What the page shows of one goal: figures, the main table, and all others."""

    spec: GoalReport
    charts: tuple[Any, ...]
    curves: tuple[Any, ...]
    table: Table
    more: tuple[Table, ...]


def page(
    aggregates: Sequence[Aggregate],
    drawn: Mapping[str, Mapping[str, bytes]],
    manifest: Mapping[str, Any] | None = None,
    *,
    gallery: bool = False,
) -> str:
    """The whole page as text; `drawn` is what `plots.figures` returned.

    With `gallery` it links to the page of images; it never holds one itself.
    """
    return rendered("report.html.j2", gallery=gallery, **_context(aggregates, drawn, manifest))


def rendered(template: str, **context: Any) -> str:
    """A page of `template` and the style of all pages; everything else in it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((_TEMPLATES / "report.css").read_text())
    return environment.get_template(template).render(style=style, **context)


def _context(
    aggregates: Sequence[Aggregate],
    drawn: Mapping[str, Mapping[str, bytes]],
    manifest: Mapping[str, Any] | None,
) -> dict[str, Any]:
    # Jinja2 escapes everything; only the SVG that this package drew, and its own CSS and JS, pass.
    from markupsafe import Markup

    tint = {}
    for target in dict.fromkeys(one.target for one in aggregates):
        names = [o.defense for o in aggregates if o.target == target and o.status == "ok"]
        tint |= {(target, name): c for name, c in drawing.colours(names, drawing.DEFENSES).items()}
    drawings = {name: Markup(inline(form["svg"], name)) for name, form in drawn.items()}

    def plots(prefix: str) -> list[Markup]:
        return [svg for name, svg in drawings.items() if name.startswith(prefix)]

    sections = [
        Section(
            spec,
            tuple(plots(f"{spec.anchor}-")),
            tuple(plots("roc-")) if "roc" in spec.figures else (),
            tables.results(spec, lines),
            tuple(tables.of_goal(spec, lines)),
        )
        for spec, lines in specs(aggregates)
    ]
    return {
        "title": (manifest or {}).get("name") or "Privacy report",
        "facts": _facts(aggregates, manifest),
        "simulated": sorted({o.target for o in aggregates if o.row.simulated}),
        "all_simulated": all(o.row.simulated for o in aggregates),
        "notes": sorted({o.row.data_note for o in aggregates if o.row.data_note}),
        "violations": _violations(aggregates),
        "pictures": plots("leakage-"),
        "tradeoffs": plots("tradeoff-"),
        "measured": any(one.status == "ok" for one in aggregates),
        "goals": sections,
        "summaries": narrative.summaries(aggregates),
        "several_targets": len({one.target for one in aggregates}) > 1,
        "tint": tint,
        "detector": tampering.table(aggregates),
        "detectors": plots("detector-"),
        "costs": tables.costs(aggregates),
        "stars": epsilon_star.table(aggregates),
        "no_stars": epsilon_star.absent(aggregates),
        "guarantees": narrative.guarantees(aggregates),
        "missing": _missing(aggregates),
        "intervals": intervals(aggregates),
        "statuses": narrative.STATUS_MEANING,
        "method": narrative.method(aggregates),
        "manifest": {
            key: value for key, value in (manifest or {}).items() if value not in (None, "", {}, [])
        },
        "script": Markup((_TEMPLATES / "report.js").read_text()),
    }


def inline(svg: bytes, name: str) -> str:
    """An SVG for use inside a page: no prolog, scalable, and identifiers of its own."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    label = _LABELS.get(name.partition("-")[0], "What the attack found, defense by defense")
    return re.sub(
        r'^<svg ([^>]*?)width="([\d.]+)pt" height="[\d.]+pt"',
        rf'<svg role="img" aria-label="{label}" style="max-width:calc(\2px * 1.7)" \1',
        text,
    )


def _facts(
    aggregates: Sequence[Aggregate], manifest: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    def listed(values: Any) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(values) if value not in ("", None))

    sizes = sorted({one.row.n_members for one in aggregates})
    facts = [
        ("Data", listed(one.row.data for one in aggregates)),
        ("Target", listed(one.target for one in aggregates)),
        ("Members in training", listed(f"{size:,}" for size in sizes)),
        ("Unit", listed(one.row.unit for one in aggregates)),
        ("Seeds", listed(sorted({seed for one in aggregates for seed in one.asked}))),
        ("Created", str((manifest or {}).get("created", ""))),
    ]
    return [(name, value) for name, value in facts if value]


def _violations(aggregates: Sequence[Aggregate]) -> list[str]:
    found = []
    for one in aggregates:
        spec = spec_of(one.row.goal, [one])
        for name, count in one.violations.items():
            measure = one.find("leakage", name)
            if measure is None:
                continue
            found.append(
                f"{one.attack} against {one.defense} ({one.target}, {one.row.n_members:,} members, "
                f"{formatting.kind(one.row.records, spec)}): {formatting.metric(name, spec)} "
                f"{formatting.limit(name, measure.value)} above {bound_text(measure)}, "
                f"in {count} of {len(one.seeds)} seeds"
            )
    return found


def _missing(aggregates: Sequence[Aggregate]) -> list[tuple]:
    """(target, defense, attack, members, status, seeds, reason), once for all kinds of record."""
    found = dict.fromkeys(
        (
            one.target,
            one.defense,
            one.attack,
            f"{one.row.n_members:,}",
            status_name(status),
            f"{count} of {len(one.asked)}",
            reason,
        )
        for one in aggregates
        for status, reason, count in one.missing
    )
    return list(found)


def intervals(aggregates: Sequence[Aggregate]) -> list[str]:
    """How each metric's interval was made, as the metrics themselves say."""
    found: dict[str, dict[str, None]] = {}
    for one in aggregates:
        spec = spec_of(one.row.goal, [one])
        for measure in one.measures:
            if measure.kind in ("leakage", "utility", "control") and measure.method:
                method = f"{100 * measure.level:g}% {measure.method}"
                found.setdefault(method, {})[formatting.metric(measure.name, spec)] = None
    return [f"{', '.join(names)}: {method}" for method, names in found.items()]

"""The self-contained HTML page: one file, no network, plots inline as SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medleak.api import Estimate
from medleak.report import (
    budgets,
    detectors,
    drawing,
    gains,
    inferred_tables,
    naming,
    rebuilt_tables,
    tables,
    words,
)
from medleak.report.aggregated import Aggregate, by_goal

_TEMPLATES = Path(__file__).parent / "templates"
_LABELS = {
    "leakage": "Leakage against accuracy",
    "tradeoff": "Leakage against accuracy and cost",
    "rebuilt": "Who is named by what was rebuilt",
    "roc": "ROC curves",
    **{look.slug: look.title for look in gains.LOOKS},
    "detector": "How well clients tell a dishonest server",
}


def page(
    aggregates: Sequence[Aggregate],
    drawn: Mapping[str, Mapping[str, bytes]],
    manifest: Mapping[str, Any] | None = None,
    *,
    gallery: bool = False,
) -> str:
    """The whole page as text; `drawn` is what `plots.figures` returned.

    With `gallery` it links to the page of pictures beside it: it never holds one itself.
    """
    context = _context(aggregates, drawn, manifest) | _rebuilt_context(by_goal(aggregates)[1])
    return rendered("report.html.j2", gallery=gallery, told=_told(aggregates, drawn), **context)


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

    members = by_goal(aggregates)[0]
    groups = tables.subgroups(members)
    return {
        "title": (manifest or {}).get("name") or "Privacy report",
        "facts": _facts(aggregates, manifest),
        "simulated": sorted({o.target for o in aggregates if o.row.simulated}),
        "all_simulated": all(o.row.simulated for o in aggregates),
        "notes": sorted({o.row.data_note for o in aggregates if o.row.data_note}),
        "violations": _violations(aggregates),
        "pictures": plots("leakage-"),
        "tradeoffs": plots("tradeoff-"),
        "charts": plots("rebuilt-"),
        "curves": plots("roc-"),
        "detectors": plots("detector-"),
        "detector": detectors.detector(aggregates),
        "sayings": words.sayings(aggregates),
        "several_targets": len({one.target for one in aggregates}) > 1,
        "tint": tint,
        "results": tables.results(members),
        "further": tables.further(members),
        "subgroups": groups if groups.lines else None,
        "targets": tables.targets(members),
        "inferred": [
            *(table for table, _ in inferred_tables.main(aggregates)),
            *(table for table in [inferred_tables.baselines(aggregates)] if table.lines),
        ],
        "costs": tables.costs(aggregates),
        "controls": tables.controls(members),
        "stars": budgets.stars(aggregates),
        "guarantees": words.guarantees(aggregates),
        "missing": _missing(aggregates),
        "intervals": intervals(aggregates),
        "statuses": words.STATUS_MEANING,
        "method": words.method(aggregates),
        "manifest": {
            key: value for key, value in (manifest or {}).items() if value not in (None, "", {}, [])
        },
        "script": Markup((_TEMPLATES / "report.js").read_text()),
    }


def _rebuilt_context(rebuilt: Sequence[Aggregate]) -> dict[str, Any]:
    return {
        "rebuilt": rebuilt_tables.results(rebuilt),
        "baselines": rebuilt_tables.baselines(rebuilt),
        "rebuilt_controls": rebuilt_tables.controls(rebuilt),
        "rebuilt_further": rebuilt_tables.further(rebuilt),
    }


def _told(
    aggregates: Sequence[Aggregate], drawn: Mapping[str, Mapping[str, bytes]]
) -> list[dict[str, Any]]:
    """A section for each goal that has no tables of its own."""
    from markupsafe import Markup

    return [
        {
            "id": look.slug,
            "title": look.title,
            "note": look.note,
            "charts": [
                Markup(inline(form["svg"], name))
                for name, form in drawn.items()
                if name.startswith(f"{look.slug}-")
            ],
            "table": gains.results(mine, look),
            "more": [table for table in tables.beside(mine, look) if table.lines],
        }
        for look, mine in gains.looks(aggregates)
    ]


def inline(svg: bytes, name: str) -> str:
    """An SVG for use inside a page: no prolog, scalable, and identifiers of its own."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    label = _LABELS[name.partition("-")[0]]
    return re.sub(
        r'^<svg ([^>]*?)width="([\d.]+)pt" height="[\d.]+pt"',
        rf'<svg role="img" aria-label="{label}" style="max-width:calc(\2px * 1.7)" \1',
        text,
    )


def _facts(
    aggregates: Sequence[Aggregate], manifest: Mapping[str, Any] | None
) -> list[tuple[str, str]]:
    def told(values: Any) -> str:
        return ", ".join(str(value) for value in dict.fromkeys(values) if value not in ("", None))

    sizes = sorted({one.row.n_members for one in aggregates})
    facts = [
        ("Data", told(one.row.data for one in aggregates)),
        ("Target", told(one.target for one in aggregates)),
        ("Members in training", told(f"{size:,}" for size in sizes)),
        ("Unit", told(one.row.unit for one in aggregates)),
        ("Seeds", told(sorted({seed for one in aggregates for seed in one.asked}))),
        ("Created", str((manifest or {}).get("created", ""))),
    ]
    return [(name, value) for name, value in facts if value]


def _violations(aggregates: Sequence[Aggregate]) -> list[str]:
    return [
        f"{one.attack} against {one.defense} ({one.target}, {one.row.n_members:,} members, "
        f"{naming.kind(one.row.records)}): {naming.metric(name)} "
        f"{naming.limit(name, one.leakage[name].value)} above {one.upper_bound(name)}, "
        f"in {count} of {len(one.seeds)} seeds"
        for one in aggregates
        for name, count in one.violations.items()
        if isinstance(one.leakage.get(name), Estimate)
    ]


def _missing(aggregates: Sequence[Aggregate]) -> list[tuple]:
    """(target, defense, attack, members, status, seeds, reason), once for all kinds of record."""
    found = dict.fromkeys(
        (
            one.target,
            one.defense,
            one.attack,
            f"{one.row.n_members:,}",
            naming.STATUS[status],
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
        blind = [("blind_auc", one.blind)] if one.blind else []
        for name, value in [*one.leakage.items(), *one.utility.items(), *blind]:
            if value.method:
                method = f"{100 * value.level:g}% {value.method}"
                found.setdefault(method, {})[naming.metric(name)] = None
    return [f"{', '.join(names)}: {method}" for method, names in found.items()]

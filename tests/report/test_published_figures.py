"""The tables of every published row show the figures that were published, whatever their layout."""

import csv
import io
import json
import re
from pathlib import Path

import pytest

from medleak.report import aggregate, tables, text_tables
from medleak.results.row import Row

PUBLISHED = sorted((Path(__file__).parents[2] / "results" / "published").iterdir())
PLACE = ("target", "members", "defense", "attack", "unit", "attribute", "records")
KINDS = ("model", "asked about", "share of")
"""Headings under which goals print the kind of record."""
RENAMED = {
    "without message": "without the message",
    "without model": "without the model",
    "blind AUC (model never asked)": "blind AUC (without the model)",
    "times a plain one": "times a plain query",
    "it sends": "a query sends",
    "it returns": "a query returns",
}


def same_words(text):
    text = re.sub(r"\\(.)|&#(\d+);", lambda m: m[1] or chr(int(m[2])), text.strip())
    return RENAMED.get(text, text.replace("ceiling", "bound"))


def parsed(markdown):
    """(place, heading, text) of every cell, captions included; of an absent line its reason."""
    for part in re.split(r"^## ", markdown, flags=re.MULTILINE)[1:]:
        _, _, caption, _, *grid = part.splitlines()
        lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in grid if line.startswith("|")]
        head, _, *body = [[same_words(cell) for cell in line] for line in lines]
        said = [same_words(text) for text in caption.split(" · ")]
        for line in body:
            cells = dict(zip(head, line, strict=True))
            known = {
                w: t[len(w) + 1 :] for w in (*PLACE, *KINDS) for t in said if t.startswith(f"{w} ")
            }
            known |= {k: v for k, v in cells.items() if k in (*PLACE, *KINDS)}
            if "=" in known.get("attack", "") and known.get("attribute"):
                known["attack"], known["attribute"] = re.split(
                    r" \(attribute=|\)", known["attack"]
                )[:2]
            place = {
                "records" if k in KINDS else k: v.removesuffix(" model") for k, v in known.items()
            }
            status = cells.get("status", "ok")
            if not status.startswith("ok"):
                reasons = [text for text in line if text.startswith(f"{status}: ")]
                cells = {"reason": " ".join(reasons) or status, "seeds": cells.get("seeds", "")}
            yield from ((place, k, v) for k, v in cells.items() if k not in (*PLACE, *KINDS))
            yield from ((place, "caption", text) for text in said)


def missing(old, new):
    """What of `old` no line of `new` says at the same place."""

    def key(place, fact):
        return fact, place.get("defense"), place.get("attack")

    found = {}
    for place, heading, text in new:
        # A fact may stand in a column or, folded, in the caption: that is layout.
        fact = text if heading == "caption" else f"{heading} {text}"
        found.setdefault(key(place, fact), []).append(place)
    facts = {fact for fact, *_ in found}
    for place, heading, text in old:
        fact = text if heading == "caption" else f"{heading} {text}"
        if text in ("", "–") or (heading == "caption" and fact not in facts):
            continue
        here = found.get(key(place, fact), [])
        if not any(all(p[k] == place[k] for k in p.keys() & place.keys()) for p in here):
            yield place, heading, text


@pytest.fixture(params=PUBLISHED, ids=lambda path: path.name)
def published(request):
    rows = json.loads((request.param / "rows.json").read_text())
    return request.param, aggregate([Row.from_json(row) for row in rows])


def test_tables_have_the_published_figures(published):
    folder, aggregates = published
    new = text_tables.markdown(tables.printed(aggregates))
    old = (folder / "tables.md").read_text()
    lost = list(missing(parsed(old), list(parsed(new))))
    assert lost == []


def test_flat_figures_are_the_published_ones(published):
    folder, aggregates = published
    new = list(csv.DictReader(io.StringIO(tables.flat(aggregates).to_csv(index=False))))
    old = list(csv.DictReader(io.StringIO((folder / "tables.csv").read_text())))
    axes = sorted({key for one in aggregates for key in one.row.extra})
    place = (
        "target",
        "n_members",
        "defense",
        "attack",
        "records",
        "unit",
        "pool",
        "n_shadows",
        *axes,
    )
    find = {}
    for line in new:
        find.setdefault(tuple(line[k] for k in place), []).append(line)
    assert len(new) == len(old)
    for line in old:
        here = find[tuple(line[k] for k in place)]
        filled = {k: v for k, v in line.items() if v != ""}
        assert any(filled.items() <= other.items() for other in here), line["attack"]


def test_latex_has_every_line_within_the_page_and_no_character_it_refuses(published):
    _, aggregates = published
    made = tables.printed(aggregates)
    text = text_tables.latex(made)
    assert {c for c in text if not c.isascii()} == set()
    for table in made:
        parts = text_tables._parts(table)
        assert {len(part.lines) for part in parts} == {len(table.lines)}
        headers = {column.header for part in parts for column in part.columns}
        assert headers == {column.header for column in table.columns}
        assert all(
            sum(w + 2 for w in text_tables._widths(part)) <= text_tables.LANDSCAPE for part in parts
        )

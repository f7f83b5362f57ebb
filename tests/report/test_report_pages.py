import dataclasses
import html
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from medleak.report import aggregate, formatting, narrative, pages, plots, write

EVIL = "<script>alert(1)</script>\"'"
VOID = {"meta", "input", "link", "br", "img"}


class Outline(HTMLParser):
    """Checks nesting and collects tags."""

    def __init__(self):
        super().__init__()
        self.open, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(text):
    parser = Outline()
    parser.feed(text)
    assert parser.open == []
    return parser.tags


@pytest.fixture(scope="module")
def folder(tmp_path_factory, rows):
    manifest = {"name": "demo", "config": {"a": [1, {"b": EVIL}]}, "git": {"dirty": False}}
    return write(rows, tmp_path_factory.mktemp("report"), manifest=manifest).parent


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text()


def test_write_leaves_the_promised_files(folder):
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"report.html", "tables.md", "tables.tex", "rows.csv", "measures.csv"} <= names
    stems = ("leakage-pneumonia-cnn", "roc-pneumonia-cnn-250", "roc-pneumonia-cnn-1000")
    assert {f"plots/{stem}.svg" for stem in stems} <= names
    assert not [name for name in names if "/." in f"/{name}"]


def test_page_is_well_formed_and_opens_with_the_picture(page):
    tags = outline(page)
    kinds = [tag for tag, _ in tags]
    assert kinds.index("svg") < kinds.index("table")
    ids = [attrs["id"] for tag, attrs in tags if tag == "section" and "id" in attrs]
    assert ids[:3] == ["picture", "words", "membership"]
    assert {"missing", "guarantees", "cost", "method", "provenance"} <= set(ids)
    tables = {attrs.get("id") for tag, attrs in tags if tag == "table"}
    made = ("results", "subgroups", "further", "controls")
    assert {f"table-{name}-membership" for name in made} <= tables


def test_links_inside_the_page_lead_somewhere(page):
    tags = outline(page)
    ids = {attrs["id"] for _, attrs in tags if "id" in attrs}
    assert {attrs["href"][1:] for tag, attrs in tags if tag == "a"} <= ids


def test_page_is_self_contained(page):
    assert "default-src 'none'" in page
    loads = [a for t, a in outline(page) if t in ("img", "link", "iframe", "object") or "src" in a]
    assert loads == []


def test_identifiers_of_the_plots_do_not_clash(page):
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', page))
    assert used <= set(ids)


def test_headings_sort(page):
    tags = outline(page)
    heads = [attrs for tag, attrs in tags if tag == "th" and "aria-sort" in attrs]
    assert heads
    assert {attrs["aria-sort"] for attrs in heads} == {"none"}
    assert sum(tag == "button" for tag, _ in tags) == len(heads)
    assert any(tag == "td" and "data-sort" in attrs for tag, attrs in tags)
    assert any(attrs.get("id") == "filter" for _, attrs in tags)


def test_rows_of_a_sortable_table_have_a_cell_under_every_heading(page):
    for table in re.findall(r'<table class="sortable".*?</table>', page, re.DOTALL):
        heads = table.count("<th ")
        for row in re.findall(r"<tr.*?</tr>", table.split("<tbody>")[1], re.DOTALL):
            assert row.count("<td") == heads


def test_every_status_is_there(page):
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    for word in ("not applicable", "not run", "failed", "invalid"):
        assert word in text
    assert "1 of 2" in text
    assert "Hidden is not zero" in text


def test_names_and_reasons_are_escaped(make_row, bare_row):
    rows = [
        make_row(
            "none", "lira", 250, 0, target=EVIL, data=EVIL, data_note=EVIL, unit=EVIL, records=EVIL,
            controls={"replica": {"ok": False, "notes": [EVIL]}},
        ),
        make_row(EVIL, EVIL, 250, 0, guarantees=({"kind": EVIL, "unit": EVIL, "epsilon": 1.0,
                 "protects_from": EVIL, "assumptions": (EVIL,), "mechanism": {EVIL: EVIL}},)),
        bare_row("none", "yeom", 250, 0, "failed", EVIL),
    ]  # fmt: skip
    found = aggregate(rows)
    text = pages.page(found, plots.figures(found), {"name": EVIL, "config": {EVIL: EVIL}})
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    outline(text)


def test_violations_and_simulation_open_the_page(make_row):
    row = make_row("dp_sgd_eps1", "lira", 250, 0, violations=("auc",), simulated=True)
    text = pages.page(aggregate([row]), {}, None)
    assert text.index("Above the bound") < text.index("Leakage against accuracy")
    assert "simulated (phantom)" in text


def test_a_page_without_any_figure_still_says_why(bare_row):
    found = aggregate([bare_row("none", "lira", 250, 0, "not_applicable", "labels only")])
    text = pages.page(found, plots.figures(found), None)
    assert "Nothing was measured" in text
    assert "labels only" in text


def test_plots_are_vector_graphics_without_dates(rows):
    drawn = plots.figures(aggregate(rows), ("svg", "pdf"))
    for forms in drawn.values():
        root = ET.fromstring(forms["svg"])
        assert root.tag.endswith("svg")
        assert b"<image" not in forms["svg"]
        assert b"<dc:date>" not in forms["svg"]
        assert forms["pdf"].startswith(b"%PDF")
        assert b"CreationDate" not in forms["pdf"]


def test_many_defenses_are_split_over_figures(make_row):
    rows = [make_row("none", "lira", 250, 0)] + [
        make_row(f"d{i}", "lira", 250, 0) for i in range(5)
    ]
    names = [name for name in plots.figures(aggregate(rows)) if name.startswith("roc")]
    assert len(names) == 2


def test_plots_do_without_intervals_utility_or_curves(make_row):
    row = make_row("none", "lira", 250, 0)
    bare = dataclasses.replace(row.leakage["auc"], low=None, high=None)
    rows = [
        dataclasses.replace(row, leakage={"auc": bare}),
        dataclasses.replace(row, attack="yeom", utility={}, leakage={"auc": bare}),
    ]
    assert list(plots.figures(aggregate(rows))) == ["leakage-pneumonia-cnn"]


def sentences(rows, defense):
    said = narrative.summaries(aggregate(rows))
    return " ".join(next(one for one in said if one.defense == defense).sentences)


def test_plain_words_carry_the_numbers(make_row):
    row = make_row("dp_sgd_eps8", "lira", 1000, 0)
    tpr = row.leakage["tpr_at_1fpr"]
    told = sentences([row], "dp_sgd_eps8")
    assert "1,000 images" in told
    assert "1 false alarm in 100" in told
    assert f"finds about {100 * tpr.value:.1f}" in told
    assert f"between {formatting.hundred(tpr.low)} and {formatting.hundred(tpr.high)}" in told
    assert "Guessing would find 1" in told
    assert "no attack find more than 35 of 100" in told


def test_plain_words_hedge(make_row, bare_row):
    assert "no formal guarantee" in sentences([make_row("none", "lira", 1000, 0)], "none")
    assert "no limit" in sentences([make_row("dp_sgd_eps1e9", "lira", 1000, 0)], "dp_sgd_eps1e9")
    weak = make_row("dp_sgd_eps1", "yeom", 1000, 0)
    assert "cannot be distinguished from guessing" in sentences([weak], "dp_sgd_eps1")
    few = make_row("none", "lira", 250, 0)
    assert "fewer than 10 false alarms" in sentences([few], "none")
    hidden = bare_row("label_only", "lira", 250, 0, "not_applicable", "labels only")
    assert "does not mean that nothing leaks" in sentences([hidden], "label_only")
    wrong = make_row("dp_sgd_eps1", "lira", 1000, 0, violations=("auc",))
    assert "do not rely on it" in sentences([wrong], "dp_sgd_eps1")


def test_the_price_is_against_the_undefended_model(make_row):
    plain, private = (make_row(d, "lira", 1000, 0) for d in ("none", "dp_sgd_eps1"))
    points = 100 * (plain.utility["accuracy"].value - private.utility["accuracy"].value)
    assert f"{points:.1f} points lower" in sentences([plain, private], "dp_sgd_eps1")

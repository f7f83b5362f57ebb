"""A row of an unknown goal, status or metric is shown everywhere, never dropped."""

import dataclasses

import pytest

from medleak.api import Curve, Estimate
from medleak.report import aggregate, explain, publish, tables, terminal, write
from medleak.report.narrative import cases, summaries
from medleak.report.specs import spec_of

GOAL = "re-identification"


@pytest.fixture
def row(make_row):
    known = Estimate(0.42, 0.31, 0.55, 77)
    return dataclasses.replace(
        make_row("dp_sgd_eps8", "matcher", 250, 0, records="twins"),
        goal=GOAL,
        leakage={"linked": known, "depth": Estimate(3.25, 3.0, 3.5, 77),
                 "odd": Estimate(None, None, None, 0, flag="too few"),
                 "spread": Curve((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), 77)},
        baselines={"chance": {"linked": Estimate(0.125, 0.1, 0.15, 77)}},
        excess={"linked": Estimate(0.295, 0.17, 0.4, 77)},
        upper_bounds={"linked": 0.61, "depth": None}, groups={}, worst_group={},
    )  # fmt: skip


def cells(rows):
    lines = aggregate(rows)
    found = {}
    for table in tables.printed(lines):
        for line in table.lines:
            for column, cell in zip(table.columns, line.cells, strict=True):
                found.setdefault(column.header, cell.full)
    return found


def test_the_terminal_has_it(row):
    text = terminal([row])
    assert "matcher" in text
    assert "0.420 [0.310, 0.550]" in text


def test_tables_have_every_measure_interval_n_bound_and_baseline(row):
    found = cells([row])
    assert found["linked"] == "0.420 [0.310, 0.550]"
    assert found["depth"] == "3.250 [3.000, 3.500]"
    assert found["without the attack"] == "0.125"
    assert found["gain"] == "0.295 [0.170, 0.400]"
    assert found["linked bound"] == "0.610"
    assert found["depth bound"] == "vacuous"
    captions = " ".join(table.caption for table in tables.printed(aggregate([row])))
    for part in ("n 77", "no figure: odd (too few)", "no figure: spread (a curve)"):
        assert part in captions
    assert found["linked: chance"] == "0.125 [0.100, 0.150]"


def test_pages_files_and_publishing_have_it(row, tmp_path):
    page = write([row], tmp_path / "local").read_text()
    assert f'id="{GOAL}"' in page
    assert "0.420" in page
    folder = publish([row], "new", manifest={"name": "new"}, root=tmp_path)
    assert "0.420" in (folder / "tables.md").read_text()
    assert "linked_gain" in (folder / "tables.csv").read_text().splitlines()[0]


def test_explain_says_what_was_found_and_how_to_repeat_it(row):
    text = " ".join(explain(row).split())
    for part in ("matcher", "linked 0.420 [0.310, 0.550]", "chance 0.125", "linked: at most 0.610",
                 "medleak run target=pneumonia_cnn"):  # fmt: skip
        assert part in text


def test_the_summary_says_it(row):
    lines = aggregate([row])
    (case,) = cases(spec_of(GOAL, lines), lines)
    assert (case.top.attack, case.name, case.verdict, case.bound) == (
        "matcher",
        "linked",
        "exceeds",
        0.61,
    )
    (summary,) = summaries(lines)
    assert "0.420" in summary.sentences[0]


def test_without_any_figure_the_reason_is_shown(bare_row, tmp_path):
    bare = bare_row("label_only", "matcher", 250, 0, "not_applicable", "no view", goal=GOAL)
    assert "not applicable: no view" in terminal([bare])
    assert "no view" in explain(bare)
    assert "no view" in write([bare], tmp_path).read_text()
    (summary,) = summaries(aggregate([bare]))
    assert "no view" in summary.sentences[0]


@pytest.mark.parametrize("goal", ["membership", GOAL])
def test_a_status_that_is_not_known_is_shown(bare_row, tmp_path, goal):
    bare = bare_row("none", "lira", 250, 0, "on_strike", "since noon", goal=goal)
    for text in (terminal([bare]), explain(bare), write([bare], tmp_path).read_text()):
        assert "on strike" in text
        assert "since noon" in text


def test_a_metric_that_is_not_known_is_shown(make_row):
    row = make_row("none", "lira", 250, 0)
    new = dataclasses.replace(
        row, leakage={**row.leakage, "brand_new": Estimate(0.77, 0.7, 0.8, 9)}
    )
    assert cells([new])["brand new"] == "0.770 [0.700, 0.800]"
    assert "brand new 0.770" in explain(new)


def test_it_stands_beside_known_goals(row, make_row):
    titles = [
        table.title for table in tables.printed(aggregate([make_row("none", "lira", 250, 0), row]))
    ]
    assert any(title.startswith("Membership inference") for title in titles)
    assert any(title.startswith("Re-identification") for title in titles)

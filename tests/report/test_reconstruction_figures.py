"""Page and figures of reconstruction, of handmade rows."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

from medleak.report import aggregate, columns, narrative, pages, plots, tables, tradeoffs
from medleak.report.specs import spec_of
from medleak.results.aggregate import by_goal

SPEC = spec_of("reconstruction")


def results(lines):
    return tables.results(spec_of(lines[0].row.goal), lines)


def gain(row):
    return columns.gain("identified", SPEC).cell(aggregate([row])[0])


def case(rows):
    (found,) = narrative.cases(SPEC, aggregate(rows))
    return found


def test_the_page_shows_charts_tables_and_how_to_read_them(rebuilt_rows):
    found = aggregate(rebuilt_rows)
    text = pages.page(found, plots.figures(found), None)
    for part in (
        'id="rebuilt"',
        'id="table-results-rebuilt"',
        'id="table-baselines-rebuilt"',
        'id="filter"',
        "mean image",
    ):
        assert part in text
    assert 'id="membership"' not in text
    assert "&lt;full&gt;" in text
    assert "gallery.html" not in text
    assert "Blind AUC is" not in text
    assert 'href="gallery.html"' in pages.page(found, {}, None, gallery=True)


def test_a_page_of_both_goals_has_one_filter(rows, rebuilt_rows):
    found = aggregate([*rows, *rebuilt_rows])
    text = pages.page(found, {}, None)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {
        "membership",
        "rebuilt",
        "table-results-membership",
        "table-results-rebuilt",
        "filter",
    } <= set(ids)


def test_names_and_reasons_are_escaped(make_rebuilt, bare_row):
    evil = "<script>alert(1)</script>\"'$x$"
    rows = [
        make_rebuilt(evil, evil, target=evil, data=evil, adversary=evil),
        bare_row("none", "dlg", 1000, 0, "failed", evil, goal="reconstruction"),
    ]
    found = aggregate(rows)
    text = pages.page(found, plots.figures(found), {"name": evil})
    assert "<script>alert" not in text


def test_plots_of_reconstruction(rebuilt_rows):
    drawn = plots.figures(aggregate(rebuilt_rows), ("svg", "pdf"))
    assert list(drawn) == [
        "tradeoff-pneumonia-cnn",
        "rebuilt-pneumonia-cnn-1000",
        "detector-pneumonia-cnn-1000",
        "detector-pneumonia-cnn-1000-3",
    ]
    for forms in drawn.values():
        assert ET.fromstring(forms["svg"]).tag.endswith("svg")
        assert b"<image" not in forms["svg"]
        assert b"CreationDate" not in forms["pdf"]
    assert drawn == plots.figures(aggregate(rebuilt_rows), ("svg", "pdf"))


def drawn_texts(figure):
    """What a figure says, with the boxes that it says it in; ticks out of view are not drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = figure.findobj(Text)
    for axis in figure.axes:
        for scale, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
            hidden = [
                t for t in scale.get_major_ticks() if not min(limits) <= t.get_loc() <= max(limits)
            ]
            out = [label for tick in hidden for label in (tick.label1, tick.label2)]
            found = [text for text in found if text not in out]
    shown = [t for t in found if t.get_text().strip() and t.get_visible()]
    return [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in shown]


def overlapping(boxes):
    return [
        (a, b)
        for i, (a, one) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if one.width and other.width and one.padded(-1).overlaps(other.padded(-1))
    ]


@pytest.mark.parametrize("many", [False, True])
def test_no_label_covers_another(rebuilt_rows, make_rebuilt, make_row, many):
    from medleak.report import charts
    from medleak.report.drawing import DEFENSES, STYLE, colours

    rows = list(rebuilt_rows)
    if many:
        rows += [make_rebuilt(f"hybrid_of_{i} (batch_size={2**i})", "dlg") for i in range(7)]
        rows += [make_row("fedsgd", "lira", 1000, 0)]
    found = aggregate(rows)
    tint = colours([one.defense for one in found], DEFENSES)
    import matplotlib

    with matplotlib.rc_context(STYLE):
        measured = [one for one in found if one.status == "ok"]
        pictures = [tradeoffs.tradeoff(measured, tint=tint)]
        pictures.append(charts.gained(by_goal(found)["reconstruction"], SPEC, tint=tint))
        for figure in pictures:
            # Numbers stand beside their marks, and these may coincide.
            texts = [one for one in drawn_texts(figure) if not one[0].isdecimal()]
            assert overlapping(texts) == []


def test_many_defenses_are_numbered_in_the_picture_and_its_legend(make_rebuilt):
    from medleak.report.drawing import DEFENSES, colours

    for n in (tradeoffs.MOST_TOLD_APART, tradeoffs.MOST_TOLD_APART + 5):
        found = aggregate([make_rebuilt(f"d{i:02}") for i in range(n)])
        figure = tradeoffs.tradeoff(found, tint=colours([one.defense for one in found], DEFENSES))
        legend = [text.get_text() for text in figure.legends[-1].get_texts()]
        beside = {text.get_text() for axis in figure.axes for text in axis.texts}
        numbers = {str(i + 1) for i in range(n)}
        if n > tradeoffs.MOST_TOLD_APART:
            assert legend == [f"{i + 1}  d{i:02}" for i in range(n)]
            assert numbers <= beside
        else:
            assert legend == [f"d{i:02}" for i in range(n)]
            assert not numbers & beside


def test_many_defenses_are_split_over_charts(make_rebuilt):
    rows = [make_rebuilt(f"d{i}", f"a{j}") for i in range(10) for j in range(8)]
    names = [name for name in plots.figures(aggregate(rows)) if name.startswith("rebuilt-")]
    assert len(names) == 3


def test_plots_do_without_intervals_baselines_or_utility(make_rebuilt):
    row = make_rebuilt()
    bare = dataclasses.replace(row.leakage["identified"], low=None, high=None)
    rows = [
        dataclasses.replace(row, leakage={"identified": bare}, excess={}, baselines={}, utility={}),
        dataclasses.replace(row, attack="dlg", excess={"identified": bare}),
    ]
    assert len(plots.figures(aggregate(rows))) == 3
    assert case(rows[:1]).verdict == "no baseline"


def test_marks_are_as_large_as_defenses_are_dear(rebuilt_rows):
    cost = tradeoffs.Cost.of([one for one in aggregate(rebuilt_rows) if one.status == "ok"])
    ratios = {place[2]: ratio for place, ratio in cost.ratios.items()}
    assert ratios["fedavg"] == 1.0  # the cheapest: no defense was not measured
    assert ratios["fedsgd"] == pytest.approx(10.0)
    assert "against fedavg" in cost.label
    assert cost.steps == [1.0, 10.0]


def test_costs_are_against_no_defense_where_it_was_measured(make_rebuilt):
    plain = make_rebuilt("none", cost={"train_seconds": 10.0})
    dear = make_rebuilt("fedsgd", cost={"train_seconds": 40.0, "client_bytes": 8.0})
    cost = tradeoffs.Cost.of(aggregate([plain, dear]))
    assert sorted(cost.ratios.values()) == [1.0, 4.0]
    assert cost.label == "training time, against no defense"
    assert tradeoffs.Cost.of(aggregate([make_rebuilt(cost={})])).ratios == {}


def test_encrypted_answers_cost_what_a_query_does(make_rebuilt):
    plain = make_rebuilt("none", cost={"train_seconds": 10.0})
    costs = {"train_seconds": 11.0, "query_overhead": 7000.0}
    cost = tradeoffs.Cost.of(aggregate([plain, make_rebuilt("encrypted_inference", cost=costs)]))
    assert sorted(cost.ratios.values()) == [1.0, 7000.0]
    assert cost.label == "training time or time of a query, against no defense"


def test_encrypted_answers_have_a_picture_of_what_they_cost(make_row):
    plain = make_row("none", "lira", 1000, 0)
    dear = make_row("encrypted_inference", "lira", 1000, 0)
    dear = dataclasses.replace(dear, cost={**dear.cost, "query_overhead": 7000.0})
    assert not any(name.startswith("tradeoff") for name in plots.figures(aggregate([plain])))
    assert any(name.startswith("tradeoff") for name in plots.figures(aggregate([plain, dear])))

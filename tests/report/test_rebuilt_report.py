"""Reports of reconstruction: tables, words, plots and explanations of handmade rows."""

import dataclasses
import re
import xml.etree.ElementTree as ET

import pytest

from medleak.api import Estimate
from medleak.report import (
    aggregate,
    budgets,
    detectors,
    explain,
    gains,
    naming,
    pages,
    plots,
    rebuilt_tables,
    rebuilt_words,
    tables,
    terminal,
    texts,
    tradeoffs,
    words,
    write,
)
from medleak.report.aggregated import by_goal


def texts_of(table, header):
    at = [column.header for column in table.columns].index(header)
    return [line.cells[at].full for line in table.lines]


def spoken(rows, defense):
    said = words.sayings(aggregate(rows))
    return " ".join(next(one for one in said if one.defense == defense).sentences)


# --------------------------------------------------------------------------- tables


def test_the_main_table_has_what_was_asked_for(make_rebuilt):
    row = make_rebuilt("client_dp_eps8", named=0.25)
    table = rebuilt_tables.results(aggregate([row]))
    cell = {column.header: texts_of(table, column.header)[0] for column in table.columns}
    assert cell["PSNR (dB)"] == "33.0 [29.0, 37.0]"
    assert cell["SSIM"] == "0.70 [0.50, 1.00]"
    found, gain = row.leakage["identified"], row.excess["identified"]
    assert cell["identified"] == f"0.25 [{found.low:.2f}, {found.high:.2f}]"
    assert cell["without message"] == "0.01"
    assert cell["gain"] == f"0.24 [{gain.low:.2f}, {gain.high:.2f}]"
    assert cell["identified ceiling"] == "0.800"
    assert (cell["ε"], cell["a client sends"], cell["attacking"]) == ("8", "4 MB", "0.4 s")
    for told in ("n 128", "seeds 1", "unit image", "model trained", "members 1000"):
        assert told in table.caption


def test_a_grid_with_both_goals_prints_both(rows, rebuilt_rows):
    text = terminal([*rows, *rebuilt_rows])
    assert "TPR@1%" in text
    assert "without" in text
    printed = tables.printed(aggregate([*rows, *rebuilt_rows]))
    headers = [{column.header for column in table.columns} for table in printed if table.lines]
    assert any("AUC" in found for found in headers)
    assert any("gain" in found for found in headers)
    assert not any({"AUC", "gain"} <= found for found in headers)


def test_a_status_row_stays_with_its_goal(rows, rebuilt_rows):
    members, rebuilt = by_goal(aggregate([*rows, *rebuilt_rows]))
    assert {one.defense for one in rebuilt if one.status == "not_applicable"} == {"homomorphic"}
    assert "homomorphic" not in texts.markdown([tables.results(members)])
    assert "label_only" not in texts.markdown([rebuilt_tables.results(rebuilt)])


def test_tables_of_membership_do_not_know_of_reconstruction(rows, rebuilt_rows):
    alone = tables.printed(aggregate(rows))
    beside = tables.printed(aggregate([*rows, *rebuilt_rows]))
    kept = {table.title: table for table in beside}
    for table in alone:
        if table.lines and table.title not in ("Cost", budgets.TITLE):
            assert kept[table.title].lines == table.lines
            assert kept[table.title].caption == table.caption


def test_the_terminal_is_narrow_and_says_every_status(rebuilt_rows):
    text = terminal(rebuilt_rows)
    assert max(map(len, text.splitlines())) <= 136
    assert "not applicable: needs 'updates': the server adds ciphertexts" in text
    assert "not run: budget of 60 min spent" in text
    assert "failed: RankError" in text
    assert text.count("model fresh") == text.count("model trained") == 1
    assert [line for line in text.splitlines() if line.endswith("  ok")]


def test_every_form_says_the_same(make_rebuilt, tmp_path):
    row = make_rebuilt("fedsgd", named=0.5)
    write([row], tmp_path)
    for name in ("tables.md", "tables.tex", "report.html"):
        text = (tmp_path / name).read_text()
        assert "without message" in text
        assert "0.49" in text
    assert "0.49" in terminal([row])
    header, line = (tmp_path / "rows.csv").read_text().splitlines()
    csv = dict(zip(header.split(","), line.split(","), strict=True))
    assert float(csv["identified_gain"]) == pytest.approx(0.49)
    assert float(csv["identified_without"]) == pytest.approx(0.01)


def test_flat_table_carries_gains(make_rebuilt, make_row):
    frame = tables.flat(aggregate([make_rebuilt(named=0.5), make_row("none", "lira", 250, 0)]))
    line = frame[frame["attack"] == "imprint"].iloc[0]
    assert line["identified_gain"] == pytest.approx(0.49)
    assert line["psnr_without"] == pytest.approx(18.0)
    assert "identified_gain" not in tables.flat(aggregate([make_row("none", "lira", 250, 0)]))


def test_seeds_are_averaged_in_baselines_and_gains(make_rebuilt):
    one, two = make_rebuilt(seed=0, named=0.4), make_rebuilt(seed=1, named=0.6)
    (both,) = aggregate([one, two])
    assert both.excess["identified"].value == pytest.approx(0.49)
    low = (one.excess["identified"].low + two.excess["identified"].low) / 2
    assert both.excess["identified"].low == pytest.approx(low)
    assert both.baselines["other messages"]["identified"].value == pytest.approx(0.01)
    assert gains.without(both, "identified") == pytest.approx(0.01)
    assert both.tampering["auc"].value == pytest.approx(0.99, abs=0.02)


def test_the_baseline_is_the_one_that_the_gain_is_over(make_rebuilt):
    """Of an error, the best baseline has the least: not the largest of them."""
    row = make_rebuilt(named=0.5)
    mse = Estimate(-0.004, -0.006, -0.002, 128)
    (one,) = aggregate([dataclasses.replace(row, excess={"mse": mse})])
    assert gains.without(one, "mse") == pytest.approx(row.leakage["mse"].value + 0.004)


def test_only_a_sure_gain_is_bold(make_rebuilt):
    sure, unsure = make_rebuilt("fedsgd"), make_rebuilt("client_dp_eps1")
    assert gains.gain("identified")(aggregate([sure])[0]).tone == "strong"
    assert gains.gain("identified")(aggregate([unsure])[0]).tone == ""


def test_no_gain_is_not_printed_as_a_loss(make_rebuilt):
    gain = Estimate(-0.0001, -0.0002, 0.0, 128)
    row = dataclasses.replace(make_rebuilt(), excess={"identified": gain})
    assert gains.gain("identified")(aggregate([row])[0]).full == "0.00 [0.00, 0.00]"


def test_a_promise_to_others_is_no_ceiling_here(make_rebuilt):
    row = make_rebuilt("client_dp_eps8")
    central = {**row.guarantees[0], "adversaries": ("outsider", "client")}
    (one,) = aggregate([dataclasses.replace(row, guarantees=(central,))])
    assert one.upper_bound("identified") == "–"
    (cell,) = texts_of(rebuilt_tables.results([one]), "ε")
    assert cell == "8 (not against the server)"
    (outside,) = aggregate([dataclasses.replace(one.row, adversary="honest-but-curious outsider")])
    assert outside.upper_bound("identified") == "0.800"


def test_lines_have_a_cell_for_every_column(rebuilt_rows):
    for table in tables.printed(aggregate(rebuilt_rows)):
        assert {len(line.cells) for line in table.lines} <= {len(table.columns)}


def test_ages_stand_side_by_side(rebuilt_rows):
    found = [(o.defense, o.attack, o.row.records) for o in aggregate(rebuilt_rows)]
    at = found.index(("fedsgd", "imprint", "fresh model"))
    assert found[at + 1] == ("fedsgd", "imprint", "trained model")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (41_234_567, "41.2 MB"),
     (999_999, "1 MB"), (3.2e15, "3,200 TB")],
)  # fmt: skip
def test_bytes_are_short(value, text):
    assert naming.size(value) == text


# --------------------------------------------------------------------------- words


def test_plain_words_carry_the_numbers(make_rebuilt):
    row = make_rebuilt("fedsgd", named=0.98)
    told = spoken([row], "fedsgd")
    found = row.leakage["identified"]
    low = f"{100 * found.low:.0f}"
    assert (
        "Of 100 images behind an observed message, a malicious attacker at the server names the right "
        f"patient for about 98 (between {low} and 100) with imprint, the one tried; without the "
        "message 1."
    ) in told
    assert "more than what is known without the message explains" in told
    assert "no formal guarantee" in told
    assert "Each client sends 4 MB in all." in told


def test_plain_words_pick_the_strongest_attack(rebuilt_rows):
    told = spoken(rebuilt_rows, "fedsgd")
    assert "with imprint, the strongest of 2 attacks tried, against the fresh model" in told
    assert told.count("Of 100 images behind") == 1


def test_plain_words_hedge(make_rebuilt, rebuilt_rows):
    assert "No message is seen" in spoken(rebuilt_rows, "homomorphic")
    assert "not the same as nothing leaked" in spoken(rebuilt_rows, "homomorphic")
    weak = spoken([make_rebuilt("client_dp_eps1")], "client_dp_eps1")
    assert "cannot be told from what is known without the message" in weak
    assert "lets no such attacker name more than 10 of 100" in weak
    void = make_rebuilt("client_dp_eps8", ceilings={"identified": 0.9996})
    assert "no limit to this, or next to none" in spoken([void], "client_dp_eps8")
    broken = make_rebuilt("client_dp_eps1", named=0.9, violations=("identified",))
    assert "do not rely on it" in spoken([broken], "client_dp_eps1")
    row = make_rebuilt("client_dp_eps8")
    central = {**row.guarantees[0], "adversaries": ("outsider", "client")}
    told = spoken([dataclasses.replace(row, guarantees=(central,))], "client_dp_eps8")
    assert "does not bind a malicious attacker at the server" in told
    assert "it binds an outsider and a client" in told


def test_another_refusal_is_not_called_unseen(bare_row):
    like = {"goal": "reconstruction", "access": "updates"}
    row = bare_row("fedsgd", "linear_layer", 1000, 0, "not_applicable", "no such layer", **like)
    told = spoken([row], "fedsgd")
    assert "No message is seen" not in told
    assert "Nothing was rebuilt from messages (not applicable: no such layer)" in told


def test_one_card_speaks_of_both_goals(make_rebuilt, make_row):
    rows = [make_rebuilt("fedsgd"), make_row("fedsgd", "lira", 1000, 0)]
    told = spoken(rows, "fedsgd")
    assert "names the right patient" in told
    assert "1 false alarm in 100" in told
    assert told.count("There is no formal guarantee") == 1


@pytest.mark.parametrize(
    ("adversary", "told"),
    [
        ("malicious server", "a malicious attacker at the server"),
        ("honest-but-curious client", "an honest-but-curious attacker among the clients"),
        ("honest-but-curious outsider", "an honest-but-curious outsider"),
        ("", "an attacker"),
    ],
)
def test_who_attacks_is_said(adversary, told):
    assert rebuilt_words.observing_client(adversary) == told


# --------------------------------------------------------------------------- pages and plots


def test_the_page_shows_charts_tables_and_how_to_read_them(rebuilt_rows):
    found = aggregate(rebuilt_rows)
    text = pages.page(found, plots.figures(found), None)
    for part in (
        'id="rebuilt"',
        'id="table-rebuilt"',
        'id="baselines"',
        'id="filter"',
        "mean image",
    ):
        assert part in text
    assert 'id="results"' not in text
    assert "&lt;full&gt;" in text
    assert "gallery.html" not in text
    assert "Blind AUC is" not in text
    assert 'href="gallery.html"' in pages.page(found, {}, None, gallery=True)


def test_a_page_of_both_goals_has_one_filter(rows, rebuilt_rows):
    found = aggregate([*rows, *rebuilt_rows])
    text = pages.page(found, {}, None)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {"results", "rebuilt", "table-results", "table-rebuilt", "filter"} <= set(ids)


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
        pictures.append(charts.identified(by_goal(found)[1], tint=tint))
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
    assert "no baseline without the message" in spoken(rows[:1], "fedsgd")


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


# --------------------------------------------------------------------------- explain


def test_a_row_explains_itself(make_rebuilt):
    text = " ".join(explain(make_rebuilt("client_dp_eps8", named=0.25)).split())
    for part in (
        "rebuilds the images behind observed messages", "among those of all 2,000 images",
        "Attacked: the trained model, in the last observed rounds",
        "The server (malicious) sees the updates of single clients. It changes what is sent",
        "ε = 8, δ = 1e-05", "It binds a malicious attacker at the server.",
        "identified 0.25 [", "- without the message: mean image 0.00, typical image 0.00, other messages 0.01",
        "- gain over the best of them: 0.24 [", "PSNR (dB) 33.0 [29.0, 37.0]",
        "identified: at most 0.800; the whole interval of the evidence lies under it",
        "Clients tell tampered models from honest ones: - AUC 0.99", "does not keep the architecture",
        "client sends 4 MB",
    ):  # fmt: skip
        assert part in text
    assert "shadow models" not in text
    assert "PSNR (dB): vacuous" not in text


def test_a_promise_to_others_is_explained(make_rebuilt):
    row = make_rebuilt("client_dp_eps8")
    central = {**row.guarantees[0], "adversaries": ("outsider",)}
    text = " ".join(explain(dataclasses.replace(row, guarantees=(central,))).split())
    assert "it binds an outsider" in text
    assert "It does not bind a malicious attacker at the server." in text
    assert "None: no guarantee binds this attacker." in text


def test_fillings_with_names_are_printed_as_calls(make_rebuilt):
    train = {"federated": {"_target_": "a.Federated", "rounds": 2}, "dp": {"_target_": "a.DP"}}
    text = explain(make_rebuilt("hybrid", provenance={"slots": {"train": train}}))
    assert "hybrid, train slot: Federated(rounds=2), then DP()" in text


# --------------------------------------------------------------------------- who is noticed


def test_the_detector_has_a_table_and_a_curve_of_its_own(make_rebuilt, make_row, tmp_path):
    rows = [make_rebuilt("fedsgd", age=age) for age in ("fresh model", "trained model")]
    aggregates = aggregate([*rows, make_row("none", "lira", 1000, 0)])
    table = detectors.detector(aggregates)
    (line,) = table.lines  # the age of the attacked model changes nothing
    cell = {c.header: x.full for c, x in zip(table.columns, line.cells, strict=True)}
    assert cell["TPR at 10% FPR"].startswith("0.900 [")
    assert cell["TPR at 1% FPR"].startswith("0.700 * [")
    assert cell["architecture kept"] == "no"
    assert "n 10" in table.caption
    assert "n counts clients" in table.caption
    drawn = plots.figures(aggregates)
    assert "detector-pneumonia-cnn-1000" in drawn
    write([*rows], tmp_path)
    for name in ("tables.md", "tables.tex", "report.html"):
        assert "architecture kept" in (tmp_path / name).read_text()
    page = (tmp_path / "report.html").read_text()
    assert page.count('aria-label="How well clients tell a dishonest server"') == 1
    flat = tables.flat(aggregates).iloc[0]
    assert flat["tampering_tpr_at_1fpr"] == pytest.approx(0.7)


def test_without_a_dishonest_server_there_is_no_detector(make_rebuilt):
    row = make_rebuilt(controls={})
    aggregates = aggregate([row])
    assert not detectors.detector(aggregates).lines
    assert not [name for name in plots.figures(aggregates) if name.startswith("detector")]


def test_an_old_detector_without_a_curve_is_still_told(make_rebuilt):
    row = make_rebuilt()
    old = {"auc": row.controls["tampering"]["auc"], "architecture_kept": True}
    aggregates = aggregate([dataclasses.replace(row, controls={"tampering": old})])
    assert texts_of(detectors.detector(aggregates), "architecture kept") == ["yes"]
    assert not detectors.curved(aggregates)
    assert "Clients tell tampered models" in explain(row)


def test_who_was_told_the_candidates_does_not_speak_for_the_others(make_rebuilt):
    blind, told = make_rebuilt(named=0.2), make_rebuilt(attack="informed_adversary", named=0.9)
    prior = {"random candidate": told.baselines["mean image"]}
    told = dataclasses.replace(told, baselines=told.baselines | prior)
    assert "with imprint" in spoken([blind, told], "fedsgd")
    assert "who knows all the others and some candidates names" in spoken([told], "fedsgd")
    drawn = tradeoffs._panels(aggregate([blind, told]))[0].points
    assert [one.attack for one, _ in drawn] == ["imprint"]

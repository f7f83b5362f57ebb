"""Reports of reconstruction: tables, words, plots and explanations of handmade rows."""

import dataclasses

import pytest

from medleak.api import Estimate
from medleak.report import (
    aggregate,
    columns,
    epsilon_star,
    explain,
    formatting,
    narrative,
    plots,
    tables,
    tampering,
    terminal,
    text_tables,
    tradeoffs,
    write,
)
from medleak.report.columns import bound_text
from medleak.report.specs import spec_of
from medleak.results.aggregate import by_goal
from medleak.results.frame import without

SPEC = spec_of("reconstruction")


def results(lines):
    return tables.results(spec_of(lines[0].row.goal), lines)


def gain(row):
    return columns.gain("identified", SPEC).cell(aggregate([row])[0])


def texts_of(table, header):
    at = [column.header for column in table.columns].index(header)
    return [line.cells[at].full for line in table.lines]


def spoken(rows, defense):
    said = narrative.summaries(aggregate(rows))
    return " ".join(next(one for one in said if one.defense == defense).sentences)


# --------------------------------------------------------------------------- tables


def test_the_main_table_has_what_was_asked_for(make_rebuilt):
    row = make_rebuilt("client_dp_eps8", named=0.25)
    table = results(aggregate([row]))
    cell = {column.header: texts_of(table, column.header)[0] for column in table.columns}
    assert cell["PSNR (dB)"] == "33.0 [29.0, 37.0]"
    assert cell["SSIM"] == "0.70 [0.50, 1.00]"
    found, gain = row.leakage["identified"], row.excess["identified"]
    assert cell["identified"] == f"0.25 [{found.low:.2f}, {found.high:.2f}]"
    assert cell["without the message"] == "0.01"
    assert cell["gain"] == f"0.24 [{gain.low:.2f}, {gain.high:.2f}]"
    assert cell["identified bound"] == "0.800"
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
    found = by_goal(aggregate([*rows, *rebuilt_rows]))
    members, rebuilt = found["membership"], found["reconstruction"]
    assert {one.defense for one in rebuilt if one.status == "not_applicable"} == {"homomorphic"}
    assert "homomorphic" not in text_tables.markdown([results(members)])
    assert "label_only" not in text_tables.markdown([results(rebuilt)])


def test_tables_of_membership_do_not_know_of_reconstruction(rows, rebuilt_rows):
    alone = tables.printed(aggregate(rows))
    beside = tables.printed(aggregate([*rows, *rebuilt_rows]))
    kept = {table.title: table for table in beside}
    for table in alone:
        if table.lines and table.title not in ("Cost", epsilon_star.TITLE):
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
        assert "without the message" in text
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
    assert without(both, "identified") == pytest.approx(0.01)
    assert both.tampering["auc"].value == pytest.approx(0.99, abs=0.02)


def test_the_baseline_is_the_one_that_the_gain_is_over(make_rebuilt):
    """Of an error, the best baseline has the least: not the largest of them."""
    row = make_rebuilt(named=0.5)
    mse = Estimate(-0.004, -0.006, -0.002, 128)
    (one,) = aggregate([dataclasses.replace(row, excess={"mse": mse})])
    assert without(one, "mse") == pytest.approx(row.leakage["mse"].value + 0.004)


def test_only_a_sure_gain_is_bold(make_rebuilt):
    sure, unsure = make_rebuilt("fedsgd"), make_rebuilt("client_dp_eps1")
    assert gain(sure).tone == "strong"
    assert gain(unsure).tone == ""


def test_no_gain_is_not_printed_as_a_loss(make_rebuilt):
    none = Estimate(-0.0001, -0.0002, 0.0, 128)
    row = dataclasses.replace(make_rebuilt(), excess={"identified": none})
    assert gain(row).full == "0.00 [0.00, 0.00]"


def test_a_promise_to_others_is_no_ceiling_here(make_rebuilt):
    row = make_rebuilt("client_dp_eps8")
    central = {**row.guarantees[0], "adversaries": ("outsider", "client")}
    (one,) = aggregate([dataclasses.replace(row, guarantees=(central,))])
    assert bound_text(one.find("leakage", "identified")) == "–"
    (cell,) = texts_of(results([one]), "ε")
    assert cell == "8 (not against the server)"
    (outside,) = aggregate([dataclasses.replace(one.row, adversary="honest-but-curious outsider")])
    assert bound_text(outside.find("leakage", "identified")) == "0.800"


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
    assert formatting.size(value) == text


# --------------------------------------------------------------------------- words


def case(rows):
    (found,) = narrative.cases(SPEC, aggregate(rows))
    return found


def test_the_summary_carries_the_numbers(make_rebuilt):
    row = make_rebuilt("fedsgd", named=0.98)
    found = case([row])
    assert (found.top.attack, found.attacks, found.found.value) == ("imprint", 1, 0.98)
    assert (found.prior, found.verdict, found.limit) == (pytest.approx(0.01), "exceeds", "none")
    text = spoken([row], "fedsgd")
    low = f"{100 * row.leakage['identified'].low:.0f}"
    assert f"about 98 (between {low} and 100) with imprint" in text
    assert "4 MB" in text


def test_the_summary_picks_the_strongest_attack(rebuilt_rows):
    found = case([row for row in rebuilt_rows if row.defense == "fedsgd"])
    assert (found.top.attack, found.top.row.records) == ("imprint", "fresh model")
    assert found.attacks == 2
    assert list(found.kinds) == ["fresh model", "trained model"]


def test_the_summary_hedges(make_rebuilt, rebuilt_rows):
    hidden = case([row for row in rebuilt_rows if row.defense == "homomorphic"])
    assert (hidden.top, hidden.unseen) == (None, True)
    weak = case([make_rebuilt("client_dp_eps1")])
    assert (weak.verdict, weak.limit, weak.bound) == ("unclear", "limited", pytest.approx(0.1))
    assert not weak.violated
    assert (
        case([make_rebuilt("client_dp_eps8", upper_bounds={"identified": 0.9996})]).limit
        == "vacuous"
    )
    assert case([make_rebuilt("client_dp_eps1", named=0.9, violations=("identified",))]).violated
    row = make_rebuilt("client_dp_eps8")
    central = {**row.guarantees[0], "adversaries": ("outsider", "client")}
    other = dataclasses.replace(row, guarantees=(central,))
    assert case([other]).limit == "not binding"
    assert "it binds an outsider and a client" in spoken([other], "client_dp_eps8")


def test_another_refusal_is_not_called_unseen(bare_row):
    like = {"goal": "reconstruction", "access": "updates"}
    row = bare_row("fedsgd", "linear_layer", 1000, 0, "not_applicable", "no such layer", **like)
    assert not case([row]).unseen
    assert "not applicable: no such layer" in spoken([row], "fedsgd")


def test_one_card_speaks_of_both_goals(make_rebuilt, make_row):
    rows = [make_rebuilt("fedsgd"), make_row("fedsgd", "lira", 1000, 0)]
    told = spoken(rows, "fedsgd")
    assert "names the right patient" in told
    assert "1 false alarm in 100" in told
    assert told.count("There is no formal guarantee") == 1


@pytest.mark.parametrize(
    ("adversary", "text"),
    [
        ("malicious server", "a malicious attacker at the server"),
        ("honest-but-curious client", "an honest-but-curious attacker among the clients"),
        ("honest-but-curious outsider", "an honest-but-curious outsider"),
        ("", "an attacker"),
    ],
)
def test_who_attacks_is_said(make_rebuilt, adversary, text):
    assert narrative.adversary(make_rebuilt(adversary=adversary)) == text


# --------------------------------------------------------------------------- explain


def test_a_row_explains_itself(make_rebuilt):
    text = " ".join(explain(make_rebuilt("client_dp_eps8", named=0.25)).split())
    for part in (
        "rebuilds the images behind observed messages", "among all 2,000 images",
        "Attacked: the trained model, in the last observed rounds",
        "The server (malicious) sees the updates of single clients. It changes what it sends",
        "ε = 8, δ = 1e-05", "It binds a malicious attacker at the server.",
        "identified 0.25 [", "- without the message: mean image 0.00, typical image 0.00, other messages 0.01",
        "- gain over the best of them: 0.24 [", "PSNR (dB) 33.0 [29.0, 37.0]",
        "identified: at most 0.800; the whole interval of the evidence lies below it",
        "Clients distinguish tampered models from honest ones: - AUC 0.99", "does not have the agreed architecture",
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
    assert "no guarantee binds this attacker" in text


def test_fillings_with_names_are_printed_as_calls(make_rebuilt):
    train = {"federated": {"_target_": "a.Federated", "rounds": 2}, "dp": {"_target_": "a.DP"}}
    text = explain(make_rebuilt("hybrid", provenance={"slots": {"train": train}}))
    assert "hybrid, train stage: Federated(rounds=2), then DP()" in text


# --------------------------------------------------------------------------- who is noticed


def test_the_detector_has_a_table_and_a_curve_of_its_own(make_rebuilt, make_row, tmp_path):
    rows = [make_rebuilt("fedsgd", age=age) for age in ("fresh model", "trained model")]
    aggregates = aggregate([*rows, make_row("none", "lira", 1000, 0)])
    table = tampering.table(aggregates)
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
    assert page.count('aria-label="How well clients detect a dishonest server"') == 1
    flat = tables.flat(aggregates).iloc[0]
    assert flat["tampering_tpr_at_1fpr"] == pytest.approx(0.7)


def test_without_a_dishonest_server_there_is_no_detector(make_rebuilt):
    row = make_rebuilt(controls={})
    aggregates = aggregate([row])
    assert not tampering.table(aggregates).lines
    assert not [name for name in plots.figures(aggregates) if name.startswith("detector")]


def test_an_old_detector_without_a_curve_is_still_told(make_rebuilt):
    row = make_rebuilt()
    old = {"auc": row.controls["tampering"]["auc"], "architecture_kept": True}
    aggregates = aggregate([dataclasses.replace(row, controls={"tampering": old})])
    assert texts_of(tampering.table(aggregates), "architecture kept") == ["yes"]
    assert not tampering.curved(aggregates)
    assert "Clients distinguish tampered models" in explain(row)


def test_who_was_told_the_candidates_does_not_speak_for_the_others(make_rebuilt):
    blind, told = make_rebuilt(named=0.2), make_rebuilt(attack="informed_adversary", named=0.9)
    prior = {"random candidate": told.baselines["mean image"]}
    told = dataclasses.replace(told, baselines=told.baselines | prior)
    assert case([blind, told]).top.attack == "imprint"
    assert case([told]).informed
    drawn = tradeoffs._panels(aggregate([blind, told]))[0].points
    assert [one.attack for one, _ in drawn] == ["imprint"]

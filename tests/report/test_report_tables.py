import dataclasses
import re

import pytest

from medleak.api import Estimate
from medleak.report import aggregate, formatting, tables, terminal, text_tables
from medleak.report.specs import spec_of


def results(lines):
    return tables.results(spec_of(lines[0].row.goal, lines), lines)


NASTY = "a_b & 50% $x$ {y} #1 ~^ \\cmd | <script>"


@pytest.mark.parametrize(
    ("name", "fpr"),
    [
        ("tpr_at_1fpr", 0.01),
        ("tpr_at_10fpr", 0.1),
        ("tpr_at_01fpr", 0.001),
        ("tpr_at_0.5_fpr", 0.005),
        ("auc", None),
        ("tpr_wherever", None),
    ],
)
def test_false_positive_rates_are_read_from_names(name, fpr):
    assert formatting.fpr_of(name) == (pytest.approx(fpr) if fpr else None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.1, "0.1"), (8.0, "8"), (1e9, "1e9"), (2.5e6, "2.5e6"), (1234.0, "1234")],
)
def test_budgets_are_short(value, text):
    assert formatting.epsilon(value) == text


def test_terminal_is_narrow_and_says_every_status(rows):
    text = terminal(rows)
    assert max(map(len, text.splitlines())) <= 136
    assert "not applicable: view 'scores': the release gives labels only" in text
    assert "not run: budget of 60 min spent" in text
    assert "invalid: replica check: accuracy gap 0.21" in text
    assert "rmia against dp_sgd_eps8: 1 of 2 seeds failed: OSError" in text
    assert "vacuous" in text
    assert "1e9" in text


def test_terminal_folds_what_is_constant(make_row):
    text = terminal([make_row("none", "lira", 250, 0), make_row("none", "yeom", 250, 0)])
    caption, header = text.splitlines()[0], text.splitlines()[2:4]
    assert "target pneumonia_cnn" in caption
    assert "members 250" in caption
    assert "target" not in " ".join(header)


def test_a_line_carries_its_figures(make_row):
    row = make_row("dp_sgd_eps8", "lira", 250, 0)
    auc = row.leakage["auc"]
    line = next(line for line in terminal([row]).splitlines() if "dp_sgd_eps8 " in line)
    assert f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]" in line
    assert f"{row.utility['accuracy'].value:.3f}" in line
    assert "0.930" in line
    assert "sex=F" in text_tables.markdown(tables.printed(aggregate([row])))


def test_hidden_is_never_a_number(bare_row):
    text = terminal([bare_row("label_only", "lira", 250, 0, "not_applicable", "labels only")])
    assert "not applicable: labels only" in text
    assert not re.search(r"\d\.\d", text)


def test_no_rows():
    assert terminal([]) == "no rows"


def test_simulated_is_in_every_caption(phantom_rows):
    for table in tables.printed(aggregate(phantom_rows)):
        if table.lines:
            assert "simulated (phantom)" in table.caption
    assert "simulated (phantom)" in " ".join(terminal(phantom_rows).split())


def test_a_mixture_names_what_is_simulated(rows, phantom_rows):
    table = results(aggregate([*rows, *phantom_rows]))
    assert "simulated (phantom): phantom_cnn" in table.caption


def test_a_violation_is_shouted(make_row):
    text = terminal([make_row("dp_sgd_eps1", "lira", 250, 0, violations=("auc",))])
    assert "ABOVE THE BOUND: AUC" in text


def test_lines_have_a_cell_for_every_column(rows):
    for table in tables.printed(aggregate(rows)):
        assert {len(line.cells) for line in table.lines} <= {len(table.columns)}


def test_latex_escapes_names(make_row, bare_row):
    rows = [make_row("none", NASTY, 250, 0), bare_row("none", "yeom", 250, 0, "failed", NASTY)]
    text = text_tables.latex(tables.printed(aggregate(rows)))
    safe = r"a\_b \& 50\% \$x\$ \{y\} \#1 \textasciitilde{}\textasciicircum{} \textbackslash{}cmd"
    assert text.count(safe) >= 2
    assert r"\toprule" in text
    assert "<script>" not in text
    body = re.sub(r"\\multicolumn\{(\d+)\}.*?(?= &| \\\\)", lambda m: " & " * (int(m[1]) - 1), text)
    table = body.split(r"\begin{longtable}")[1]
    counts = {len(re.findall(r"(?<!\\)&", line)) for line in table.splitlines() if " & " in line}
    assert len(counts) == 1


def test_markdown_escapes_names_and_keeps_its_columns(make_row, bare_row):
    rows = [make_row("none", NASTY, 250, 0), bare_row("none", "yeom", 250, 0, "failed", NASTY)]
    text = text_tables.markdown([results(aggregate(rows))])
    assert "<script>" not in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_a_metric_that_no_line_has_is_left_out(rows):
    headers = [column.header for column in results(aggregate(rows)).columns]
    assert "TPR at 1% FPR" in headers
    assert "TPR at 0.1% FPR" not in headers


def test_flat_table_keeps_every_line_and_full_precision(rows):
    found = aggregate(rows)
    frame = tables.flat(found)
    assert len(frame) == len(found)
    assert frame["auc"].tolist()[0] == found[0].leakage["auc"].value
    assert set(frame["status"]) == {"ok", "not applicable", "not run", "invalid"}


def test_groups_too_small_to_measure_are_in_the_caption(make_row):
    row = make_row("none", "lira", 250, 0)
    assert "too small" not in terminal([row])
    few = Estimate(None, None, None, 4, flag="too few: 2 members, 2 non-members")
    groups = {**row.groups, "site=X": {"auc": few}}
    text = " ".join(terminal([make_row("none", "lira", 250, 0, groups=groups)]).split())
    assert "worst group: of 2 measured, 3 in all (the others are too small)" in text


def test_rows_by_record_say_that_n_counts_patients(make_row):
    assert "n counts patients" in terminal([make_row("none", "lira", 250, 0, unit="record")])
    assert "n counts" not in terminal([make_row("none", "lira", 250, 0)])


def test_fixed_axes_stand_in_the_caption(make_row):
    text = terminal([make_row("none", "lira", 250, 0, extra={"target.recipe.epochs": 5})])
    assert "epochs=5" in " ".join(text.splitlines()[:2])


def test_an_audited_epsilon_that_no_guess_could_raise_says_so(make_row):
    row = make_row("none", "lira", 250, 0)
    found = Estimate(2.02, 2.02, None, 36, flag="the most that these guesses can show, 2.02")
    made = aggregate([dataclasses.replace(row, leakage={**row.leakage, "epsilon": found})])
    table = results(made)
    at = [column.header for column in table.columns].index("audited ε")
    assert [line.cells[at].text.endswith(" max") for line in table.lines] == [True]
    assert "max: no guesses could have shown more" in table.caption

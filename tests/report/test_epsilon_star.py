"""ε*: the largest budget up to which an attack finds no more than was known."""

from dataclasses import replace

import pytest

from medleak.api import Estimate
from medleak.report import aggregate, epsilon_star, tables, text_tables, write
from medleak.report.epsilon_star import STAR


def known(low, value=None):
    return Estimate(value if value is not None else low + 0.05, low, low + 0.1, 100)


@pytest.fixture
def grid(make_row):
    """Rows of one attack whose AUC has these lower bounds, budget by budget."""

    def made(lows, attack="lira", **changes):
        rows = []
        for epsilon, low in lows.items():
            row = make_row("dp_sgd_eps1", attack, 1000, 0)
            promise = {**row.guarantees[0], "epsilon": epsilon}
            leakage = {"auc": Estimate(None, None, None, 0) if low is None else known(low)}
            name = f"dp_sgd_eps{epsilon:g}"
            parts = {"defense": name, "guarantees": (promise,), "leakage": leakage} | changes
            rows.append(replace(row, **parts))
        return rows

    return made


def only(rows):
    (found,) = epsilon_star.series(aggregate(rows))
    return found


def cells(rows):
    table = epsilon_star.table(aggregate(rows))
    (line,) = table.lines
    return {c.header: x.full for c, x in zip(table.columns, line.cells, strict=True)}, table


def test_it_is_the_largest_budget_that_holds(grid):
    found = only(grid({1e9: 0.6, 1: 0.45, 8: 0.5}))
    assert (found.star, found.is_open, found.measured) == (8, False, [1, 8, 1e9])
    cell, table = cells(grid({1e9: 0.6, 1: 0.45, 8: 0.5}))
    assert cell[STAR] == "8"
    assert cell["not exceeded at ε ="] == "1, 8"
    assert cell["exceeded at ε ="] == "1e9"
    assert cell["promise"] == "dp_sgd"
    assert "the largest budget measured such that there" in table.caption


def test_a_budget_that_holds_above_one_that_does_not_is_no_proof(grid):
    found = only(grid({1: 0.45, 8: 0.52, 100: 0.49}))
    assert (found.star, found.is_open) == (1, False)


def test_ends_are_told_as_ends(grid):
    assert cells(grid({1: 0.51, 8: 0.6}))[0][STAR] == "none measured (< 1)"
    assert cells(grid({1: 0.4, 8: 0.5}))[0][STAR] == "≥ 8"
    assert only(grid({1: 0.51, 8: 0.6})).star is None


def test_what_was_not_measured_neither_holds_nor_fails(grid):
    rows = grid({1: 0.4, 8: None, 100: 0.6})
    assert only(rows).star == 1
    cell, table = cells(rows)
    assert "not measured at ε = 8" in table.caption
    assert cell["exceeded at ε ="] == "100"
    assert epsilon_star.series(aggregate(grid({1: 0.4, 8: None}))) == []  # one figure is no series


def test_two_lines_of_one_budget_must_both_hold(grid):
    rows = grid({1: 0.4, 8: 0.4}) + [
        replace(one, defense="dp_sgd_eps8_again") for one in grid({8: 0.6})
    ]
    assert only(rows).star == 1


def test_promises_that_bind_somebody_else_do_not_count(grid):
    rows = grid({1: 0.4, 8: 0.6})
    bound = [
        replace(one, guarantees=({**one.guarantees[0], "adversaries": ("outsider",)},))
        for one in rows
    ]
    assert only(bound).star == 1
    other = [replace(one, adversary="honest-but-curious server") for one in bound]
    assert epsilon_star.series(aggregate(other)) == []


def test_kinds_of_promise_attacks_and_axes_stay_apart(grid):
    lows = {1: 0.4, 8: 0.6}
    slots = {"slots": {"train": [{"_target_": "a.DPSGD"}, {"_target_": "a.Dropout"}]}}
    rows = [
        *grid(lows),
        *grid(lows, "rmia"),
        *(
            replace(one, defense=f"hybrid_{i}")
            for i, one in enumerate(grid(lows, provenance=slots))
        ),
        *grid(lows, extra={"target.recipe.epochs": 3}),
        *grid(lows, records="mislabelled"),
    ]
    assert len(epsilon_star.series(aggregate(rows))) == 5
    swept = [
        replace(one, defense="dp_sgd", extra={"defense.slots.train.epsilon": str(i)})
        for i, one in enumerate(grid(lows))
    ]
    assert only(swept).defense == "dp_sgd"
    assert only(swept).star == 1


def test_of_reconstruction_the_gain_counts(make_rebuilt):
    def row(epsilon, low):
        one = make_rebuilt("client_dp_eps8")
        gain = {"identified": known(low)}
        promise = ({**one.guarantees[0], "epsilon": epsilon},)
        return replace(one, defense=f"client_dp_eps{epsilon:g}", excess=gain, guarantees=promise)

    found = only([row(1.0, -0.01), row(8.0, 0.0), row(1e9, 0.2)])
    assert found.star == 8
    assert found.defense == "client_dp"


def test_every_form_tells_it(grid, tmp_path):
    rows = grid({1: 0.4, 8: 0.6})
    write(rows, tmp_path)
    assert "ε\\*" in (tmp_path / "tables.md").read_text()
    assert r"$\varepsilon$$^{*}$" in (tmp_path / "tables.tex").read_text()
    assert 'id="table-epsilon-star"' in (tmp_path / "report.html").read_text()
    flat = tables.flat(aggregate(rows))
    assert flat["epsilon_star"].tolist() == [1, 1]
    assert flat["epsilon_star_is"].tolist() == ["measured", "measured"]
    assert flat["epsilons_measured"].tolist() == ["1 8", "1 8"]


def test_without_budgets_there_is_no_such_table(make_row):
    aggregates = aggregate([make_row("none", "lira", 1000, 0)])
    assert not epsilon_star.table(aggregates).lines
    assert STAR not in text_tables.markdown(tables.printed(aggregates))
    assert "epsilon_star" not in tables.flat(aggregates)


def test_goals_with_a_guess_or_a_gain_have_one(make_row, grid):
    """Whatever the goal: over its guess, or over its baselines."""
    share = {"property_auc": known(0.4)}
    rows = [
        replace(one, goal="property", leakage=share if i == 0 else {"property_auc": known(0.6)})
        for i, one in enumerate(grid({1: 0.4, 8: 0.6}))
    ]
    assert only(rows).star == 1
    gained = [
        replace(one, goal="brand_new", excess={"auc": known(low)})
        for one, low in zip(grid({1: 0.7, 8: 0.7}), (-0.1, 0.2), strict=True)
    ]
    assert only(gained).star == 1
    assert epsilon_star.absent(aggregate(gained)) == []


def test_a_goal_without_one_says_why(grid):
    rows = [replace(one, goal="brand_new") for one in grid({1: 0.4, 8: 0.6})]
    assert epsilon_star.series(aggregate(rows)) == []
    (reason,) = epsilon_star.absent(aggregate(rows))
    assert "brand new" in reason
    (single,) = epsilon_star.absent(aggregate(grid({1: 0.4})))
    assert "two budgets" in single

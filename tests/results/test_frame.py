"""The tidy frame: one line for each result and measure."""

import dataclasses
import importlib.util

import pandas as pd
import pytest

from medleak.api import ConfigError, Curve, Estimate
from medleak.results.aggregate import Aggregate, aggregate
from medleak.results.frame import COLUMNS, save, tidy, to_frame, without
from medleak.results.row import SCHEMA, Row


def estimate(value, half=0.1):
    return Estimate(value, value - half, value + half, 40, 0.95, "t", "")


def made(**changes):
    promise = {"kind": "dp", "unit": "record", "epsilon": 8.0, "adversaries": ("outsider",)}
    values = {
        "key": "k", "cell": "c", "status": "ok", "target": "t", "defense": "d", "attack": "a",
        "n_members": 9, "seed": 0, "goal": "brand_new", "records": "everything", "unit": "patient",
        "adversary": "curious outsider", "guarantees": (promise,), "extra": {"attack.k": 2},
        "leakage": {"found": estimate(0.6), "other": Estimate(None, None, None, 3, flag="few")},
        "utility": {"dice": estimate(0.8)}, "groups": {"sex=F": {"found": estimate(0.7)}},
        "worst_group": {"found": {"group": "sex=F", **vars(estimate(0.7))}},
        "baselines": {"guess": {"found": estimate(0.5)}}, "excess": {"found": estimate(0.1, 0.05)},
        "upper_bounds": {"found": 0.5, "other": None}, "violations": ("found",),
        "controls": {"blind_auc": estimate(0.5), "note": "text"}, "cost": {"train_seconds": 3.0},
    }  # fmt: skip
    return Row(**{**values, **changes})


def line(frame, **place):
    for name, value in place.items():
        frame = frame[frame[name] == value]
    (found,) = frame.to_dict("records")
    return found


def test_every_measure_has_a_line():
    frame = tidy([made()])
    kinds = ("leakage", "leakage", "utility", "group", "worst group", "baseline", "excess",
             "control", "guarantee", "cost")  # fmt: skip
    assert frame["kind"].tolist() == list(kinds)
    assert frame.columns.tolist() == [{"name": "measure"}.get(name, name) for name in COLUMNS]
    assert set(frame["goal"]) == {"brand_new"}
    assert frame.attrs["schema"] == SCHEMA
    assert set(frame["schema"]) == {SCHEMA}


def test_a_line_carries_its_figures_bound_and_place():
    frame = tidy([made()])
    found = line(frame, kind="leakage", measure="found")
    assert (found["value"], found["n"], found["bound"]) == (0.6, 40, 0.5)
    assert (found["low"], found["high"]) == pytest.approx((0.5, 0.7))
    assert (found["bound_status"], found["violated"]) == ("limited", 1)
    assert (found["axes"], found["seeds"]) == ('{"attack.k": 2}', "0")
    other = line(frame, kind="leakage", measure="other")
    assert (other["bound_status"], other["flag"]) == ("vacuous", "few")
    assert line(frame, kind="baseline")["baseline"] == "guess"
    assert line(frame, kind="worst group")["group"] == "sex=F"
    assert line(frame, kind="cost")["value"] == 3.0


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"guarantees": ()}, ""), ({"adversary": "curious server"}, "not binding")],
)
def test_a_bound_says_whom_it_binds(changes, status):
    assert line(tidy([made(**changes)]), kind="leakage", measure="found")["bound_status"] == status


@pytest.mark.parametrize("status", ["failed", "not_run", "unheard_of"])
def test_a_row_without_figures_has_one_line_that_says_why(status):
    bare = {"leakage": {}, "utility": {}, "groups": {}, "worst_group": {}, "baselines": {}}
    bare |= {"excess": {}, "controls": {}, "cost": {}, "guarantees": (), "upper_bounds": {}}
    (found,) = tidy([made(status=status, reason="why", **bare)]).to_dict("records")
    assert found["status"] == status
    assert found["reason"].endswith("why")
    assert (found["seeds"], found["seeds_asked"]) == ("", "0")
    assert pd.isna(found["measure"])


def test_an_invalid_row_keeps_its_figures_but_gives_none_to_means():
    rows = [made(status="invalid", seed=1, leakage={"found": estimate(0.9)}), made()]
    assert line(tidy(rows[:1]), kind="leakage")["value"] == 0.9
    means = tidy(aggregate(rows))
    assert line(means, kind="leakage", measure="found")["value"] == 0.6
    assert set(means["seeds_asked"]) == {"0 1"}


def test_curves_are_named():
    curve = Curve((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), 9)
    assert line(tidy([made(leakage={"roc": curve})]), kind="leakage")["points"] == 2


def test_aggregates_are_means_over_seeds():
    rows = [made(), made(seed=1, leakage={"found": estimate(0.8)})]
    found = line(tidy(aggregate(rows)), kind="leakage", measure="found")
    assert (found["value"], found["seeds"]) == (pytest.approx(0.7), "0 1")


def test_a_measure_is_found_by_its_place():
    one = Aggregate.of(made())
    assert one.find("baseline", "found", baseline="guess").value == 0.5
    assert one.find("group", "found", group="sex=F").value == 0.7
    assert one.find("leakage", "nowhere") is None
    assert without(one, "found") == pytest.approx(0.5)


def test_the_flat_table_has_a_line_for_each_row():
    frame = to_frame([made(), made(seed=1)])
    assert frame["found_gain"].tolist() == [0.1, 0.1]
    assert frame["found_ceiling"].tolist() == [0.5, 0.5]


def test_csv_is_always_there(tmp_path):
    path = save(tidy([made()]), tmp_path / "m.csv")
    assert pd.read_csv(path)["measure"].tolist() == tidy([made()])["measure"].tolist()


def test_parquet_needs_pyarrow(tmp_path):
    path = tmp_path / "m.parquet"
    if importlib.util.find_spec("pyarrow"):
        frame = pd.read_parquet(save(tidy([made()]), path))
        assert frame["value"].tolist() == pytest.approx(tidy([made()])["value"].tolist())
        return
    with pytest.raises(ConfigError, match="needs pyarrow") as caught:
        save(tidy([made()]), path)
    assert "\n" not in str(caught.value)


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        save(tidy([made()]), tmp_path / "m.xls")


def test_goals_stay_apart_in_means():
    rows = [made(), dataclasses.replace(made(seed=1), goal="another")]
    assert len(aggregate(rows)) == 2

"""Rows of every schema version are read."""

import pytest

from medleak.api import Curve, Estimate
from medleak.results import row as rows
from medleak.results.row import SCHEMA, Row, migrated


def made(**changes):
    values = {"key": "k", "cell": "c", "status": "ok", "target": "t", "defense": "d", "attack": "a"}
    return Row(**{**values, "n_members": 9, "seed": 0, **changes})


def test_a_row_says_its_schema():
    assert made().to_json()["schema"] == SCHEMA == 2


def test_a_row_comes_back_from_json():
    curve = Curve((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), 9)
    row = made(leakage={"auc": Estimate(0.6, 0.5, 0.7, 9), "roc": curve}, violations=("auc",))
    assert Row.from_json(row.to_json()) == row


def test_rows_without_a_version_are_of_the_first():
    old = made(reason="why").to_json()
    del old["schema"]
    assert Row.from_json(old) == made(reason="why")


def test_unknown_fields_are_left_out():
    assert Row.from_json(made().to_json() | {"of_another_version": 1}) == made()


def test_a_rename_is_one_entry(monkeypatch):
    monkeypatch.setattr(rows, "RENAMED", {2: {"victim": "target"}})
    old = made().to_json()
    old["victim"] = old.pop("target")
    del old["schema"]
    assert migrated(old)["target"] == "t"
    assert Row.from_json(old) == made()


@pytest.mark.parametrize("version", [SCHEMA, SCHEMA + 1])
def test_rows_of_this_or_a_later_version_are_not_renamed(monkeypatch, version):
    monkeypatch.setattr(rows, "RENAMED", {2: {"attack": "method"}})
    assert Row.from_json(made().to_json() | {"schema": version}) == made()

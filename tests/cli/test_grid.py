"""``medleak grid`` and ``run`` on a toy target: exit status, what is printed, what is redone."""

import json

import pytest

from medleak import cli
from medleak.cli.grid import status_of
from medleak.config import plugins
from medleak.engine.plan import Result

TARGET = """
summary: a toy
dataset: {_target_: toy.Blobs}
model: {_target_: toy.Linear}
recipe: {_target_: toy.Steps, epochs: 20, fail: false}
split: {n_members: 40, n_auxiliary: 80, n_evaluation: 40, seed: 0}
"""
ATTACK = "summary: a toy\n_target_: toy.Confidence\n"
WORDS = ["target=toy_target", "attack=toy_attack", "executor=serial", "metrics=[auc]"]


@pytest.fixture(autouse=True)
def work(tmp_path, monkeypatch):
    """A toy target, attack and saved grid in a plugin folder, and an empty place to work in."""
    texts = {
        "target/toy_target": TARGET,
        "attack/toy_attack": ATTACK,
        "grid/toy_grid": "summary: a toy\noverrides: [" + ", ".join(map(repr, WORDS)) + "]\n",
    }
    for name, text in texts.items():
        file = tmp_path / "toys" / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "toys"))
    monkeypatch.delenv("MEDLEAK_STORE", raising=False)
    return work


def test_a_saved_grid_runs_under_its_name_and_again_for_nothing(work, capsys, monkeypatch):
    assert cli.main(["grid", "toy_grid", "executor=serial"]) == 0
    first = capsys.readouterr().out
    assert "toy_attack" in first
    assert "toy_grid: " in first
    folder = work / "results" / "grids" / "toy_grid"
    assert f"report: {folder.relative_to(work)}/report.html" in first
    monkeypatch.setattr(
        "medleak.engine.scheduler.train", lambda *a, **k: pytest.fail("trained again")
    )
    monkeypatch.setattr(
        "medleak.engine.scheduler.measure", lambda *a, **k: pytest.fail("measured again")
    )
    assert cli.main(["grid", "toy_grid"]) == 0
    assert capsys.readouterr().out == first


def test_an_unchanged_report_is_left_and_a_lost_one_written(work, capsys):
    assert cli.main(["grid", "toy_grid"]) == 0
    page = work / "results" / "grids" / "toy_grid" / "report.html"
    page.write_text("marked")
    assert cli.main(["grid", "toy_grid"]) == 0
    assert cli.main(["grid", "toy_grid"]) == 0
    assert page.read_text() == "marked"
    page.unlink()
    assert cli.main(["grid", "toy_grid"]) == 0
    assert "toy_attack" in page.read_text()
    page.write_text("marked")
    assert cli.main(["report", "toy_grid"]) == 0
    assert "toy_attack" in page.read_text()


def test_store_and_out_go_where_they_are_told(work, capsys):
    assert cli.main(["grid", *WORDS, "--name", "n", "--out", "o", "--store", "s"]) == 0
    assert (work / "o" / "n" / "rows.json").is_file()
    assert (work / "s" / "runs").is_dir()
    assert not (work / "results").exists()
    assert cli.main(["report", "--out", "o"]) == 0
    key = json.loads((work / "o" / "n" / "rows.json").read_text())[0]["key"]
    assert cli.main(["explain", key, "--out", "o"]) == 0
    assert "toy_attack" in capsys.readouterr().out


def test_run_prints_the_rows_of_one_cell_and_how_to_explain_them(work, capsys):
    assert cli.main(["run", *WORDS]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("medleak explain ")]
    assert len(lines) == len(set(lines)) >= 1
    assert cli.main(lines[0].partition("#")[0].split()[1:]) == 0


def test_a_dry_run_of_one_cell_measures_nothing(work, capsys):
    assert cli.main(["run", *WORDS, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "estimated time" in out
    assert "medleak explain" not in out
    assert not (work / "results" / "grids").exists()


def test_multirun_is_a_grid(work, capsys):
    assert cli.main(["run", "-m", *WORDS, "seed=0,1"]) == 0
    assert "report: " in capsys.readouterr().out


def test_what_failed_is_printed_and_makes_the_status_one(work, capsys):
    words = ["grid", *WORDS, "target.recipe.fail=true,false", "--name", "half"]
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "failed" in out
    assert "the toy was told to fail" in err
    assert "--retry-failed tries again" in err
    rows = json.loads((work / "results" / "grids" / "half" / "rows.json").read_text())
    assert {row["status"] for row in rows} == {"ok", "failed"}
    assert cli.main([*words, "--retry-failed"]) == 1


def test_a_budget_leaves_rows_that_were_not_run(work, capsys):
    words = ["grid", *WORDS, "seed=0,1,2", "+target.recipe.wait=0.4", "--name", "short"]
    assert cli.main([*words, "--budget", "0.1s"]) == 0
    rows = json.loads((work / "results" / "grids" / "short" / "rows.json").read_text())
    assert "not_run" in {row["status"] for row in rows}


@pytest.mark.parametrize(
    ("statuses", "interrupted", "status"),
    [
        (["ok", "not_applicable", "not_run"], False, 0),
        (["ok", "failed"], False, 1),
        (["ok", "invalid"], False, 1),
        (["ok", "failed"], True, 130),
    ],
)
def test_exit_status(statuses, interrupted, status, tmp_path, capsys):
    from medleak.results.row import Row

    rows = [Row("k", "c", s, "t", "d", "a", 1, 0, reason="why") for s in statuses]
    assert status_of(Result(rows, tmp_path, interrupted=interrupted)) == status
    err = capsys.readouterr().err
    assert ("failed: why" in err) == ("failed" in statuses)
    assert ("interrupted" in err) == interrupted

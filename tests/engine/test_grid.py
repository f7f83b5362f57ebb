"""Plans and their execution: nothing twice, nothing lost, failures as rows."""

import json

import pytest

from medleak.api import ConfigError
from medleak.config.compose import Job
from medleak.core.store import ARRAYS, MANIFEST
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.cell import Cell
from medleak.engine.executors import LocalExecutor, SerialExecutor
from medleak.results import saved
from medleak.training.stored_model import _Recent

METRICS = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}


def job(config, axes=None, overrides=()):
    return Job(overrides, axes or {}, config)


def jobs_of(toy_config, seeds=(0, 1), attacks=("Confidence", "AboveShadows"), **options):
    knowledge = {"AboveShadows": {"n_shadows": 4}}
    return [
        job(toy_config(a, seed=s, knowledge=knowledge.get(a, {}), **options), {}, (f"seed={s}",))
        for s in seeds
        for a in attacks
    ]


@pytest.fixture
def plan_of(tmp_path):
    def make(jobs, name="g", store="store"):
        return grid.plan(
            jobs, metrics=METRICS, name=name, out=tmp_path / "out", store=tmp_path / store
        )

    return make


def figures(rows):
    return [(r.key, r.status, r.records, r.unit, r.leakage) for r in rows]


def test_a_grid_trains_shared_runs_once_and_issuing_it_again_does_nothing(toy_config, plan_of):
    plan = plan_of(jobs_of(toy_config))
    assert len(plan.missing_runs()) == 5  # columns 0 to 4: each a target or a shadow, or both
    first = scheduler.execute(plan, executor=SerialExecutor())
    assert (first.trained, first.measured, first.counts) == (5, 4, {"ok": 4})
    again = scheduler.execute(plan_of(jobs_of(toy_config)), executor=SerialExecutor())
    assert (again.trained, again.measured) == (0, 0)
    assert figures(again.rows) == figures(first.rows)
    assert len(again.frame) == 4
    assert saved.load("g", plan.folder.parent)[0] == again.rows


def test_stopped_before_the_manifest_the_same_command_goes_on(toy_config, plan_of, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    jobs = jobs_of(toy_config, seeds=(0,), attacks=("Confidence",))
    with monkeypatch.context() as patched:
        patched.setattr("medleak.engine.scheduler.save_manifest", interrupted)
        assert scheduler.execute(plan_of(jobs), executor=SerialExecutor()).interrupted
    assert scheduler.execute(plan_of(jobs), executor=SerialExecutor()).counts == {"ok": 1}


def test_more_shadows_extend_the_pool(toy_config, plan_of):
    short = jobs_of(toy_config, seeds=(0,), attacks=("AboveShadows",), n_shadows=4)
    scheduler.execute(plan_of(short), executor=SerialExecutor())
    long = jobs_of(toy_config, seeds=(0,), attacks=("AboveShadows",), n_shadows=7)
    assert len(plan_of(long, name="long").missing_runs()) == 3


def test_processes_give_the_same_rows_as_one(toy_config, plan_of):
    serial = scheduler.execute(plan_of(jobs_of(toy_config)), executor=SerialExecutor())
    local = scheduler.execute(
        plan_of(jobs_of(toy_config), store="other", name="other"), executor=LocalExecutor(jobs=2)
    )
    assert figures(local.rows) == figures(serial.rows)


def test_the_toy_leaks_and_the_interval_says_so(toy_config, plan_of):
    rows = scheduler.execute(plan_of(jobs_of(toy_config)), executor=SerialExecutor()).rows
    best = max(row.leakage["auc"].value for row in rows)
    assert best > 0.65
    assert all(row.leakage["auc"].low <= row.leakage["auc"].value for row in rows)
    assert all(row.simulated and row.utility["accuracy"].n == 40 for row in rows)


def test_patients_with_several_scans_get_rows_by_patient_and_by_record(toy_config, plan_of):
    jobs = jobs_of(toy_config, seeds=(0,), attacks=("Confidence",), dataset={"scans": 3})
    rows = scheduler.execute(plan_of(jobs), executor=SerialExecutor()).rows
    assert {row.unit: row.leakage["auc"].n for row in rows} == {"patient": 80, "record": 80}
    assert all("sex=F" in row.groups for row in rows)


def test_canaries_have_rows_of_their_own(toy_config, plan_of):
    split = {"canaries": {"mislabelled": 0.4}}
    jobs = jobs_of(toy_config, seeds=(0,), attacks=("Confidence",), split=split)
    rows = scheduler.execute(plan_of(jobs), executor=SerialExecutor()).rows
    assert [row.records for row in rows] == ["natural", "mislabelled"]
    assert sum(row.leakage["auc"].n for row in rows) == 80


def test_failures_are_rows_that_wait_to_be_asked_for(toy_config, plan_of):
    jobs = jobs_of(toy_config, seeds=(0,), attacks=("Confidence", "Broken"))
    jobs.append(job(toy_config("Confidence", recipe={"fail": True})))
    first = scheduler.execute(plan_of(jobs), executor=SerialExecutor())
    reasons = {row.attack + row.status: row.reason for row in first.rows}
    assert reasons["Brokenfailed"] == "Broken returned shape (3,): (80,) is needed"
    assert "the toy was told to fail" in reasons["Confidencefailed"]
    assert first.counts == {"ok": 1, "failed": 2}
    again = scheduler.execute(plan_of(jobs), executor=SerialExecutor())
    assert (again.trained, again.measured, again.counts) == (0, 0, first.counts)
    plan = plan_of(jobs)
    for path in (plan.folder / "failures").iterdir():
        path.write_text(json.dumps({"reason": "stale"}))
    retried = scheduler.execute(plan, executor=SerialExecutor(), retry_failed=True)
    assert "stale" not in {row.reason for row in retried.rows}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "ValueError: no such luck on two lines"),
        ("nan", "Broken returned NaN for 80 values"),
    ],
)
def test_a_plugin_that_misbehaves_is_one_line(toy_config, plan_of, how, reason):
    plan = plan_of([job(toy_config("Broken", how=how))])
    row = scheduler.execute(plan, executor=SerialExecutor()).rows[0]
    assert (row.status, row.reason) == ("failed", reason)


def test_a_full_disk_is_a_failed_row_and_loses_nothing(toy_config, plan_of, monkeypatch):
    from medleak.core.store import Store

    save, jobs = Store.save, jobs_of(toy_config, seeds=(0,))

    def full(self, kind, key, *rest):
        if kind == "cells":
            raise OSError(28, "No space left on device")
        save(self, kind, key, *rest)

    monkeypatch.setattr(Store, "save", full)
    rows = scheduler.execute(plan_of(jobs), executor=SerialExecutor()).rows
    assert {row.reason for row in rows} == {"OSError: [Errno 28] No space left on device"}
    monkeypatch.undo()
    again = scheduler.execute(plan_of(jobs), executor=SerialExecutor())
    assert (again.trained, again.counts) == (0, {"ok": 2})  # the disk was to blame: no need to ask


def test_what_makes_no_sense_is_said_before_anything_runs(toy_config, plan_of):
    jobs = jobs_of(toy_config, seeds=(0,), attacks=("Confidence", "NeedsUpdates"))
    plan = plan_of(jobs)
    rows = scheduler.execute(plan, executor=SerialExecutor()).rows
    assert [row.status for row in rows] == ["ok", "not_applicable"]
    assert rows[1].reason == "needs 'updates': this release does not have it"
    assert rows[1].leakage == {}
    with pytest.raises(ConfigError, match="nothing in this grid is applicable: needs 'updates'"):
        plan_of(jobs[1:], name="none")


def test_a_budget_leaves_rows_that_say_so(toy_config, plan_of):
    plan = plan_of(jobs_of(toy_config))
    result = scheduler.execute(plan, executor=SerialExecutor(), budget=0.0)
    assert result.counts == {"not_run": 4}
    assert {row.reason for row in result.rows} == {"budget"}
    assert scheduler.execute(plan, executor=SerialExecutor(), budget=600).counts == {"ok": 4}


def test_fail_fast_starts_nothing_more(toy_config, plan_of):
    jobs = jobs_of(toy_config, seeds=(0, 1, 2), attacks=("Broken",))
    counts = scheduler.execute(plan_of(jobs), executor=SerialExecutor(), fail_fast=True).counts
    assert counts["not_run"] >= 1
    assert counts["failed"] >= 1


def test_a_folder_belongs_to_one_grid(toy_config, plan_of, tmp_path):
    scheduler.execute(plan_of(jobs_of(toy_config, seeds=(0,))), executor=SerialExecutor())
    with pytest.raises(ConfigError, match="holds another grid: choose another --name"):
        plan_of(jobs_of(toy_config, seeds=(1,)))
    (tmp_path / "out" / "mine").mkdir()
    (tmp_path / "out" / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="is not a grid's"):
        plan_of(jobs_of(toy_config), name="mine")
    (tmp_path / "out" / "begun").mkdir()
    (tmp_path / "out" / "begun" / ".grid.json.0a1b").write_text("")  # by another process, just now
    assert plan_of(jobs_of(toy_config), name="begun")
    with pytest.raises(ConfigError, match="cannot name a grid"):
        plan_of(jobs_of(toy_config), name="../mine")
    with pytest.raises(ConfigError, match="did you mean 'g'"):
        saved.load("gg", tmp_path / "out")


@pytest.mark.parametrize("victim", [ARRAYS, MANIFEST])
def test_a_damaged_run_is_trained_again(toy_config, plan_of, caplog, monkeypatch, victim):
    plan = plan_of(jobs_of(toy_config, seeds=(0,), attacks=("Confidence",)))
    first = scheduler.execute(plan, executor=SerialExecutor())
    key = plan.cells[0].target_spec.key
    (plan.store.folder("runs", key) / victim).write_bytes(b"rubbish")
    plan.store.prune(kind="cells")
    if victim == ARRAYS:  # else the answers are remembered, and nobody reads the weights
        plan.store.prune(kind="signals")
        plan.store.prune(kind="answers")
    monkeypatch.setattr(
        "medleak.training.stored_model._RECENT", _Recent(0)
    )  # as in another process
    result = scheduler.execute(plan, executor=SerialExecutor())
    assert figures(result.rows) == figures(first.rows)
    assert "set aside" in caplog.text


def test_everybody_who_is_measured_on_is_in_the_key(toy_config):
    sizes = [{}, {"n_evaluation": 20}, {"n_auxiliary": 60}]
    cells = [Cell(toy_config("AboveShadows", split=split), METRICS) for split in sizes]
    assert len({cell.key for cell in cells}) == 3
    assert len({cell.target_spec.key for cell in cells}) == 1


def test_rows_carry_the_coordinates_of_the_grid_that_asks(toy_config, plan_of):
    config = toy_config("Confidence")
    scheduler.execute(plan_of([job(config, {}, ("a=1",))]), executor=SerialExecutor())
    renamed = {**config, "target": {**config["target"], "name": "other"}}
    plan = plan_of([job(renamed, {"target.recipe.epochs": 300}, ("b=2",))], name="second")
    result = scheduler.execute(plan, executor=SerialExecutor())
    row = result.rows[0]
    assert (result.trained, result.measured) == (0, 0)
    assert (row.target, row.extra) == ("other", {"target.recipe.epochs": 300})
    assert row.provenance["overrides"] == ("b=2",)


def test_two_presets_of_the_same_content_are_two_rows(toy_config, plan_of):
    config = toy_config("Confidence")
    plaintext_surrogate = {**config, "defense": {"name": "twin", "slots": {}}}
    result = scheduler.execute(
        plan_of([job(config), job(plaintext_surrogate)]), executor=SerialExecutor()
    )
    assert [row.defense for row in result.rows] == ["none", "twin"]
    assert result.measured == 1


def test_a_diverged_run_leaves_nothing_in_the_store(toy_config, plan_of):
    plan = plan_of([job(toy_config("Confidence", recipe={"fail": "diverge"}))])
    row = scheduler.execute(plan, executor=SerialExecutor()).rows[0]
    assert row.status == "failed"
    assert "training diverged" in row.reason
    assert not plan.store.keys("runs")
    assert not plan.store.keys("signals")


def test_an_attack_is_given_only_what_it_declared(toy_config, plan_of):
    row = scheduler.execute(plan_of([job(toy_config("Peek"))]), executor=SerialExecutor()).rows[0]
    assert row.reason == "view 'weights': the attack declared access to 'labels' only"


def test_a_run_that_ends_its_worker_fails_nobody_else(toy_config, plan_of):
    jobs = [job(toy_config("Confidence", recipe={"fail": "exit"}))]
    jobs += [job(toy_config("Confidence", recipe={"epochs": 5 + i, "wait": 0.5})) for i in range(3)]
    rows = scheduler.execute(plan_of(jobs), executor=LocalExecutor(jobs=2)).rows
    assert [row.status for row in rows] == ["failed", "ok", "ok", "ok"]
    assert "its worker process died" in rows[0].reason


@pytest.mark.parametrize(
    ("knowledge", "message"),
    [
        ({"pool": "audits"}, "did you mean 'audit'"),
        ({"n_shadow": 3}, "did you mean 'n_shadows'"),
        ({"n_shadows": -1}, "attack.knowledge.n_shadows=-1"),
    ],
)
def test_misspelt_knowledge_is_named_before_anything_is_trained(
    toy_config, plan_of, knowledge, message
):
    with pytest.raises(ConfigError, match=message):
        plan_of([job(toy_config("AboveShadows", knowledge=knowledge))])

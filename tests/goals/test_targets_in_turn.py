"""Leave-one-out: every run of the pool is the target once, and nothing is trained for it."""

import numpy as np
import pytest

from medleak.api import MembershipScores, MembershipTruth
from medleak.config.compose import Job
from medleak.core.store import Store
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.executors import SerialExecutor
from medleak.engine.measure import ask
from medleak.metrics.membership import AUC, TPRAtFPR
from medleak.release.stored_runs import StoredRuns
from medleak.report import aggregate, risk, tables
from medleak.report.patient_risk import scores_of
from medleak.report.specs import spec_of
from medleak.training.train import train

METRICS = {
    "auc": {"_target_": "medleak.metrics.membership.AUC"},
    "tpr_at_1fpr": {"_target_": "medleak.metrics.membership.TPRAtFPR", "fpr": 0.01},
}


@pytest.fixture
def run(toy_config, tmp_path):
    def go(n_targets, seed=0):
        config = toy_config("AboveShadows", seed=seed, knowledge={"n_shadows": 8})
        job = Job((), {}, {**config, "n_targets": n_targets})
        name, places = f"g{n_targets}-{seed}", {"out": tmp_path / "out", "store": tmp_path / "s"}
        plan = grid.plan([job], metrics=METRICS, name=name, **places)
        return plan, scheduler.execute(plan, executor=SerialExecutor())

    return go


def test_targets_shadow_each_other(run):
    plan, result = run(9)
    (cell,) = plan.cells
    assert [shadowed.target.column for shadowed in cell.shadowed_targets] == list(range(9))
    assert result.trained == 9
    for shadowed in cell.shadowed_targets:
        assert {s.column for s in shadowed.shadows} == set(range(9)) - {shadowed.target.column}


def test_the_row_pools_what_each_target_says_alone(run):
    plan, result = run(9)
    (row,) = result.rows
    alone = [run(1, seed)[1].rows[0] for seed in range(9)]
    values = [one.leakage["auc"].value for one in alone]
    assert row.n_targets == 9
    assert row.spread["auc"]["mean"] == pytest.approx(np.mean(values))
    assert row.spread["auc"]["sd"] == pytest.approx(np.std(values, ddof=1))
    assert (row.spread["auc"]["min"], row.spread["auc"]["max"]) == (min(values), max(values))
    utilities = [one.utility["accuracy"].value for one in alone]
    assert row.utility["accuracy"].value == pytest.approx(np.mean(utilities))

    kept = scores_of(plan.cells[0], plan.store)
    patients = np.tile(kept.records.patients, 9)
    sample = (
        MembershipScores(kept.scores.ravel(), patients),
        MembershipTruth(kept.member.ravel()),
    )
    assert row.leakage["auc"] == AUC()(*sample)
    assert row.leakage["tpr_at_1fpr"] == TPRAtFPR(fpr=0.01)(*sample)


def test_one_target_has_no_spread(run):
    plan, result = run(1)
    assert result.rows[0].spread == {}
    assert scores_of(plan.cells[0], plan.store) is None
    assert tables.targets(spec_of("membership"), aggregate(result.rows)).lines == ()


def test_the_patients_at_risk_stay_in_the_local_folder(run):
    plan, result = run(9)
    page = risk(plan)
    assert page == plan.folder / "risk.html"
    assert "do not publish" in page.read_text()
    (table,) = (plan.folder / "risk").glob("*.csv")
    lines = table.read_text().splitlines()
    assert len(lines) == 1 + len(np.unique(plan.cells[0].target_spec.experiment.challenge.patients))
    gaps = [float(line.split(",")[7]) for line in lines[1:]]
    assert gaps == sorted(gaps, reverse=True)
    assert lines[0].split(",")[7] == "gap"
    assert tables.targets(spec_of("membership"), aggregate(result.rows)).lines


def test_without_targets_in_turn_nobody_is_listed(run):
    assert risk(run(1)[0]) is None


def test_what_an_attack_draws_depends_on_neither_metrics_nor_other_targets(toy_config, tmp_path):
    def scores(name, metrics, n_targets):
        config = {**toy_config("Guess"), "n_targets": n_targets}
        job = Job((), {}, config)
        places = {"out": tmp_path / "out", "store": tmp_path / name}
        (cell,) = grid.plan([job], metrics=metrics, name=name, **places).cells
        store = Store(places["store"])
        for spec in cell.specs:
            train(spec, store)
        outputs, _ = ask(cell, StoredRuns(store, cell.pipeline))
        return [one.output.scores for one in outputs.targets]

    (alone,) = scores("a", METRICS, 1)
    (less,) = scores("b", {"auc": METRICS["auc"]}, 1)
    first, second = scores("c", METRICS, 2)
    assert np.array_equal(alone, less)
    assert np.array_equal(alone, first)
    assert not np.array_equal(first, second)

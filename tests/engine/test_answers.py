"""Answers are stored apart from scores: what is measured on them later attacks nothing and trains nothing."""

import numpy as np
import pytest
import toy

from medleak.config.compose import Job
from medleak.core.store import Store
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.answers import KIND, stored_answers
from medleak.engine.executors import SerialExecutor
from medleak.training import train

METRICS = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}
MORE = {**METRICS, "tpr": {"_target_": "medleak.metrics.membership.TPRAtFPR", "fpr": 0.1}}
WIDER = {"auc": {"_target_": "medleak.metrics.membership.AUC", "level": 0.5}}
RECIPE = {"_target_": "medleak.targets.recipes.SGD", "epochs": 3, "batch_size": 16}


@pytest.fixture
def counted(monkeypatch):
    """Counts of attacks that were run and of models that were trained."""
    counts = {"attacks": 0, "trained": 0}
    run, fit = toy.Guess.run, train._train

    def attack(self, release, challenge):
        counts["attacks"] += 1
        return run(self, release, challenge)

    def trained(*arguments):
        counts["trained"] += 1
        return fit(*arguments)

    monkeypatch.setattr(toy.Guess, "run", attack)
    monkeypatch.setattr(train, "_train", trained)
    return counts


@pytest.fixture
def measured(toy_config, tmp_path):
    """A function that measures one cell of two targets, under a name of its own on one store."""

    def make(name, metrics=METRICS, **dataset):
        config = {**toy_config("Guess", dataset=dataset), "n_targets": 2}
        config["target"] |= {"recipe": RECIPE}
        jobs = [Job((), {}, config)]
        places = {"out": tmp_path / "out", "store": tmp_path / "store"}
        plan = grid.plan(jobs, metrics=metrics, name=name, **places)
        (row,) = scheduler.execute(plan, executor=SerialExecutor()).rows
        assert row.status == "ok", row.reason
        return row

    return make


def test_a_metric_that_is_added_or_edited_attacks_nothing_again(measured, counted):
    first = measured("first")
    assert counted == {"attacks": 2, "trained": 2}
    more, wider = measured("more", MORE), measured("wider", WIDER)
    assert counted == {"attacks": 2, "trained": 2}
    assert more.leakage["auc"] == first.leakage["auc"]
    assert more.leakage["tpr"].value is not None
    assert wider.leakage["auc"].value == first.leakage["auc"].value
    assert wider.leakage["auc"].low > first.leakage["auc"].low
    assert first.cost["attack_seconds"] == more.cost["attack_seconds"]


def test_a_subgroup_column_that_is_added_attacks_and_trains_nothing_again(measured, counted):
    first = measured("first")
    other = measured("sites", sites=2)
    assert counted == {"attacks": 2, "trained": 2}
    assert other.leakage == first.leakage
    assert set(other.groups) - set(first.groups) == {"site=site 0", "site=site 1"}


def test_other_records_are_another_question(measured, counted):
    measured("first")
    measured("other", seed=1)
    assert counted == {"attacks": 4, "trained": 4}


def test_a_row_names_its_answers_and_they_hold_what_the_attack_said(measured, tmp_path):
    row, store = measured("first"), Store(tmp_path / "store")
    answers = stored_answers(store, row)
    assert len(answers) == row.n_targets == 2
    assert store.keys(KIND) == sorted(row.provenance["answers"])
    scores = [answer.arrays["scores"] for answer in answers]
    assert not np.array_equal(*scores)  # each target has draws of its own
    assert {answer.facts["attack"] for answer in answers} == {"Guess"}

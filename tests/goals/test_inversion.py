"""The inversion game on a handful of simulated persons."""

import numpy as np
import pytest

from medleak.api import ConfigError, DataError
from medleak.config.compose import Job, metrics
from medleak.core.store import Store
from medleak.data.experiment import load_experiment_data
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.executors import SerialExecutor
from medleak.goals.inversion.goal import SHUFFLED

ARCHITECTURES = "medleak.targets.architectures"
RECIPE = {
    "_target_": "medleak.targets.recipes.SGD",
    "epochs": 60,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 0.003,
}
CONTROLS = {"class mean", "best auxiliary image", SHUFFLED}


def target(**changes):
    made = {
        "name": "persons",
        "dataset": {
            "_target_": "medleak.targets.datasets.phantom.Phantom",
            "n_patients": 60,
            "scans_per_patient": [10, 12],
        },
        "model": {"_target_": f"{ARCHITECTURES}.logistic.LogisticRegression"},
        "recipe": RECIPE,
        "evaluator": {"model": {"_target_": f"{ARCHITECTURES}.mlp.MLP", "hidden": 64}},
        "split": {"n_identities": 12, "n_auxiliary": 40, "n_evaluation": 3},
    }
    return made | changes


@pytest.fixture
def plan(tmp_path):
    def make(attack="Painter", of=None, defense=None, **knowledge):
        config = {
            "target": of or target(),
            "defense": {"name": "none", "slots": defense or {}},
            "attack": {"name": attack, "_target_": f"painter.{attack}", "knowledge": knowledge},
            "seed": 0,
            "n_members": None,
            "n_shadows": None,
        }
        job = Job((), {}, config)
        places = {"out": tmp_path / "out", "store": tmp_path / "store"}
        return grid.plan([job], metrics=metrics(), **places)

    return make


def measured(plan):
    return scheduler.execute(plan, executor=SerialExecutor()).rows


@pytest.fixture(scope="module")
def experiment():
    return load_experiment_data(target(), None)


def test_persons_are_classes_and_their_scans_are_divided(experiment):
    challenge, evaluation = experiment.challenge.records, experiment.evaluation
    assert experiment.identities
    assert (experiment.problem.n_outputs, experiment.problem.unit) == (12, "patient")
    assert set(challenge.y) == set(evaluation.y) == set(range(12))
    assert np.bincount(evaluation.y).tolist() == [3] * 12
    for records in (challenge, evaluation):  # a person is a class and a class is a person
        assert len(set(zip(records.patients.tolist(), records.y.tolist(), strict=True))) == 12
    assert set(experiment.auxiliary.y) == {-1}
    assert not np.intersect1d(experiment.auxiliary.patients, challenge.patients).size


def test_half_of_each_persons_scans_are_members_and_the_evaluator_has_the_others(experiment):
    for column in range(3):
        member = experiment.member("audit", column)
        for person in range(12):
            mine = member[experiment.challenge.y == person]
            assert abs(mine.sum() - len(mine) / 2) <= 0.5
        assert np.array_equal(experiment.member("complement", column), ~member)
    assert not np.array_equal(experiment.member("audit", 0), experiment.member("audit", 1))


def test_a_model_that_tells_persons_is_inverted_and_its_controls_are_not(plan):
    (row,) = measured(plan(n_classes=12, n_images=2))
    assert row.status in ("ok", "invalid"), row.reason
    assert (row.goal, row.records, row.unit) == ("inversion", "persons", "patient")
    found = row.leakage["acc_at_1"]
    assert found.n == 12
    assert set(row.baselines) == CONTROLS | {"prior alone"}
    assert row.baselines[SHUFFLED]["acc_at_1"].value < 0.35
    assert found.value - row.excess["acc_at_1"].value == pytest.approx(
        max(block["acc_at_1"].value for block in row.baselines.values())
    )
    assert row.excess["acc_at_1"].low > 0
    assert row.leakage["ssim_gap"].value == pytest.approx(
        row.leakage["ssim_trained"].value - row.leakage["ssim_others"].value
    )
    assert not row.groups  # nothing about single persons
    accuracy = row.controls["evaluator"]
    assert accuracy["n"] == 36
    assert (accuracy["evaluator"] < accuracy["target"]) == (row.status == "invalid")


def test_an_attack_that_shows_nothing_gains_nothing(plan):
    (row,) = measured(plan("Blank"))
    assert set(row.baselines) == CONTROLS
    assert row.excess["acc_at_1"].value <= 0
    assert row.leakage["acc_at_1"].n == 10  # classes asked about unless told otherwise


def test_an_evaluator_worse_than_the_target_voids_the_row(plan):
    poor = {"model": {"_target_": f"{ARCHITECTURES}.mlp.MLP", "hidden": 1}}
    (row,) = measured(plan("Blank", target(evaluator=poor)))
    assert row.status == "invalid"
    assert "the evaluator (accuracy" in row.reason


def test_priors_are_kept_for_other_cells(plan, tmp_path):
    first = plan(n_classes=3, n_images=1)
    measured(first)
    store = Store(tmp_path / "store")
    assert len(store.keys("kept")) == 1
    measured(plan(n_classes=4, n_images=1))
    assert len(store.keys("kept")) == 1


@pytest.mark.parametrize(
    ("changes", "knowledge", "told"),
    [
        ({}, {"n_classes": 13}, "n_classes=13: target=persons has 12 classes"),
        ({}, {"n_images": 0}, "n_images=0"),
        ({}, {"budget": 0}, "attack.knowledge.budget=0"),
        ({"evaluator": None}, {}, "names no evaluator"),
        (
            {"evaluator": {"model": {"_target_": f"{ARCHITECTURES}.logistic.LogisticRegression"}}},
            {},
            "the target's own architecture",
        ),
        (
            {
                "evaluator": {
                    "model": {"_target_": f"{ARCHITECTURES}.mlp.MLP"},
                    "recipe": {"_target_": "medleak.targets.recipes.SGD", "augment": ["contrst"]},
                }
            },
            {},
            "target.evaluator.recipe of target=persons: unknown augmentation 'contrst'",
        ),
        ({"split": {"n_identities": 12, "n_evaluation": 3}}, {}, "needs auxiliary patients"),
        (
            {"split": {"n_identities": 50, "n_auxiliary": 40, "n_evaluation": 3}},
            {},
            "auxiliary needs 40, 10 are left",
        ),
        (
            {"split": {"n_identities": 12, "n_auxiliary": 40, "n_evaluation": 11}},
            {},
            "n_identities=12 needs as many with 13 scans",
        ),
        (
            {"split": {"n_identities": 12, "n_members": 40}},
            {},
            "unknown key of target.split 'n_members'",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line(plan, changes, knowledge, told):
    with pytest.raises((ConfigError, DataError), match=told):
        plan("Blank", target(**changes), **knowledge)


def test_membership_is_no_question_where_patients_are_classes(toy_config, tmp_path):
    config = toy_config() | {"target": target()}
    job = Job((), {}, config)
    with pytest.raises(ConfigError, match="the classes are the patients"):
        grid.plan([job], metrics=metrics(), out=tmp_path / "o", store=tmp_path / "s")

"""Kinds of artefact, from plan to row: a set of records, a generator, each alone or beside a classifier."""

import json

import numpy as np
import pytest

from medleak.api import ConfigError, Hidden, MedleakError, Records
from medleak.config import plugins
from medleak.config.compose import Job
from medleak.core.store import Store
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.executors import SerialExecutor
from medleak.release.kinds.records import RecordSet, nearest, read
from medleak.release.replicas import replica_check
from medleak.release.stored_runs import StoredRuns
from medleak.testing import check_defense, check_target
from medleak.training.artefacts import KINDS, made_by, packed, unpacked
from medleak.training.run_spec import RunSpec, recipe_blocks
from medleak.training.train import train

METRICS = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}
CHANCE = 0.25
"""About four standard deviations of an AUC over 80 patients."""
NOTHING = {"_target_": "medleak.targets.no_training.NoTraining"}


def stage(name, **arguments):
    return {"records": {"_target_": f"released.{name}", **arguments}}


@pytest.fixture
def useful_plugin(tmp_path, monkeypatch):
    """Registers utility metrics for records and generators."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    folder = tmp_path / "plugin" / "conf" / "utility"
    folder.mkdir(parents=True)
    for name, cls in {"nearest_class": "NearestClass", "drawn_mean": "DrawnMean"}.items():
        (folder / f"{name}.yaml").write_text(f"name: {name}\n_target_: released.{cls}\n")
    plugins.add_folders([tmp_path / "plugin"])


@pytest.fixture
def run(tmp_path, toy_config):
    """Plan and execute one cell for each defense; the rows, and the plan."""

    def execute(attack, *defenses, recipe=NOTHING, n_shadows=0, **options):
        jobs = []
        for i, defense in enumerate(defenses):
            knowledge = {"n_shadows": n_shadows} if n_shadows else {}
            config = toy_config(
                attack, recipe=recipe, defense=defense, knowledge=knowledge, **options
            )
            config["attack"]["_target_"] = f"released.{attack}"
            config["defense"]["name"] = f"defense{i}"
            jobs.append(Job((), {}, config))
        plan = grid.plan(
            jobs, metrics=METRICS, name="g", out=tmp_path / "out", store=tmp_path / "store"
        )
        return scheduler.execute(plan, executor=SerialExecutor()).rows, plan

    return execute


def measured(row):
    return row.leakage["auc"]


def test_a_set_of_records_goes_from_the_plan_to_a_row_and_nothing_is_trained(run, useful_plugin):
    (copied, noised), plan = run("NearestRecord", stage("Noisy"), stage("Noisy", noise=100.0))
    assert (copied.status, noised.status) == ("ok", "ok")
    assert measured(copied).value == 1.0
    assert abs(measured(noised).value - 0.5) < CHANCE
    assert 0.5 < copied.utility["nearest_class"].value <= 1
    spec = plan.cells[0].target_spec
    assert spec.makes == ("records",)
    stored = plan.store.load("runs", spec.key)
    assert {name.split("/")[0] for name in stored.arrays} == {"records"}
    assert "criterion" not in stored.facts
    assert stored.facts["sigma"] == 0.0
    assert not plan.store.keys("signals")


def test_a_released_set_comes_back_as_it_was_made(run):
    _, plan = run("NearestRecord", stage("Noisy"))
    cell = plan.cells[0]
    spec = cell.target_spec
    release = StoredRuns(plan.store, cell.pipeline).release(spec)
    members = spec.records.take(spec.member)
    np.testing.assert_array_equal(release.records.x, members.x)
    np.testing.assert_array_equal(release.records.y, members.y)
    np.testing.assert_array_equal(release.records.groups["sex"], members.groups["sex"])
    assert set(release.views) == {"records"}
    for view in ("scores", "weights", "generator", "updates"):
        with pytest.raises(Hidden):
            release.view(view)


def test_a_generator_is_drawn_from(run, useful_plugin):
    memory = {"memory": True, "spread": 0.1}
    (kept, blind), plan = run(
        "NearestDraw", stage("Gaussians", **memory), stage("Gaussians", blind=True, **memory)
    )
    assert (kept.status, blind.status) == ("ok", "ok")
    assert measured(kept).value > 0.99
    assert abs(measured(blind).value - 0.5) < CHANCE
    assert kept.utility["drawn_mean"].value < 0.2
    cell = plan.cells[0]
    generator = StoredRuns(plan.store, cell.pipeline).release(cell.target_spec).generator
    one, again, other = (generator.draw(5, seed).x for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert set(generator.parameters) == {"centres", "classes"}


def test_shadows_of_a_released_set_are_replicas(run):
    (row,), plan = run("NearerThanShadows", stage("Noisy", noise=0.5), n_shadows=4)
    assert row.status == "ok"
    assert row.controls["replica"]["ok"]
    assert measured(row).low > 0.5
    keys = {spec.key for spec in plan.cells[0].specs}
    assert len(keys) == 5
    sets = [plan.store.load("runs", key).arrays["records/x"] for key in keys]
    assert len({array.tobytes() for array in sets}) == 5


def test_a_run_may_release_a_set_and_the_classifier_trained_on_it(run, useful_plugin):
    (row,), plan = run("NearestRecord", stage("Noisy", noise=0.5), recipe={})
    cell = plan.cells[0]
    assert cell.target_spec.makes == ("classifier", "records")
    assert {"accuracy", "auroc", "nearest_class"} <= set(row.utility)
    release = StoredRuns(plan.store, cell.pipeline).release(cell.target_spec)
    assert set(release.views) == {"scores", "labels", "weights", "records"}
    assert set(release.weights) == {"weight", "bias"}
    granted = release.granting("scores")
    assert set(granted.views) == {"scores", "labels"}


def test_a_stage_without_seed_only_overrides_apply(run):
    (row,), plan = run("NearestRecord", stage("FirstHalf"))
    spec = plan.cells[0].target_spec
    assert row.status == "ok"
    x = plan.store.load("runs", spec.key).arrays["records/x"]
    assert not x[:, :20].any()
    assert x[:, 20:].all()


def test_what_is_not_made_cannot_be_attacked(run):
    rows, _ = run("NearestRecord", {}, stage("Noisy"), recipe={})
    assert [row.status for row in rows] == ["not_applicable", "ok"]
    assert "needs 'records': this release does not have it" in rows[0].reason
    with pytest.raises(
        ConfigError, match="goal 'reconstruction' is about classifier: this run makes rec"
    ):
        run("WantsImages", stage("Noisy"))
    with pytest.raises(ConfigError, match="nothing is made"):
        run("NearestRecord", {})


def test_a_stage_that_does_not_make_what_it_says_fails(run):
    (row,), _ = run("NearestRecord", stage("Liar"))
    assert row.status == "failed"
    assert "Liar made [], and says that it makes ['records']" in row.reason


def test_what_a_stage_makes_may_stand_in_the_file_of_its_base(run):
    (row,), _ = run("NearestRecord", {"records": {"_target_": "inherited.Elsewhere"}})
    assert row.status == "ok"
    assert "makes" not in " ".join(check_defense({"_target_": "inherited.Elsewhere"}))


def test_an_artefact_that_no_class_announces_is_a_failure(toy_config, tmp_path, monkeypatch):
    slots = {"records": {"_target_": "inherited.Elsewhere"}}
    spec = RunSpec(toy_config(recipe=NOTHING)["target"], slots, None, "audit", 0)
    monkeypatch.setattr("medleak.training.run_spec.made_by", lambda target, slots: ())
    with pytest.raises(MedleakError, match="`makes` has to be a literal"):
        train(spec, Store(tmp_path))


def test_the_key_of_a_recipe_says_nothing_of_kinds_where_a_classifier_is_made(toy_config):
    target, slots = toy_config()["target"], {"records": None}
    blocks = [target["model"], target["recipe"], {}]
    assert recipe_blocks(target, slots) == blocks


def test_a_run_that_trains_nothing_is_one_whatever_the_network(toy_config):
    config = toy_config(recipe=NOTHING)["target"]
    slots = stage("Noisy")
    one = RunSpec(config, slots, None, "audit", 0)
    other = RunSpec({**config, "model": {"_target_": "toy.Other"}}, slots, None, "audit", 0)
    noisier = RunSpec(config, stage("Noisy", noise=1.0), None, "audit", 0)
    assert one.key == other.key != noisier.key
    assert (one.fitted, one.makes) == ([], ("records",))


# --------------------------------------------------------------------------- the kinds themselves


def some_records(n=7):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 1, 4, 4), dtype=np.uint8)
    groups = {"sex": np.array(["F", "M", ""] * n)[:n], "site": np.full(n, "Würzburg")}
    return Records(x, np.arange(n), np.full(n, -1), groups)


@pytest.mark.parametrize("n", [7, 0])
def test_records_survive_the_store(tmp_path, n):
    before, store = some_records(n), Store(tmp_path)
    store.save("runs", "a", {}, packed({"records": before}))
    arrays = unpacked(store.load("runs", "a").arrays, "records", ("records",))
    after = read(arrays)
    for name in ("x", "y", "patients"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).dtype == getattr(before, name).dtype
    assert {k: v.tolist() for k, v in after.groups.items()} == {
        k: v.tolist() for k, v in before.groups.items()
    }


def test_artefacts_of_one_run_lie_apart():
    arrays = {"weight": np.ones(2), "records/x": np.zeros(2), "generator/x": np.full(2, 3.0)}
    made = ("classifier", "records", "generator")
    assert list(unpacked(arrays, "classifier", made)) == ["weight"]
    assert {k: v[0] for k, v in unpacked(arrays, "generator", made).items()} == {"x": 3.0}


def test_a_generator_that_is_no_number_is_a_failure():
    with pytest.raises(MedleakError, match="NaN"):
        packed({"generator": {"mean": np.array([1.0, np.nan])}})


def test_every_shipped_kind_is_found_by_its_name():
    assert set(KINDS.names()) == {"classifier", "messages", "records", "generator"}
    with pytest.raises(ConfigError, match="did you mean 'records'"):
        KINDS.get("record")


def test_federated_training_makes_messages_beside_the_classifier():
    target = {"recipe": {"_target_": "medleak.targets.recipes.SGD"}}
    slots = {"train": {"federated": {"_target_": "medleak.defenses.train.federated.Federated"}}}
    assert made_by(target, slots) == ("classifier", "messages")


def test_distances_to_the_nearest_are_per_pixel():
    x = np.zeros((2, 1, 2, 2), dtype=np.float32)
    released = np.stack([np.full((1, 2, 2), v, dtype=np.float32) for v in (0.5, 0.25)])
    np.testing.assert_allclose(nearest(x, released), [0.25, 0.25])
    assert len(nearest(x, released[:0])) == 0


def test_a_set_of_another_size_or_at_other_distances_is_no_replica():
    rng = np.random.default_rng(0)

    def facts(size=100, shift=0.0):
        scores = rng.normal(1 + shift, 0.1, 300)
        return {"n_members": 50, "collapsed": False, "scores": scores, "size": size}

    def check(target):
        shadows = [facts(size) for size in (99, 101, 100, 102)]
        return replica_check(target, shadows, n_target=100, n_pool=100, p=0.5)

    assert check(facts()) == []
    assert len(check(facts(size=150))) == 1
    assert len(check(facts(shift=0.2))) == 1


# --------------------------------------------------------------------------- the contract


def test_the_contract_exercises_stages_that_make_something():
    assert check_defense({"_target_": "released.FirstHalf"}) == []
    assert check_defense({"_target_": "released.Gaussians"}) == []
    problems = check_defense({"_target_": "released.Liar"})
    assert problems == ["made [], and `makes` says ['records']"]


def test_a_target_without_training_passes_the_contract(toy_config):
    target = toy_config(recipe=NOTHING)["target"]
    assert check_target(target) == []
    assert json.dumps(RecordSet.views) == '["records"]'

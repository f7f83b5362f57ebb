"""The attribute game: which column, who is asked about, what is known without the model, what comes of it."""

import numpy as np
import pytest

from medleak.api import Challenge, ConfigError, Dataset, ProblemSpec, Records, Release
from medleak.config.compose import Job
from medleak.data.experiment import ExperimentData
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.executors import SerialExecutor
from medleak.engine.figures import figures
from medleak.goals.attribute.column import column_of
from medleak.goals.attribute.goal import baselines
from medleak.goals.attribute.sample import AskedRecords, added, sample_of
from medleak.metrics.attribute import AttributeAccuracy, AttributeAUC

N = 200
METRICS = {"attribute_auc": AttributeAUC(), "attribute_accuracy": AttributeAccuracy()}
BLOCKS = {
    "attribute_auc": {"_target_": "medleak.metrics.attribute.AttributeAUC"},
    "attribute_accuracy": {"_target_": "medleak.metrics.attribute.AttributeAccuracy"},
}


def experiment(*, images=True, sex_of_label=0.5, n_auxiliary=N, groups=True, scans=1):
    """Sex is that of the label with a chance of `sex_of_label`; every third patient has no site."""
    rng = np.random.default_rng(0)

    def records(first, n):
        patients = np.repeat(np.arange(first, first + n // scans), scans)
        y = np.repeat(rng.integers(0, 2, n // scans), scans)
        same = np.repeat(rng.random(n // scans) < sex_of_label, scans)
        sex = np.where(np.where(same, y, 1 - y) == 1, "F", "M")
        columns = {
            "sex": sex,
            "site": np.where(patients % 3 == 0, "", "A"),
            "rare": np.where(patients % 50 == 0, "x", np.where(patients % 2, "y", "z")),
            "scan": np.where(np.arange(n) % 2, "1", "2"),
        }
        shape = (n, 1, 8, 8) if images else (n, 4)
        x = rng.integers(0, 256, shape, dtype=np.uint8) if images else rng.normal(size=shape)
        x = x if images else x.astype(np.float32)
        return Records(x, y.astype(np.int64), patients, columns if groups else {})

    challenge, auxiliary = records(0, 2 * N), records(5000, n_auxiliary)
    kind = np.where(np.arange(2 * N) < 40, "mislabelled", "natural")
    data = Dataset(challenge, np.full(2 * N, "all"), "toy", ("a", "b"), "f")
    problem = ProblemSpec(N, N, scans, challenge.x.shape[1:], 2)
    return ExperimentData(
        data, Challenge(challenge, kind), auxiliary, records(9000, 0), records(9000, 0), problem, 0, 0.5
    )  # fmt: skip


def test_natural_records_with_a_frequent_value_are_asked_about():
    column = column_of(experiment(), "rare")
    assert column.values == ("y", "z")  # four auxiliary patients are too few for x
    assert column.left_out == 7  # patients 50, 100, ... 350
    assert column.asked.min() >= 40
    challenge = experiment().challenge
    assert [column.values[v] for v in column.asked_value] == challenge.records.groups["rare"][
        column.asked
    ].tolist()


@pytest.mark.parametrize(
    ("options", "name", "told"),
    [
        ({}, "sx", "unknown attack.knowledge.attribute 'sx': did you mean 'sex'? (choices: rare, sc"),
        ({}, None, "unknown attack.knowledge.attribute 'None' (choices: "),
        ({}, ["sex", "site"], "unknown attack.knowledge.attribute"),
        ({}, "feature:1", "unknown attack.knowledge.attribute 'feature:1' (choices: rare"),
        ({}, "site", "needs two values with 10 auxiliary patients each, has: A "),
        ({"groups": False}, "sex", "toy has no subgroup columns: there is no attribute to infer"),
        ({"n_auxiliary": 0}, "sex", "split.n_auxiliary=0: the adversary learns from auxiliary"),
        ({"images": False}, "feature:4", "'feature:4' (choices: feature:0 to feature:3, rare"),
        ({"images": False}, "feature:x", "unknown attack.knowledge.attribute 'feature:x'"),
    ],
)  # fmt: skip
def test_a_column_that_cannot_be_asked_about_has_a_reason(options, name, told):
    assert told in column_of(experiment(**options), name)


def test_a_feature_of_a_table_is_cut_at_the_auxiliary_median():
    some = experiment(images=False)
    column = column_of(some, "feature:2")
    assert (column.values, column.feature) == (("high", "low"), 2)
    high = some.auxiliary.x[column.known_value == 0, 2]
    assert len(high) == N // 2
    assert column.centres(some.auxiliary)[0] == pytest.approx(high.mean())
    binary = some.auxiliary.x
    binary[:, 2] = np.arange(len(binary)) % 3 > 0  # the median is the largest value
    assert column_of(some, "feature:2").values == ("high", "low")


def judged(some, column, scores):
    hidden = some.challenge.records.take(column.asked)
    return AskedRecords(column.asked_value, hidden.patients, joint=True).of([scores])


def measured(some, scores=None):
    column = column_of(some, "sex")
    blind = baselines(some, column)
    scores = blind["label"] if scores is None else scores(column)
    guesses = {name: judged(some, column, guess) for name, guess in blind.items()}
    about = {"records": "members", "unit": "patient", "asked": {}}
    return figures(METRICS, sample_of(judged(some, column, scores), guesses, **about))


def test_what_the_label_tells_is_no_gain():
    found = measured(experiment(sex_of_label=0.9))
    assert found["leakage"]["attribute_auc"].value > 0.85
    assert found["excess"]["attribute_auc"].value == pytest.approx(0.0)
    assert found["upper_bounds"] == {"attribute_auc": None, "attribute_accuracy": None}
    assert found["baselines"]["the image itself"]["attribute_auc"].value < 0.65


def test_an_attribute_that_goes_with_nothing_is_guessed_by_chance():
    auc = measured(experiment())["leakage"]["attribute_auc"]
    assert auc.low <= 0.5 <= auc.high


def test_the_truth_is_a_gain():
    found = measured(experiment(), lambda column: np.eye(2)[column.asked_value])
    assert found["leakage"]["attribute_accuracy"].value == 1.0
    assert found["excess"]["attribute_auc"].low > 0.3


def test_other_features_of_a_table_are_a_baseline():
    some = experiment(images=False)
    for records in (some.auxiliary, some.challenge.records):
        records.x[:, 0] = records.groups["sex"] == "F"
    found = measured(some, lambda column: np.eye(2)[column.asked_value])
    assert found["baselines"]["label and other features"]["attribute_auc"].value == 1.0
    assert found["excess"]["attribute_auc"].value == pytest.approx(0.0)


def test_a_patient_is_guessed_once_where_all_scans_have_the_value():
    some = experiment(scans=2)
    sex, scan = column_of(some, "sex"), column_of(some, "scan")
    patients = some.challenge.patients[sex.asked]
    assert sex.of_patients(patients)
    assert not scan.of_patients(some.challenge.patients[scan.asked])
    scores = np.stack([np.zeros(len(patients)), np.arange(len(patients))], axis=1)
    told = AskedRecords(sex.asked_value, patients, joint=True).of([scores, scores])
    assert len(told.guesses.scores) == 2 * len(np.unique(patients))
    assert told.guesses.scores[0, 1] == 0.5  # of the first patient's two scans
    assert len(
        AskedRecords(sex.asked_value, patients, joint=False).of([scores]).guesses.scores
    ) == len(patients)


def test_what_training_added_is_told_apart():
    value = np.arange(80) % 2
    known = AskedRecords(value, np.arange(80), joint=True).of([np.eye(2)[value]])
    blind = AskedRecords(value, np.arange(80), joint=True).of([np.zeros((80, 2))])
    found = added(METRICS, members=known, others=blind)["attribute_auc_added"]
    assert found.value == 0.5
    assert found.low > 0.2


# --------------------------------------------------------------------------- through the bench


@pytest.fixture
def rows(toy_config, tmp_path):
    def go(*, n_targets=None, metrics=BLOCKS, **options):
        target = "medleak.attacks.attribute.score_attribute.ScoreAttribute"
        config = toy_config(**options)
        config["attack"] |= {"name": "score_attribute", "_target_": target}
        config["n_targets"] = n_targets
        jobs = [Job((), {}, config)]
        places = {"out": tmp_path / "out", "store": tmp_path / "store"}
        plan = grid.plan(jobs, metrics=metrics, name="g", **places)
        return scheduler.execute(plan, executor=SerialExecutor()).rows

    return go


def test_a_cell_has_a_row_for_members_and_one_for_the_others(rows):
    members, others = rows(knowledge={"attribute": "sex"})
    assert [members.status, others.status] == ["ok", "ok"]
    assert (members.records, others.records) == ("members", "non-members")
    assert members.leakage["attribute_auc"].n + others.leakage["attribute_auc"].n == 80
    # Sex goes with nothing in the toy: by chance on either side, and nothing gained.
    for row in (members, others):
        assert row.leakage["attribute_auc"].low <= 0.5 <= row.leakage["attribute_auc"].high
        assert row.excess["attribute_auc"].low <= 0.0
    assert members.controls["asked"]["attribute"] == "sex"
    assert {f"{name}_added" for name in BLOCKS} | set(BLOCKS) == set(members.leakage)
    assert set(others.leakage) == set(BLOCKS)
    assert members.cost["queries"] == 80


def test_several_targets_are_pooled_by_patient(rows):
    members, others = rows(knowledge={"attribute": "feature:0"}, n_targets=4)
    assert (members.status, members.n_targets) == ("ok", 4)
    assert members.leakage["attribute_auc"].n > 70  # nearly everybody was a member once
    assert "label and other features" in others.baselines


def test_another_attribute_is_another_cell(toy_config):
    from medleak.engine.cell import Cell

    target = "medleak.attacks.attribute.score_attribute.ScoreAttribute"
    keys = set()
    for name in ("sex", "feature:0", "feature:1"):
        config = toy_config(knowledge={"attribute": name})
        config["attack"] |= {"_target_": target}
        keys.add(Cell(config, {}).key)
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"knowledge": {"attribute": "sxe"}}, "did you mean 'sex'"),
        ({"knowledge": {"attributes": "sex"}}, "unknown key of attack.knowledge 'attributes'"),
        ({"knowledge": {"attribute": "sex"}, "split": {"n_auxiliary": 0}}, "n_auxiliary=0"),
    ],
)
def test_a_question_that_makes_no_sense_refuses_the_request(rows, options, told):
    with pytest.raises(ConfigError, match=told):
        rows(**options)


def test_membership_attacks_know_no_attribute(toy_config):
    from medleak.engine.cell import Cell

    assert "attribute" not in Cell(toy_config(), {}).knowledge


# --------------------------------------------------------------------------- messages


@pytest.fixture
def message_rows(toy_config, tmp_path):
    def go(*, seeing=None, **options):
        plan = {
            "momentum": 0.0,
            "lr": 0.1,
            "n_clients": 8,
            "rounds": 6,
            "batch_size": 5,
            "observe": 2,
        }
        train = {"_target_": "medleak.defenses.train.federated.Federated", **plan, **(seeing or {})}
        config = toy_config(defense={"train": {"federated": train}}, **options)
        config["target"]["recipe"] = {"_target_": "medleak.targets.recipes.SGD", "epochs": 3}
        target = "medleak.attacks.attribute.update_attribute.UpdateAttribute"
        config["attack"] |= {"name": "update_attribute", "_target_": target}
        jobs = [Job((), {}, config)]
        places = {"out": tmp_path / "out", "store": tmp_path / "store"}
        plan = grid.plan(jobs, metrics=BLOCKS, name="g", **places)
        return scheduler.execute(plan, executor=SerialExecutor()).rows

    return go


def test_messages_are_asked_about_at_both_ages(message_rows):
    fresh, trained = message_rows(knowledge={"attribute": "sex"})
    assert (fresh.status, fresh.reason) == ("ok", "")
    assert (fresh.records, trained.records) == ("fresh model", "trained model")
    assert fresh.unit == "message"
    assert fresh.leakage["attribute_auc"].n <= 8  # clients
    assert set(fresh.baselines) == {"guessing", "labels behind the message"}
    assert fresh.controls["asked"]["values"] == ("F", "M")


def test_where_nothing_was_observed_there_is_nothing_to_ask_about(message_rows):
    (row,) = message_rows(knowledge={"attribute": "sex"}, seeing={"observe": 0})
    assert row.status == "not_applicable"
    assert "no message was observed" in row.reason


def test_what_the_adversary_is_given_is_computed_on_the_device(monkeypatch):
    from types import SimpleNamespace

    from medleak.api import networks
    from medleak.goals.attribute import goal as attribute

    seen = []

    def last_layer(network, x, n_outputs, *, device="cpu"):
        seen.append(device)
        raise LookupError

    monkeypatch.setattr(networks, "last_layer", last_layer)
    monkeypatch.setattr(attribute, "with_weights", lambda *_: None)
    column = SimpleNamespace(asked=np.arange(4), known=np.arange(4), feature=None)
    column.name, column.values, column.known_value = "sex", ("F", "M"), np.zeros(4, int)
    monkeypatch.setattr(attribute, "_column", lambda case: column)
    some = experiment()
    release = Release({"labels": lambda x: np.zeros(len(x), int), "weights": {}})
    runs = SimpleNamespace(release=lambda run: release, device="cuda:0")
    requires = SimpleNamespace(access="weights")
    case = SimpleNamespace(attack=SimpleNamespace(requires=requires))
    run = SimpleNamespace(experiment=some, target=None)
    with pytest.raises(LookupError):
        attribute.Attribute().question(case, SimpleNamespace(target=run), runs)
    assert seen == ["cuda:0"]

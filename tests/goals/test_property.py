"""The property game: who is drawn at which share, what cannot be drawn, and what is told of many targets."""

import numpy as np
import pytest

from medleak.api import ConfigError, PropertyScores, PropertyTruth
from medleak.config.compose import Job
from medleak.data import proportions as proportions
from medleak.data.experiment import load_experiment_data
from medleak.data.proportions import PropertyDraw
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.cell import Cell
from medleak.engine.compatibility import reasons
from medleak.engine.executors import SerialExecutor
from medleak.goals.property.goal import LEAST_TARGETS
from medleak.metrics.property import PropertyAccuracy, PropertyAUC

SKEW = PropertyDraw("sex", "F", (0.3, 0.7))
BLOCKS = {
    "property_auc": {"_target_": "medleak.metrics.property.PropertyAUC"},
    "property_accuracy": {"_target_": "medleak.metrics.property.PropertyAccuracy"},
}
KNOWLEDGE = {"attribute": "sex", "value": "F", "pool": "auxiliary", "n_shadows": 16}


@pytest.fixture
def config(toy_config):
    def make(*, knowledge=None, n_targets=12, attack="neuron_sets.NeuronSets", **options):
        made = toy_config(knowledge={**KNOWLEDGE, **(knowledge or {})}, **options)
        made["attack"] |= {"name": "property", "_target_": f"medleak.attacks.property.{attack}"}
        return {**made, "n_targets": n_targets}

    return make


@pytest.fixture
def experiment(toy_config):
    return load_experiment_data(
        toy_config(dataset={"n_patients": 3000}, split=LARGE)["target"], None
    )


LARGE = {"n_members": 500, "n_auxiliary": 1000, "n_evaluation": 40}


# --------------------------------------------------------------------------- the draw


def test_a_pool_is_known_by_its_name():
    assert proportions.read("audit") == ("audit", None)
    odd = PropertyDraw("a:b", '1"2', (0.1, 0.5))
    assert proportions.read(odd.pool("auxiliary")) == ("auxiliary", odd)


@pytest.mark.parametrize("base", ["audit", "auxiliary"])
def test_either_share_is_drawn_at_the_same_size(experiment, base):
    pool, sizes, found = SKEW.pool(base), {}, {}
    names, own = SKEW.patients(experiment.pool(base))
    for column in range(40):
        inside = proportions.member(experiment, pool, column)
        chosen = np.isin(names, experiment.pool(base).patients[inside])
        high = proportions.higher(pool, column, seed=0)
        sizes.setdefault(high, []).append(chosen.sum())
        found.setdefault(high, []).append(own[chosen].mean())
    for high, share in ((False, 0.3), (True, 0.7)):
        assert np.mean(sizes[high]) == pytest.approx(500, abs=15)
        assert np.mean(found[high]) == pytest.approx(share, abs=0.015)


def test_neighbours_have_different_shares_and_who_is_higher_is_a_coin():
    high = [proportions.higher(SKEW.pool("audit"), column, seed=0) for column in range(400)]
    assert all(a != b for a, b in zip(high[::2], high[1::2], strict=True))
    assert 70 <= sum(high[::2]) <= 130
    other = [proportions.higher(SKEW.pool("auxiliary"), column, seed=0) for column in range(400)]
    assert high != other


def test_scans_of_a_patient_stay_together_and_columns_repeat(toy_config):
    target = toy_config(dataset={"scans": 3})["target"]
    experiment = load_experiment_data(target, None)
    inside = proportions.member(experiment, SKEW.pool("audit"), 3)
    assert np.array_equal(inside, proportions.member(experiment, SKEW.pool("audit"), 3))
    for patient in np.unique(experiment.challenge.patients):
        assert len(set(inside[experiment.challenge.patients == patient].tolist())) == 1


def test_a_plain_pool_is_drawn_as_ever(experiment):
    assert np.array_equal(proportions.member(experiment, "audit", 2), experiment.member("audit", 2))


def test_other_training_sets_have_other_keys(config):
    plain = Cell(config(attack="neuron_sets.NeuronSets"), {})
    keys = {spec.key for spec in plain.specs}
    assert len(keys) == 12 + 16
    for change in ({"value": "M"}, {"shares": [0.2, 0.7]}):
        assert not keys & {spec.key for spec in Cell(config(knowledge=change), {}).specs}
    membership = config()
    membership["attack"] |= {"_target_": "toy.Confidence", "knowledge": {"n_shadows": 4}}
    assert not keys & {spec.key for spec in Cell(membership, {}).specs}


# --------------------------------------------------------------------------- what cannot be asked


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"attribute": "sx"}, "unknown attack.knowledge.attribute 'sx': did you mean 'sex'?"),
        ({"value": "f"}, "unknown attack.knowledge.value of sex 'f'"),
        ({"value": None}, "unknown attack.knowledge.value of sex 'None' (choices: F, M)"),
        ({"shares": [0.7, 0.3]}, "two shares in 0..1 are needed, the lower first"),
        ({"shares": 0.3}, "attack.knowledge.shares is 0.3: two shares"),
        ({"shares": [0.3, 1.0]}, "shares 0.3 and 1 of sex=F among 40 members cannot be drawn"),
        ({"pool": "audit"}, "the shadows of a property are drawn from auxiliary patients"),
        ({"n_shadows": 2}, "n_shadows=2: a property is learned on 12 or more"),
    ],
)
def test_what_cannot_be_asked_has_a_reason(config, change, told):
    assert any(told in reason for reason in reasons(Cell(config(knowledge=change), {})))


def test_a_single_target_is_too_few(config):
    (reason,) = reasons(Cell(config(n_targets=1), {}))
    assert reason == "n_targets=1: shares are told of 12 targets or more"


def test_no_auxiliary_patients_and_no_columns_are_reasons(config):
    found = reasons(Cell(config(split={"n_auxiliary": 0}), {}))
    assert "split.n_auxiliary=0: shadows are drawn from auxiliary patients" in found


# --------------------------------------------------------------------------- figures


def perfect(n, shared):
    high = np.arange(n) % 2 == 0
    return PropertyScores(np.where(high, 1.0, -1.0), shared), PropertyTruth(high)


def test_targets_are_the_units():
    auc, accuracy = (metric(*perfect(8, 0.0)) for metric in (PropertyAUC(), PropertyAccuracy()))
    assert (auc.value, auc.n, accuracy.value) == (1.0, 8, 1.0)
    assert accuracy.low == pytest.approx(0.025 ** (1 / 8), abs=0.01)
    alike = PropertyAUC()(PropertyScores(np.ones(2), 0.0), PropertyTruth(np.ones(2, bool)))
    assert (alike.value, alike.flag) == (None, "all 2 targets have the same share")


def test_the_least_number_of_targets_can_show_something():
    assert PropertyAUC()(*perfect(LEAST_TARGETS, 0.76)).low > 0.5
    assert PropertyAUC()(*perfect(LEAST_TARGETS - 2, 0.76)).low < 0.5


@pytest.mark.parametrize("metric", [PropertyAUC(), PropertyAccuracy()])
def test_intervals_allow_for_the_patients_whom_targets_share(metric, experiment):
    """Each patient adds something of its own to the score; the value has nothing to do with it."""
    shared = SKEW.shared(experiment.challenge.records, 500)
    assert shared == pytest.approx(0.16 / 0.21, rel=0.1)
    pool, rng = SKEW.pool("audit"), np.random.default_rng(0)
    high = np.array([proportions.higher(pool, column, seed=0) for column in range(16)])
    inside = np.stack([proportions.member(experiment, pool, column) for column in range(16)])
    covered = {0.0: 0, shared: 0}
    for _ in range(200):
        scores = (inside - inside.mean(0)) @ rng.normal(size=inside.shape[1])
        for r in covered:
            found = metric(PropertyScores(scores, r), PropertyTruth(high))
            covered[r] += found.low <= 0.5 <= found.high
    assert covered[shared] >= 184
    assert covered[0.0] < 184


@pytest.fixture
def rows(config, tmp_path):
    def go(**options):
        jobs = [Job((), {}, config(**options))]
        places = {"out": tmp_path / "out", "store": tmp_path / "store"}
        plan = grid.plan(jobs, metrics=BLOCKS, name="g", **places)
        return scheduler.execute(plan, executor=SerialExecutor()).rows

    return go


@pytest.mark.parametrize("attack", ["neuron_sets.NeuronSets", "score_property.ScoreProperty"])
def test_a_model_that_serves_women_and_men_apart_says_how_many_it_saw(rows, attack):
    dataset = {"_target_": "toy.Halves", "n_patients": 700, "dim": 8}
    split = {"n_members": 150, "n_auxiliary": 300}
    (row,) = rows(attack=attack, dataset=dataset, split=split, recipe={"epochs": 60})
    assert (row.status, row.reason) == ("ok", "")
    assert (row.records, row.unit) == ("sex=F, 0.3 or 0.7", "training set")
    assert row.leakage["property_auc"].value > 0.9
    assert row.leakage["property_auc"].low > 0.5
    assert (row.leakage["property_auc"].n, row.n_shadows, row.pool) == (12, 16, "auxiliary")
    assert row.upper_bounds == {"property_auc": None, "property_accuracy": None}
    assert "blind_auc" not in row.controls  # members differ from the others, on purpose


def test_nothing_is_told_where_the_value_changes_nothing(rows):
    (row,) = rows(recipe={"epochs": 60})
    assert row.leakage["property_auc"].low <= 0.5 <= row.leakage["property_auc"].high


def test_a_share_that_makes_no_sense_refuses_the_request(rows):
    with pytest.raises(ConfigError, match="nothing in this grid is applicable: unknown attack"):
        rows(knowledge={"value": "X"})

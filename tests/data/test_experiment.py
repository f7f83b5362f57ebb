"""Splits, membership and canaries: by patient, disjoint, nested, reproducible."""

import dataclasses

import numpy as np
import pytest

from medleak.api import DataError, Dataset, Records
from medleak.core.keys import rng_for
from medleak.data.canaries import plant_canaries
from medleak.data.experiment import load_experiment_data, membership
from medleak.data.splits import split_patients, unique_images

PARTS = ("challenge", "auxiliary", "validation", "evaluation")


def make_dataset(n_patients=60, scans=3, seed=0, sources=None):
    rng = np.random.default_rng(seed)
    n = n_patients * scans
    patients = np.repeat(np.arange(n_patients), scans)
    order = rng.permutation(n)
    x = rng.integers(0, 256, (n, 1, 4, 4), dtype=np.uint8)
    y = rng.integers(0, 3, n)
    source = np.full(n, "all") if sources is None else np.array(sources)[patients % len(sources)]
    records = Records(x, y, patients[order])
    return Dataset(records, source[order], "made", ("a", "b", "c"), "0")


SIZES = {"challenge": 20, "auxiliary": 15, "validation": 5, "evaluation": 10}


def test_parts_share_no_patient_and_keep_patients_whole():
    dataset = make_dataset()
    parts = split_patients(dataset, SIZES, seed=1)
    patients = {p: set(dataset.records.patients[getattr(parts, p)]) for p in PARTS}
    for part in PARTS:
        assert len(patients[part]) == SIZES[part]
        assert len(getattr(parts, part)) == 3 * SIZES[part]
    assert len(set.union(*patients.values())) == sum(SIZES.values())


def test_a_smaller_challenge_is_nested_and_the_rest_stays():
    dataset = make_dataset()
    large = split_patients(dataset, SIZES, seed=1)
    small = split_patients(dataset, SIZES | {"challenge": 8}, seed=1)
    np.testing.assert_array_equal(large.challenge[: len(small.challenge)], small.challenge)
    for part in PARTS[1:]:
        np.testing.assert_array_equal(getattr(large, part), getattr(small, part))


def test_seeds_differ_and_repeat():
    dataset = make_dataset()
    one, again, other = (split_patients(dataset, SIZES, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.challenge, again.challenge)
    assert set(one.challenge) != set(other.challenge)


def test_duplicate_images_are_removed_before_splitting():
    dataset = make_dataset()
    records = dataset.records
    x = records.x.copy()
    x[5] = x[17]
    x[100] = x[17]
    doubled = Records(x, records.y, records.patients)
    assert len(unique_images(doubled)) == len(x) - 2
    parts = split_patients(dataclasses.replace(dataset, records=doubled), SIZES, seed=1)
    used = np.concatenate([getattr(parts, p) for p in PARTS])
    assert len(np.unique(doubled.x[used].reshape(len(used), -1), axis=0)) == len(used)


def test_official_sources_are_kept_apart():
    dataset = make_dataset(sources=["train", "test"])
    sources = {
        "challenge": "train",
        "auxiliary": "train",
        "evaluation": "test",
        "validation": "test",
    }
    sizes = {"challenge": 10, "auxiliary": 10, "validation": 5, "evaluation": 10}
    parts = split_patients(dataset, sizes, sources=sources)
    for part, source in sources.items():
        assert set(dataset.source[getattr(parts, part)]) == {source}


def test_a_patient_in_two_sources_is_refused():
    dataset = make_dataset(sources=["train", "test"])
    source = dataset.source.copy()
    source[0] = "test" if source[0] == "train" else "train"
    with pytest.raises(DataError, match=r"patient \d+ of made is in two sources"):
        split_patients(
            dataclasses.replace(dataset, source=source),
            SIZES,
            sources=dict.fromkeys(PARTS, "train") | {"evaluation": "test"},
        )


@pytest.mark.parametrize(
    ("sizes", "sources", "message"),
    [
        ({"challenge": 70}, {}, "too few patients in made: challenge needs 70, 60 are left"),
        ({"evaluation": 30}, {}, "too few patients in made: evaluation needs 30, 20 are left"),
        ({}, dict.fromkeys(PARTS, "al"), "did you mean 'all'"),
        ({}, {"chalenge": "all"}, "did you mean 'challenge'"),
        (
            {},
            {"challenge": "all"},
            "names some parts only: auxiliary, validation, evaluation missing",
        ),
    ],
)
def test_bad_splits_are_named(sizes, sources, message):
    with pytest.raises(DataError, match=message):
        split_patients(make_dataset(), SIZES | sizes, sources=sources)


def test_membership_is_by_patient_fair_and_independent_between_columns():
    patients = np.repeat(np.arange(3000), 2)
    columns = np.stack([membership("audit", c, patients, seed=0, p=0.5) for c in range(8)])
    assert (columns[:, ::2] == columns[:, 1::2]).all()
    share = columns[:, ::2].mean(1)
    assert (np.abs(share - 0.5) < 4 * np.sqrt(0.25 / 3000)).all()
    correlation = np.corrcoef(columns[:, ::2])
    assert np.abs(correlation[~np.eye(8, dtype=bool)]).max() < 4 / np.sqrt(3000)


def test_membership_does_not_depend_on_who_follows():
    patients = np.random.default_rng(0).permutation(500)
    long = membership("audit", 3, patients, seed=0, p=0.5)
    short = membership("audit", 3, patients[:100], seed=0, p=0.5)
    np.testing.assert_array_equal(long[:100], short)


def test_the_counts_of_other_columns_do_not_tell_the_one_left_out():
    patients = np.arange(4000)
    columns = np.stack([membership("audit", c, patients, seed=0, p=0.5) for c in range(9)])
    others = columns[1:].sum(0)
    inside, outside = others[columns[0]].mean(), others[~columns[0]].mean()
    assert abs(inside - outside) < 4 * np.sqrt(2.0) / np.sqrt(1000)


def test_canaries_are_wrong_by_patient_nested_and_as_many_as_asked():
    dataset = make_dataset(n_patients=2000, scans=2)
    records = dataset.records
    planted = plant_canaries(dataset, records, {"mislabelled": 0.2}, seed=3)
    wrong = planted.kind == "mislabelled"
    assert (planted.y[wrong] != records.y[wrong]).all()
    assert (planted.y[~wrong] == records.y[~wrong]).all()
    assert set(np.unique(planted.y)) == {0, 1, 2}
    by_patient = [set(wrong[records.patients == p]) for p in range(100)]
    assert all(len(found) == 1 for found in by_patient)
    assert abs(wrong.mean() - 0.2) < 4 * np.sqrt(0.16 / 2000)
    part = plant_canaries(dataset, records.take(np.arange(50)), {"mislabelled": 0.2}, seed=3)
    np.testing.assert_array_equal(part.kind, planted.kind[:50])


def test_bad_canaries_are_named():
    dataset = make_dataset()
    with pytest.raises(DataError, match="did you mean 'mislabelled'"):
        plant_canaries(dataset, dataset.records, {"mislabeled": 0.1}, seed=0)
    with pytest.raises(DataError, match=r"canaries.mislabelled is 1.5"):
        plant_canaries(dataset, dataset.records, {"mislabelled": 1.5}, seed=0)


def test_blank_canaries_leave_the_mislabelled_ones_alone():
    dataset = make_dataset(n_patients=600, scans=2)
    before = plant_canaries(dataset, dataset.records, {"mislabelled": 0.2}, seed=3)
    both = plant_canaries(dataset, dataset.records, {"blank": 0.1, "mislabelled": 0.2}, seed=3)
    alone = plant_canaries(dataset, dataset.records, {"blank": 0.1}, seed=3)
    wrong, blank = before.kind == "mislabelled", both.kind == "blank"
    np.testing.assert_array_equal(both.kind == "mislabelled", wrong)
    np.testing.assert_array_equal(both.y[~blank], before.y[~blank])
    np.testing.assert_array_equal(both.x[~blank], dataset.records.x[~blank])
    assert before.x is dataset.records.x
    assert abs(blank[::2].mean() - 0.1) < 4 * np.sqrt(0.09 / 600)
    assert abs((alone.kind == "blank").mean() - 0.1) < 4 * np.sqrt(0.09 / 600)
    assert set(alone.kind) == {"blank", "natural"}
    # Drawn patient by patient, whoever else is there.
    some = dataset.records.patients % 3 == 0
    part = plant_canaries(dataset, dataset.records.take(some), {"blank": 0.1}, seed=3)
    np.testing.assert_array_equal(part.x, alone.x[some])
    np.testing.assert_array_equal(part.y, alone.y[some])


def test_the_mislabelled_are_who_they_have_always_been():
    dataset = make_dataset(n_patients=300, scans=1)
    records = dataset.records
    planted = plant_canaries(dataset, records, {"mislabelled": 0.3}, seed=5)
    for i, patient in enumerate(records.patients):
        chosen, shift = rng_for("canary", 5, int(patient)).random(2)
        moved = (records.y[i] + 1 + int(2 * shift)) % 3 if chosen < 0.3 else records.y[i]
        assert planted.y[i] == moved


def table(n=400):
    rng = np.random.default_rng(0)
    x = (5 + 3 * rng.normal(size=(n, 7))).astype(np.float32)
    records = Records(x, rng.integers(0, 2, n), np.arange(n))
    return Dataset(records, np.full(n, "all"), "made", ("a", "b"), "0")


def images(dtype, n=600, channels=1, task="multiclass"):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, channels, 8, 8), dtype=np.uint8)
    x = x if dtype == np.uint8 else (x / 255).astype(dtype)
    y = rng.integers(0, 2, (n, 5)) if task == "multilabel" else rng.integers(0, 3, n)
    records = Records(x, y, np.arange(n) // 2)
    classes = tuple("abcde" if task == "multilabel" else "abc")
    return Dataset(records, np.full(n, "all"), "made", classes, "0", task=task)


@pytest.mark.parametrize(
    ("dataset", "spread"),
    [
        (table(), 1e-6),
        (images(np.float32), 0.0),
        (images(np.uint8), 1),
        (images(np.uint8, channels=3), 1),
        (images(np.uint8, task="multilabel"), 1),
    ],
)
def test_blank_canaries_are_uniform_and_no_two_are_equal(dataset, spread):
    planted = plant_canaries(dataset, dataset.records, {"blank": 0.5}, seed=0)
    blank = planted.kind == "blank"
    x = planted.x[blank].reshape(blank.sum(), -1)
    assert x.dtype == dataset.records.x.dtype
    assert np.ptp(x.astype(float), axis=1).max() <= spread
    assert len(np.unique(x, axis=0)) == len(x) > 100
    levels, all_of = x.mean(axis=1), dataset.records.x
    assert levels.mean() == pytest.approx(all_of.mean(), abs=4 * all_of.std() / np.sqrt(len(x)))
    assert levels.std() == pytest.approx(all_of.std(), rel=0.15)
    y = planted.y[blank]
    if dataset.task == "multilabel":
        assert set(np.unique(y)) == {0, 1}
    shares = np.bincount(y.ravel()) / y.size
    assert np.abs(shares - 1 / len(shares)).max() < 4 * np.sqrt(0.25 / (y.size / 2))
    labels = [np.unique(planted.y[planted.patients == p], axis=0) for p in planted.patients[blank]]
    assert {len(found) for found in labels} == {1}


def test_shares_of_canaries_that_leave_no_natural_patient_are_refused():
    dataset = make_dataset()
    shares = {"mislabelled": 0.7, "blank": 0.3}
    told = r"split.canaries add up to 1 \(mislabelled 0.7, blank 0.3\): below 1 is needed"
    with pytest.raises(DataError, match=told):
        plant_canaries(dataset, dataset.records, shares, seed=0)
    with pytest.raises(DataError, match="did you mean 'blank'"):
        plant_canaries(dataset, dataset.records, {"blanc": 0.1}, seed=0)


def test_a_world_is_disjoint_and_its_shadows_are_as_large_as_the_target(toy_config):
    experiment = load_experiment_data(toy_config(dataset={"scans": 2})["target"], None)
    parts = [experiment.challenge.records, experiment.auxiliary, experiment.evaluation]
    patients = [set(part.patients) for part in parts]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 80 + 80 + 40
    assert experiment.problem.max_records == 2
    assert experiment.problem.n_patients == 40
    expected = experiment.shadow_share * len(patients[1])
    assert expected == pytest.approx(40)


@pytest.mark.parametrize("value", [1, 0, "ten", True, 2.5])
def test_bad_sizes_are_named(toy_config, value):
    with pytest.raises(DataError, match=r"target.split.n_members"):
        load_experiment_data(toy_config(split={"n_members": value})["target"], None)


def test_misspelt_split_keys_are_named(toy_config):
    with pytest.raises(DataError, match="did you mean 'n_members'"):
        load_experiment_data(toy_config(split={"n_member": 3})["target"], None)


def test_an_attack_that_writes_into_the_records_fails(toy_config):
    experiment = load_experiment_data(toy_config()["target"], None)
    for records in (experiment.challenge.records, experiment.auxiliary, experiment.evaluation):
        with pytest.raises(ValueError, match="read-only"):
            records.x[0] = 0
    x = experiment.challenge.x
    assert (
        experiment.content(x)
        == experiment.content(x.copy())
        != experiment.content(experiment.auxiliary.x)
    )

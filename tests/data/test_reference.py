"""The part `reference`: other images of the challenge patients."""

from dataclasses import replace

import numpy as np
import pytest

from medleak.api import DataError, Dataset, Records
from medleak.core.keys import array_digest
from medleak.data.experiment import load_experiment_data
from medleak.data.splits import PARTS, split_patients

SIZES = {"challenge": 20, "auxiliary": 15, "validation": 5, "evaluation": 10}
AS_BEFORE = "775e682da782e0b3d16ec9301d4655896c6a327892bdf2c59dde4f29c932b7e1"
"""Of the split without reference, as drawn before there was such a part."""


def make_dataset(scans=(1, 2, 3), n_patients=60):
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(n_patients), np.resize(scans, n_patients))
    x = rng.integers(0, 256, (len(patients), 1, 4, 4), dtype=np.uint8)
    records = Records(x, np.zeros(len(patients), dtype=np.int64), patients)
    return Dataset(records, np.full(len(patients), "all"), "made", ("a", "b"), "0")


def test_without_reference_the_split_is_the_one_that_it_was():
    parts = split_patients(make_dataset(), SIZES, seed=1)
    assert array_digest(*(getattr(parts, name) for name in PARTS)) == AS_BEFORE
    assert not len(parts.reference)


@pytest.mark.parametrize("n", [1, 2])
def test_it_holds_other_images_of_the_challenge_patients(n):
    dataset = make_dataset()
    sizes = SIZES | {"challenge": 16}
    parts = split_patients(dataset, sizes, n_reference=n, seed=1)
    patients = dataset.records.patients
    asked, known = patients[parts.challenge], patients[parts.reference]
    assert not set(parts.challenge) & set(parts.reference)
    assert set(asked) == set(known)
    assert len(set(asked)) == 16
    assert (np.unique(known, return_counts=True)[1] == n).all()
    for name in PARTS[1:]:
        assert not set(patients[getattr(parts, name)]) & set(asked)
        assert len(set(patients[getattr(parts, name)])) == sizes[name]


def test_a_smaller_challenge_with_reference_is_nested():
    dataset = make_dataset()
    large, small = (
        split_patients(dataset, SIZES | {"challenge": n}, n_reference=1, seed=1) for n in (20, 8)
    )
    for name in ("challenge", "reference"):
        some = getattr(small, name)
        np.testing.assert_array_equal(getattr(large, name)[: len(some)], some)


def test_patients_with_one_image_cannot_be_referred_to():
    with pytest.raises(DataError) as refused:
        split_patients(make_dataset(scans=(1,)), SIZES, n_reference=1)
    assert str(refused.value) == (
        "too few patients in made: n_reference=1 needs 20 challenge patients with 2 images or more, "
        "0 of 60 have them"
    )


def target(**split):
    sizes = {"n_members": 10, "n_auxiliary": 20, "n_evaluation": 10}
    return {"dataset": {"_target_": "toy.Blobs", "scans": 3}, "split": sizes | split}


def test_an_experiment_knows_the_reference_and_never_trains_on_it():
    experiment = load_experiment_data(target(n_reference=1), None)
    assert (len(experiment.challenge.records), len(experiment.reference)) == (40, 20)
    assert experiment.problem.max_records == 2
    trained = {row.tobytes() for row in experiment.pool("audit").x}
    assert not trained & {row.tobytes() for row in experiment.reference.x}
    assert not experiment.reference.x.flags.writeable
    other = replace(experiment, reference=experiment.reference.take(np.arange(19)))
    assert other.digest != experiment.digest


def test_without_it_the_reference_is_empty_and_the_digest_as_before():
    experiment = load_experiment_data(target(), None)
    assert len(experiment.reference) == 0
    parts = (experiment.challenge.records, experiment.auxiliary, experiment.evaluation)
    arrays = [a for p in parts for a in (p.x, p.y, p.patients, *p.groups.values())]
    assert experiment.digest == array_digest(experiment.challenge.kind, *arrays)

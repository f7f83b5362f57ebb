"""The simulated head slices: structure, determinism, and a task that can be learnt."""

import numpy as np
import pytest

from medleak.api import ConfigError, ProblemSpec
from medleak.targets.datasets.phantom import Phantom


@pytest.fixture(scope="module")
def phantom():
    return Phantom(n_patients=300, seed=3).load()


def test_same_arguments_give_the_same_bytes(phantom):
    again = Phantom(n_patients=300, seed=3).load()
    assert np.array_equal(again.records.x, phantom.records.x)
    assert again.fingerprint == phantom.fingerprint


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"size": 29}, {"difficulty": 0.9}, {"scans_per_patient": [1, 2]}]
)
def test_every_argument_changes_the_fingerprint(phantom, change):
    other = Phantom(**({"n_patients": 300, "seed": 3} | change)).load()
    assert other.fingerprint != phantom.fingerprint


def test_a_larger_set_begins_with_the_same_scans(phantom):
    larger = Phantom(n_patients=400, seed=3).load().records
    n = len(phantom.records)
    assert np.array_equal(larger.x[:n], phantom.records.x)
    assert np.array_equal(larger.y[:n], phantom.records.y)
    assert np.array_equal(larger.patients[:n], phantom.records.patients)


def test_chunks_leave_no_seam(phantom, monkeypatch):
    monkeypatch.setattr("medleak.targets.datasets.phantom.PIXELS_AT_ONCE", 5 * 28 * 28)
    assert np.array_equal(Phantom(n_patients=300, seed=3).load().records.x, phantom.records.x)


def test_structure(phantom):
    r = phantom.records
    assert phantom.simulated
    assert phantom.unit == "patient"
    assert phantom.classes == ("no lesion", "lesion")
    assert r.x.dtype == np.uint8
    assert r.x.shape[1:] == (1, 28, 28)
    assert set(r.groups) == {"sex", "age_band", "site"}
    counts = np.bincount(r.patients)
    assert len(counts) == 300
    assert set(counts) == {1, 2, 3}
    for column in (r.y, r.groups["sex"], r.groups["age_band"]):
        assert all(len(set(column[r.patients == p])) == 1 for p in range(300))
    assert any(len(set(r.groups["site"][r.patients == p])) > 1 for p in range(300))


def test_no_two_scans_are_alike(phantom):
    assert len({image.tobytes() for image in phantom.records.x}) == len(phantom.records)


def test_scans_of_one_patient_resemble_each_other(phantom):
    r = phantom.records
    flat = r.x.reshape(len(r), -1).astype(float)
    same = np.flatnonzero(r.patients[1:] == r.patients[:-1])
    rng = np.random.default_rng(0)
    within = np.abs(flat[same] - flat[same + 1]).mean()
    across = np.abs(flat[same] - flat[rng.permutation(len(r))[: len(same)]]).mean()
    assert within < 0.8 * across


def test_groups_are_visible_in_the_images():
    r = Phantom(n_patients=400, seed=1, size=64).load().records
    head = (r.x[:, 0] > 60).any(1).sum(1)
    assert head[r.groups["sex"] == "M"].mean() > head[r.groups["sex"] == "F"].mean() + 1
    centre = r.x[:, 0, 26:38, 24:40].mean((1, 2))
    young, old = r.groups["age_band"] == "18-39", r.groups["age_band"] == "75+"
    assert centre[old].mean() < centre[young].mean() - 3
    corner = r.x[:, 0, :6, :6].astype(float)
    assert corner[r.groups["site"] == "B"].mean() > corner[r.groups["site"] == "A"].mean()


@pytest.mark.parametrize("size", [28, 64, 224])
def test_sizes(size):
    assert Phantom(n_patients=2, size=size).load().records.x.shape[1:] == (1, size, size)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"size": 27}, "28 to 224"),
        ({"size": 225}, "28 to 224"),
        ({"n_patients": 0}, "n_patients"),
        ({"scans_per_patient": [2, 1]}, r"\[least, most\]"),
        ({"scans_per_patient": [0, 1]}, r"\[least, most\]"),
        ({"scans_per_patient": 2}, r"\[least, most\]"),
        ({"difficulty": 1.5}, "0..1"),
        ({"difficulty": "hard"}, "'hard'"),
    ],
)
def test_bad_arguments(bad, words):
    with pytest.raises(ConfigError, match=words):
        Phantom(**bad).load()


def test_repr_rebuilds():
    phantom = Phantom(n_patients=5, seed=2)
    assert repr(eval(repr(phantom))) == repr(phantom)


def test_task_can_be_learnt_and_memorised():
    import torch

    from medleak.targets.architectures.cnn import SmallCNN
    from medleak.targets.recipes import SGD

    torch.set_num_threads(1)
    torch.manual_seed(0)
    records = Phantom(n_patients=450).load().records
    train, rest = records.take(records.patients < 250), records.take(records.patients >= 250)
    model = SmallCNN(in_shape=(1, 28, 28), n_outputs=2)
    problem = ProblemSpec(len(train), 250, 3, (1, 28, 28), 2)
    recipe = SGD(epochs=30, batch_size=64, optimizer="adamw", lr=0.003)
    trained = recipe.fit(model, train, problem=problem, seed=0)
    with torch.no_grad():
        predicted = model(torch.from_numpy(rest.x).float() / 255).argmax(1).numpy()
    assert (predicted == rest.y).mean() > 0.8
    assert trained.facts["train_accuracy"] > 0.98

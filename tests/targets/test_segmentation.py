"""Segmentation from the data set to a private network."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medleak.api import ConfigError, ProblemSpec, segmentation
from medleak.config.compose import expand
from medleak.config.instantiate import build
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.label_smoothing import LabelSmoothing
from medleak.metrics.utility import utility
from medleak.targets.architectures.unet import UNet
from medleak.targets.datasets.phantom import Phantom
from medleak.targets.datasets.phantom_segmentation import PhantomSegmentation
from medleak.targets.recipes import SGD

CONF = Path(__file__).parents[2] / "conf"
EASY = {"n_patients": 160, "difficulty": 0.0, "seed": 3}


@pytest.fixture(scope="module")
def data():
    return PhantomSegmentation(**EASY).load()


def network(seed=0, width=8):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet(in_shape=(1, 28, 28), n_outputs=2, width=width)


def problem(records):
    return ProblemSpec(
        len(records), len(np.unique(records.patients)), 3, (1, 28, 28), 2, "segmentation"
    )


def dice(model, records):
    x = torch.from_numpy(records.x).float() / 255
    with torch.inference_mode():
        log_p = segmentation.log_probabilities(model(x).numpy())
    found = utility(records.y, scores=log_p, patients=records.patients, task="segmentation")
    return found["dice"].value


def test_images_are_those_of_the_phantom_and_masks_lie_on_the_lesion(data):
    whole = Phantom(**EASY).load().records
    assert np.array_equal(data.records.x, whole.x[whole.y == 1])
    assert segmentation.label_faults(data.records.y, 2, (1, 28, 28)) == []
    assert data.simulated
    size = data.records.y.reshape(len(data.records), -1).sum(axis=1)
    assert size.min() > 0
    assert size.max() < 28 * 28 / 8
    everybody = PhantomSegmentation(**EASY, lesions_only=False).load()
    assert np.array_equal(everybody.records.y.any(axis=(1, 2)), whole.y == 1)
    assert everybody.fingerprint != data.fingerprint


def test_scans_of_a_patient_show_one_lesion(data):
    """Moved by the pose of each scan only: two masks of a patient lie close together."""
    y, patients = data.records.y, data.records.patients
    centre = np.array([np.argwhere(mask).mean(axis=0) for mask in y])
    apart = [np.ptp(centre[patients == p], axis=0).max() for p in np.unique(patients)]
    assert max(apart) < 28 / 4


def test_the_network_answers_a_logit_for_each_pixel_and_class():
    x = torch.rand(2, 1, 28, 28)
    assert network()(x).shape == (2, 2, 28, 28)
    assert UNet(in_shape=(3, 20, 16), n_outputs=5)(torch.rand(2, 3, 20, 16)).shape == (2, 5, 20, 16)
    with pytest.raises(ConfigError, match="divisible by 4"):
        UNet(in_shape=(1, 30, 28), n_outputs=2)


def test_no_statistics_are_shared_between_records():
    model, x = network().eval(), torch.rand(4, 1, 28, 28)
    assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-5)
    assert not list(model.buffers())


def test_a_trained_network_finds_lesions(data):
    names = np.unique(data.records.patients)
    inside = np.isin(data.records.patients, names[:50])
    members, others = data.records.take(inside), data.records.take(~inside)
    recipe = SGD(epochs=70, batch_size=16, optimizer="adamw", lr=0.005)
    trained = recipe.fit(network(), members, problem=problem(members), seed=0)
    assert trained.facts["criterion"] == segmentation.criterion
    everything = utility(
        others.y, labels=np.ones_like(others.y), patients=others.patients, task="segmentation"
    )
    assert dice(trained.model, members) > 0.7
    assert dice(trained.model, others) > 0.3 > 5 * everything["dice"].value


def test_private_training_follows_true_gradients_of_each_record(data):
    """Without noise, without clipping and with every record in every batch: plain gradient descent."""
    few = data.records.take(np.arange(6))
    options = {"batch_size": 6, "epochs": 2, "optimizer": "sgd", "lr": 0.1, "momentum": 0.0}
    recipe = SGD(**options)
    private = DPSGD(noise_multiplier=1e-9, clip=1e6, sampling_rate=1.0)
    known = problem(few)
    left, right = (
        r.fit(network(width=4), few, problem=known, seed=0).model
        for r in (private.apply(recipe, problem=known), recipe)
    )
    for one, other in zip(left.parameters(), right.parameters(), strict=True):
        assert torch.allclose(one, other, atol=2e-4)


def test_what_would_move_images_without_masks_is_refused(data):
    known = problem(data.records)
    assert SGD(augment=["noise", "contrast"]).incompatibilities(known) == []
    assert "flip" in SGD(augment=["flip"]).incompatibilities(known)[0]
    assert "segmentation" in LabelSmoothing().incompatibilities(known, SGD())[0]


def test_the_target_composes():
    block = expand(["target=phantom_segmentation"])[0].config["target"]
    small = build({**block["dataset"], "n_patients": 20}).load()
    model = build(block["model"], in_shape=small.records.x.shape[1:], n_outputs=2)
    assert model(torch.rand(1, 1, 28, 28)).shape == (1, 2, 28, 28)
    assert build(block["recipe"]).incompatibilities(problem(small.records)) == []

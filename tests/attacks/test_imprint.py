"""A layer in front of the model: records with a bin of their own come back, others do not."""

import copy

import numpy as np
import pytest
import torch
from planted_records import (
    AUXILIARY,
    EXACT,
    SHAPE,
    arrays,
    clipped_sum,
    decibels,
    guessed,
    images,
    known,
    message,
    network,
    rebuilt,
    records,
    summed,
)

from medleak.api import NotApplicable, Records, replace
from medleak.attacks.gradient_inversion import imprint
from medleak.attacks.gradient_inversion._transcript import pixels, prior_guess
from medleak.attacks.gradient_inversion.fishing import FishingServer
from medleak.attacks.gradient_inversion.imprint import ImprintServer, RobbingTheFed
from medleak.attacks.gradient_inversion.trap_weights import TrapServer
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP


def alone(module, batch):
    """Which records have a bin of their own, by the edges that were sent."""
    weight, bias = (p.detach().double().numpy() for p in module.imprint.parameters())
    size = np.linalg.norm(weight, axis=1)
    measured = pixels(batch.x).reshape(len(batch), -1) @ (weight[0] / size[0])
    where = np.searchsorted(-bias / size, measured)
    return np.bincount(where)[where] == 1


@pytest.mark.parametrize("kind", [SmallCNN, MLP])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("denoised", [False, True])
def test_imprint_returns_exactly_the_records_with_a_bin_of_their_own(kind, sparse, denoised):
    model, batch = network(kind), records(32, 2)
    server = ImprintServer(bins=64, sparse=sparse)
    front = server.module(model, client=0, knowledge=known(model))
    found = rebuilt(RobbingTheFed(denoised=denoised), [message(front, batch)], known(model))[0]
    isolated = alone(front, batch)
    assert 8 < isolated.sum() < 32
    assert (decibels(found, batch) > EXACT).sum() == isolated.sum()


@pytest.mark.parametrize("sparse", [False, True])
def test_of_eight_records_more_come_back_from_more_bins(sparse):
    model, batches = network(SmallCNN), [records(8, seed) for seed in range(10, 20)]
    hits = []
    for bins in (8, 64, 1024):
        front = ImprintServer(bins=bins, sparse=sparse).module(
            model, client=0, knowledge=known(model)
        )
        found = rebuilt(RobbingTheFed(), [message(front, b) for b in batches], known(model))
        hits.append(
            np.mean([(decibels(f, b) > EXACT).sum() for f, b in zip(found, batches, strict=True)])
        )
    # A record is alone with probability (1 - 1/K)^7: 3.1, 7.2 and 7.9 of 8.
    assert hits[0] == pytest.approx(3.1, abs=1.3)
    assert hits[1] == pytest.approx(7.2, abs=0.8)
    assert hits[2] > 7.6


@pytest.mark.parametrize("kind", [SmallCNN, MLP])
@pytest.mark.parametrize(
    "server", [ImprintServer(), ImprintServer(sparse=True), TrapServer(front=True)]
)
def test_a_layer_in_front_leaves_the_answers_and_the_model_alone(kind, server):
    model = network(kind)
    before = copy.deepcopy(model.state_dict())
    front = server.module(model, client=0, knowledge=known(model))
    x = torch.from_numpy(pixels(records(50, 3).x))
    with torch.no_grad():
        plain, changed = model(x), front(x)
    assert float((plain - changed).abs().max()) < 0.05 * float(plain.std())
    message(front, records(4, 4))
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


@pytest.mark.parametrize("server", [ImprintServer(sparse=True), TrapServer(front=True)])
def test_what_is_kept_is_nearly_the_honest_update(server):
    model, batch = network(SmallCNN), records(8, 5)
    front = server.module(model, client=0, knowledge=known(model))
    kept, honest = server.kept(message(front, batch).update), message(model, batch).update
    assert set(kept) == set(honest)
    a, b = (np.concatenate([u[n].ravel() for n in honest]) for u in (kept, honest))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


@pytest.mark.parametrize("server", [ImprintServer(), TrapServer(), FishingServer()])
def test_a_server_sends_the_same_to_all_clients_of_a_round(server):
    model = network(MLP)
    first, second = (arrays(server.module(model, client=c, knowledge=known(model))) for c in (0, 1))
    assert all(np.array_equal(first[n], second[n]) for n in first)


def test_sparse_bins_survive_several_local_steps_and_dense_ones_do_not():
    model, batch = network(SmallCNN), records(32, 6)
    hits = {}
    for sparse in (False, True):
        server = ImprintServer(bins=128, sparse=sparse)
        front = server.module(model, client=0, knowledge=known(model))
        sent = message(front, batch, lr=0.01, steps=4)
        hits[sparse] = (
            decibels(rebuilt(RobbingTheFed(), [sent], known(model))[0], batch) > 40
        ).sum()
    assert hits[True] >= 20
    assert hits[False] <= hits[True] / 2


def test_imprint_reads_a_sum_over_clients():
    model, batches = network(SmallCNN), [records(8, seed) for seed in range(30, 34)]
    server = ImprintServer(bins=1024)
    front = server.module(model, client=0, knowledge=known(model))
    found = rebuilt(RobbingTheFed(), [summed([message(front, b) for b in batches])], known(model))
    everyone = Records(
        *(np.concatenate([getattr(b, n) for b in batches]) for n in ("x", "y", "patients"))
    )
    assert (decibels(found[0], everyone) > EXACT).sum() >= 28


@pytest.mark.parametrize("sigma", [0.003, 0.03])
def test_denoising_helps_under_noise_and_is_never_worse_than_the_prior(sigma):
    model, batch = network(SmallCNN), records(8, 7)
    server = ImprintServer(bins=128, sparse=True)
    front = server.module(model, client=0, knowledge=known(model))
    noisy = clipped_sum(front, batch, sigma)
    plain, adaptive = (
        decibels(rebuilt(RobbingTheFed(denoised=d), [noisy], known(model))[0], batch).mean()
        for d in (False, True)
    )
    assert adaptive > plain + 1
    assert adaptive > guessed(batch) + 2


def test_sparse_bins_beat_dense_ones_under_noise():
    model, batch = network(SmallCNN), records(8, 7)
    quality = []
    for sparse in (False, True):
        front = ImprintServer(bins=128, sparse=sparse).module(
            model, client=0, knowledge=known(model)
        )
        found = rebuilt(RobbingTheFed(), [clipped_sum(front, batch, 0.003)], known(model))
        quality.append(decibels(found[0], batch).mean())
    assert quality[1] > quality[0] + 3


@pytest.mark.parametrize("sparse", [False, True])
def test_noise_alone_gives_the_prior_guess(sparse):
    model, rng = network(SmallCNN), np.random.default_rng(0)
    front = ImprintServer(bins=128, sparse=sparse).module(model, client=0, knowledge=known(model))
    sent = message(front, records(8, 8))
    noise = {n: rng.standard_normal(v.shape) for n, v in sent.update.items()}
    found = rebuilt(RobbingTheFed(), [replace(sent, update=noise)], known(model))[0]
    prior = prior_guess(AUXILIARY, SHAPE)
    assert np.mean([np.array_equal(f, prior) for f in found]) >= 0.75
    # Undenoised, noise is rebuilt, and is worse than guessing.
    raw = rebuilt(RobbingTheFed(denoised=False), [replace(sent, update=noise)], known(model))[0]
    assert decibels(raw, records(8, 8)).mean() < guessed(records(8, 8))


@pytest.mark.parametrize("sparse", [False, True])
def test_other_records_are_not_the_victim_s(sparse):
    model = network(SmallCNN)
    front = ImprintServer(sparse=sparse).module(model, client=0, knowledge=known(model))
    found = rebuilt(RobbingTheFed(), [message(front, records(8, 9))], known(model))[0]
    assert decibels(found, records(8, 90)).max() < 30


def test_an_honest_server_has_no_imprint_to_read():
    model = network(SmallCNN)
    with pytest.raises(NotApplicable, match="no imprint layer"):
        rebuilt(RobbingTheFed(), [message(model, records(2, 1))], known(model))


def test_bins_hold_equal_shares_even_of_tied_values():
    values = np.random.default_rng(0).standard_normal(4096)
    edges = imprint.equal_mass(values, 64)
    assert (np.abs(np.histogram(values, edges)[0] - 64) <= 2).all()
    assert (np.diff(imprint.equal_mass(np.repeat([0.0, 1.0], 50), 16)) > 0).all()
    assert (np.diff(imprint.equal_mass(np.zeros(5), 4)) > 0).all()


@pytest.mark.filterwarnings("error")
def test_rows_without_a_scale_are_no_images():
    """Exact rows (an empty bin without noise) whose bias tells nothing: quantised or pruned away."""
    prior = imprint.Prior.of(images(300, 0, (1, 6, 6)), np.random.default_rng(0))
    image, across = images(1, 5, (1, 6, 6)).reshape(36) / 255, np.zeros(36)
    across[:2] = prior.mean[1], -prior.mean[0]  # at right angles to the mean image
    weight = np.stack([np.zeros(36), 0.5 * image, across, image])
    bins = imprint.Bins(weight, np.array([0.0, 0.5, 0.0, 0.0]), np.full(4, -1.0))
    found = imprint.denoised_quotients(bins, prior)
    assert np.isfinite(found).all()
    assert len(found) == 1
    assert np.allclose(found[0], image, atol=1e-6)


def test_the_prior_s_posterior_mean_is_the_closed_form():
    rng = np.random.default_rng(0)
    prior = imprint.Prior.of(images(300, 0, (1, 6, 6)), rng)
    basis = prior.directions
    covariance = basis.T @ np.diag(prior.variances - prior.rest) @ basis + prior.rest * np.eye(36)
    y = rng.random(36)
    expected = prior.mean + covariance @ np.linalg.solve(
        covariance + 0.02 * np.eye(36), y - prior.mean
    )
    assert np.allclose(prior.denoised(y, 0.02), expected, atol=1e-6)
    assert np.allclose(prior.denoised(y, 0.0), y, atol=1e-6)

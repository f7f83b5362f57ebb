"""Attacks that invert gradients in closed form: planted records come back, others do not."""

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from medleak.api import (
    Knowledge,
    LocalTraining,
    NotApplicable,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
    replace,
)
from medleak.attacks.gradient_inversion import fishing, imprint, linear_layer, spear, trap_weights
from medleak.attacks.gradient_inversion._transcript import completed, pixels, prior_guess
from medleak.attacks.gradient_inversion.fishing import Fishing, FishingServer
from medleak.attacks.gradient_inversion.imprint import ImprintServer, RobbingTheFed
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer, first_layer
from medleak.attacks.gradient_inversion.model_inconsistency import (
    InconsistentServer,
    ModelInconsistency,
)
from medleak.attacks.gradient_inversion.spear import SPEAR
from medleak.attacks.gradient_inversion.trap_weights import TrapServer, TrapWeights
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP

SHAPE = (1, 16, 16)
EXACT = 60.0
"""dB; the rounding of single precision leaves more."""


def images(n, seed, shape=SHAPE):
    """Smooth blobs on a ramp, with texture; uint8."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[1], : shape[2]] / shape[1]
    x = np.zeros((n, *shape))
    for _ in range(4):
        cy, cx, wide, high = rng.random((4, n, 1, 1, 1))
        x += (0.2 + 0.6 * high) * np.exp(
            -((rows - cy) ** 2 + (columns - cx) ** 2) / (0.02 + 0.1 * wide)
        )
    x += 0.05 * rng.standard_normal(x.shape)
    return np.clip(255 * x / 2, 0, 255).astype(np.uint8)


def records(n, seed, shape=SHAPE):
    x = images(n, seed, shape)
    y = (pixels(x)[:, 0, :, shape[2] // 2 :].mean(axis=(1, 2)) > 0.28).astype(np.int64)
    return Records(x, y, np.arange(n))


AUXILIARY = records(600, 1)


def network(kind, shape=SHAPE):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(in_shape=shape, n_outputs=2)


def known(model, *, auxiliary=AUXILIARY, seed=0, shape=SHAPE):
    def rebuilt(weights):
        copied = copy.deepcopy(model)
        if weights is not None:
            copied.load_state_dict({n: torch.from_numpy(np.array(w)) for n, w in weights.items()})
        return copied.eval()

    problem = ProblemSpec(1000, 1000, 1, shape, 2)
    return Knowledge(problem, auxiliary=auxiliary, rng=np.random.default_rng(seed), network=rebuilt)


def arrays(module):
    return {n: p.detach().numpy().copy() for n, p in module.named_parameters()}


def trained(module, batch, *, lr=0.05, steps=1):
    """What a client returns: plain gradient steps over equal parts of its batch."""
    module = copy.deepcopy(module)
    optimiser = torch.optim.SGD(module.parameters(), lr=lr)
    x, y = torch.from_numpy(pixels(batch.x)), torch.from_numpy(batch.y)
    for part in torch.arange(len(y)).chunk(steps):
        optimiser.zero_grad()
        functional.cross_entropy(module(x[part]), y[part]).backward()
        optimiser.step()
    return arrays(module)


def message(module, batch, *, lr=0.05, steps=1):
    sent, back = arrays(module), trained(module, batch, lr=lr, steps=steps)
    update = {n: (sent[n] - back[n]) / lr for n in sent}
    return Observation(
        0, (0,), len(batch), sent, update, LocalTraining(steps, len(batch) // steps, lr)
    )


def summed(observations):
    """The sum over clients, averaged by number of records."""
    n = sum(o.n_records for o in observations)
    update = {
        name: sum(o.n_records * o.update[name] for o in observations) / n
        for name in observations[0].update
    }
    clients = tuple(range(len(observations)))
    return replace(observations[0], clients=clients, n_records=n, update=update)


def rebuilt(attack, observations, knowledge, shape=SHAPE):
    n = np.array([o.n_records for o in observations])
    challenge = ReconstructionChallenge(np.arange(len(n)), n, shape)
    release = Release({"aggregate": observations})
    return attack.execute(release, challenge, knowledge).reconstructions


def decibels(found, batch):
    """PSNR of each record against the image assigned to it."""
    x = pixels(batch.x)
    error = ((found[:, None] - x[None]) ** 2).reshape(len(found), len(x), -1).mean(axis=2)
    rows, columns = linear_sum_assignment(error)
    return -10 * np.log10(np.maximum(error[rows, columns], 1e-20))


def alone(module, batch):
    """Which records have a bin of their own, by the edges that were sent."""
    weight, bias = (p.detach().double().numpy() for p in module.imprint.parameters())
    size = np.linalg.norm(weight, axis=1)
    measured = pixels(batch.x).reshape(len(batch), -1) @ (weight[0] / size[0])
    where = np.searchsorted(-bias / size, measured)
    return np.bincount(where)[where] == 1


# --------------------------------------------------------------------------- imprint


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


def clipped_sum(module, batch, sigma, *, clip=1.0):
    """The message of a client under DP-SGD: clipped record by record, noise added."""
    total, rng = {}, np.random.default_rng(0)
    for x, y in zip(torch.from_numpy(pixels(batch.x)), torch.from_numpy(batch.y), strict=True):
        module.zero_grad()
        functional.cross_entropy(module(x[None]), y[None]).backward()
        grads = {n: p.grad.double().numpy() for n, p in module.named_parameters()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        for n, g in grads.items():
            total[n] = total.get(n, 0) + g * min(1, clip / norm)
    noisy = {n: g + sigma * clip * rng.standard_normal(g.shape) for n, g in total.items()}
    n = len(batch)
    update = {name: g / n for name, g in noisy.items()}
    return Observation(0, (0,), n, arrays(module), update, LocalTraining(1, n, 0.05))


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


def guessed(batch):
    prior = prior_guess(AUXILIARY, SHAPE)
    return decibels(np.repeat(prior[None], len(batch), axis=0), batch).mean()


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
    front = ImprintServer(sparse=sparse).module(model, client=0, knowledge=known(model))
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


# --------------------------------------------------------------------------- linear layer


@pytest.mark.parametrize("shape", [SHAPE, (3, 8, 8)])
def test_one_record_of_an_mlp_comes_back_exactly(shape):
    model = network(lambda **k: MLP(depth=2, **k), shape)
    batch = records(1, 5, shape)
    knowledge = known(model, auxiliary=records(50, 1, shape), shape=shape)
    found = rebuilt(LinearLayer(), [message(model, batch)], knowledge, shape)
    assert decibels(found[0], batch).min() > EXACT


def test_several_batches_of_different_sizes_are_padded_with_zeros():
    model, batches = network(MLP), [records(1, 5), records(3, 6)]
    found = rebuilt(LinearLayer(), [message(model, b) for b in batches], known(model))
    assert found.shape == (2, 3, *SHAPE)
    assert (found[0, 1:] == 0).all()
    assert decibels(found[0, :1], batches[0]).min() > EXACT


def test_some_of_a_batch_comes_back_and_never_the_same_twice():
    model, batches = network(MLP), [records(4, seed) for seed in range(40, 60)]
    found = rebuilt(LinearLayer(), [message(model, b) for b in batches], known(model))
    exact = [(decibels(f, b) > EXACT).sum() for f, b in zip(found, batches, strict=True)]
    assert 0.2 < np.mean(exact) / 4 < 0.9


def test_rows_that_agree_come_first_and_mixtures_last():
    x = np.random.default_rng(0).random((4, 50))
    mixed = 0.5 * x[1] + 0.5 * x[2]
    signed = 3 * x[1] - 2 * x[3]
    rows = np.stack([x[0], 2 * x[0], signed, x[3], 5 * mixed, np.zeros(50)])
    found = linear_layer.candidates(rows, np.array([1.0, 2.0, 1.0, 1.0, 5.0, 0.0]))
    assert len(found) == 4
    assert np.allclose(found[0], x[0])
    assert np.allclose(found[1], x[3])
    assert np.allclose(found[2], mixed)
    assert np.allclose(found[3], signed)


def test_no_gradient_gives_the_prior_guess():
    model = network(MLP)
    for n in (1, 3):
        sent = message(model, records(n, 1))
        nothing = replace(sent, update={k: 0 * v for k, v in sent.update.items()})
        found = rebuilt(LinearLayer(), [nothing], known(model))[0]
        assert np.array_equal(found, np.repeat(prior_guess(AUXILIARY, SHAPE)[None], n, axis=0))


def test_noise_is_no_record():
    model, rng = network(MLP), np.random.default_rng(0)
    sent = message(model, records(8, 8))
    noise = {n: rng.standard_normal(v.shape) for n, v in sent.update.items()}
    found = rebuilt(LinearLayer(), [replace(sent, update=noise)], known(model))[0]
    assert decibels(found, records(8, 8)).mean() < guessed(records(8, 8))


def test_a_convolution_is_not_a_fully_connected_first_layer():
    model = network(SmallCNN)
    assert first_layer(model, SHAPE) is None
    with pytest.raises(NotApplicable, match="no fully connected layer reads the input"):
        rebuilt(LinearLayer(), [message(model, records(2, 1))], known(model))


def test_the_first_layer_is_found_with_its_scaling():
    found = first_layer(network(MLP), SHAPE)
    assert found.name == "layers.2"
    assert np.allclose(found.scale, 4)
    assert np.allclose(found.shift, -2)


# --------------------------------------------------------------------------- SPEAR


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_whole_batches_come_back_exactly(n, depth):
    model = network(lambda **k: MLP(hidden=128, depth=depth, **k))
    for seed in (50, 60, 70):
        batch = records(n, seed + n)
        found = rebuilt(SPEAR(), [message(model, batch)], known(model))[0]
        assert decibels(found, batch).min() > EXACT
        if n > 2:
            plain = rebuilt(LinearLayer(), [message(model, batch)], known(model))[0]
            assert decibels(plain, batch).min() < 40


def test_a_sum_over_clients_is_split_too():
    model, batches = network(MLP), [records(2, 61), records(2, 62)]
    both = summed([message(model, b) for b in batches])
    found = rebuilt(SPEAR(), [both], known(model))[0]
    assert all(decibels(found, b).min() > EXACT for b in batches)


def layered(n, *, units=60, features=40, relu=True):
    """Gradients of a layer for n random records, and the records."""
    rng = np.random.default_rng(0)
    x, w, b = rng.random((n, features)), rng.standard_normal((units, features)), np.zeros(units)
    w -= w.mean(axis=1, keepdims=True)
    delta = rng.standard_normal((units, n))
    if relu:
        delta *= w @ x.T + b[:, None] > 0
    return spear.Layer(delta @ x, delta.sum(axis=1), w, b), x


@pytest.mark.parametrize("n", [2, 5, 8])
def test_planted_records_are_told_apart(n):
    layer, x = layered(n)
    found = spear.disaggregated(layer, n, 5000, np.random.default_rng(0))
    assert found.shape == x.shape
    assert (np.abs(found[:, None] - x).max(axis=2).min(axis=0) < 1e-9).all()


def test_without_noughts_nothing_is_found():
    layer, _ = layered(4, relu=False)
    assert not len(spear.disaggregated(layer, 4, 1000, np.random.default_rng(0)))


def test_nor_in_other_gradients_of_the_same_rank():
    layer, _ = layered(4)
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((60, 4)) @ rng.random((4, 40))
    layer = layer._replace(weight=noise, bias=rng.standard_normal(60))
    assert not len(spear.disaggregated(layer, 4, 1000, rng))


def test_nor_where_there_are_hardly_more_units_than_records():
    model, batch = network(lambda **k: MLP(hidden=12, **k)), records(8, 8)
    plain, found = (
        rebuilt(attack, [message(model, batch)], known(model))
        for attack in (LinearLayer(), SPEAR())
    )
    assert np.array_equal(plain, found)


def test_under_noise_splitting_is_no_better_than_guessing():
    model, batch = network(MLP), records(4, 7)
    exact = rebuilt(SPEAR(), [clipped_sum(model, batch, 0.0)], known(model))[0]
    assert decibels(exact, batch).min() > EXACT
    noisy = rebuilt(SPEAR(samples=1000), [clipped_sum(model, batch, 1.0)], known(model))[0]
    assert decibels(noisy, batch).max() < 40
    assert decibels(noisy, batch).mean() < guessed(batch)


def test_other_records_are_not_split_off():
    model = network(MLP)
    found = rebuilt(SPEAR(), [message(model, records(4, 9))], known(model))[0]
    assert decibels(found, records(4, 90)).max() < 30


def test_rounding_is_told_by_what_lies_beyond_the_records():
    layer, _ = layered(4, units=200)
    noise = 1e-6 * np.random.default_rng(1).standard_normal(layer.weight.shape)
    parts = spear.parts_of(layer.weight + noise, 4)
    assert parts.u.shape == (200, 4)
    size = np.linalg.svd(layer.weight, compute_uv=False)[:4]
    assert np.allclose(parts.rounding * size, 1e-6, rtol=0.1)
    assert spear.parts_of(layer.weight + 1e6 * noise, 4).u.shape[1] <= 1


def test_directions_are_orthogonal_to_rows_and_independent_ones_are_kept():
    u = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 4)))[0]
    q = spear.orthogonal(u, 6, np.random.default_rng(1))
    assert (spear.Parts(u, u.T, np.full(4, 1e-12)).noughts(q).sum(axis=1) == 3).all()
    rows = np.array([[1.0, 0, 0], [2, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 3]])
    assert np.array_equal(spear.independent(rows), rows[[0, 2, 4]])


# --------------------------------------------------------------------------- trap weights


@pytest.mark.parametrize(("kind", "front"), [(MLP, False), (MLP, True), (SmallCNN, False)])
def test_traps_return_much_of_a_batch(kind, front):
    model, batches = network(kind), [records(16, seed) for seed in range(60, 66)]
    server = TrapServer(active=0.05, front=front)
    sent = server.module(model, client=0, knowledge=known(model))
    found = rebuilt(TrapWeights(), [message(sent, b) for b in batches], known(model))
    exact = [(decibels(f, b) > EXACT).mean() for f, b in zip(found, batches, strict=True)]
    honest = rebuilt(
        LinearLayer(), [message(network(MLP), b) for b in batches], known(network(MLP))
    )
    curious = [(decibels(f, b) > EXACT).mean() for f, b in zip(honest, batches, strict=True)]
    assert np.mean(exact) > 0.3
    assert np.mean(exact) > 1.4 * np.mean(curious)


@pytest.mark.parametrize("active", [0.02, 0.2])
def test_traps_are_as_rare_as_asked(active):
    model = network(MLP)
    sent = TrapServer(active=active).module(model, client=0, knowledge=known(model))
    x = torch.from_numpy(pixels(records(2000, 70).x))
    with torch.no_grad():
        positive = (sent.layers[:3](x) > 0).float().mean()
    assert float(positive) == pytest.approx(active, rel=0.5)


def test_trap_rows_are_halves_of_the_same_sizes():
    plus, minus = trap_weights.trap_rows(np.random.default_rng(0), (5, 40))
    assert ((plus > 0).sum(axis=1) == 20).all()
    assert ((plus > 0) & (minus > 0)).sum() == 0
    assert np.allclose(np.sort(plus, axis=1), np.sort(minus, axis=1))


def test_an_overwritten_layer_trains_nothing_and_one_in_front_does():
    model, server = network(MLP), TrapServer()
    sent = server.module(model, client=0, knowledge=known(model))
    assert server.kept(message(sent, records(4, 1)).update) is None
    before = TrapServer(front=True).module(model, client=0, knowledge=known(model))
    assert set(server.kept(message(before, records(4, 1)).update)) == set(arrays(model))


# --------------------------------------------------------------------------- fishing


def test_class_fishing_leaves_the_only_record_of_the_class():
    model, batch = network(MLP), records(60, 80)
    ones, zeros = np.flatnonzero(batch.y == 1), np.flatnonzero(batch.y == 0)
    batch = batch.take(np.concatenate([zeros[:7], ones[:1]]))
    sent = FishingServer(target=1, share=None).module(model, client=0, knowledge=known(model))
    found = rebuilt(Fishing(inner=LinearLayer()), [message(sent, batch)], known(model))[0]
    assert decibels(found[:1], batch.take(np.array([7]))).min() > EXACT
    prior = prior_guess(AUXILIARY, SHAPE)
    assert all(np.array_equal(f, prior) for f in found[1:])


def test_feature_fishing_often_leaves_one_record_and_the_curious_server_never_does():
    model, batches = network(MLP), [records(16, seed) for seed in range(100, 130)]
    sent = FishingServer(share=1 / 16).module(model, client=0, knowledge=known(model))
    exact = {}
    for name, module in (("fished", sent), ("plain", model)):
        found = rebuilt(
            Fishing(inner=LinearLayer()), [message(module, b) for b in batches], known(model)
        )
        best = [decibels(f[:1], b).max() for f, b in zip(found, batches, strict=True)]
        exact[name] = np.mean(np.array(best) > EXACT)
    # One of 16 with probability 1/16 each: exp(-1) at best.
    assert 0.15 < exact["fished"] < 0.6
    assert exact["plain"] == 0


def test_fishing_hands_over_one_record_its_label_and_its_own_gradient():
    model, batch = network(MLP), records(60, 80)
    batch = batch.take(
        np.concatenate([np.flatnonzero(batch.y == 0)[:7], np.flatnonzero(batch.y == 1)[:1]])
    )
    sent = FishingServer(target=1, share=None).module(model, client=0, knowledge=known(model))
    seen = {}

    class Inner(LinearLayer):
        def rebuild(self, observation, n, labels):
            seen.update(update=observation.update, n=n, labels=labels)
            return super().rebuild(observation, n, labels)

    rebuilt(Fishing(inner=Inner()), [message(sent, batch)], known(model))
    single = message(sent, batch.take(np.array([7]))).update
    assert seen["n"] == 1
    assert seen["labels"].tolist() == [1]
    assert np.allclose(
        seen["update"]["layers.2.weight"], single["layers.2.weight"], rtol=1e-3, atol=1e-5
    )


def test_the_cutoff_leaves_the_share_on_the_wrong_side():
    rng = np.random.default_rng(0)
    inside = rng.random(4000) < 0.3
    scores = rng.standard_normal(4000) + 4 * inside
    t = fishing.cutoff(scores, inside, 0.1)
    assert np.mean((scores > t) != inside) == pytest.approx(0.1, abs=2e-3)


# --------------------------------------------------------------------------- inconsistency


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("kind", [SmallCNN, MLP])
def test_inconsistency_finds_the_victim_in_a_sum(kind, sparse):
    model, batches = network(kind), [records(4, seed) for seed in range(200, 210)]
    server = InconsistentServer(bins=1024, sparse=sparse)
    sent = [server.module(model, client=c, knowledge=known(model)) for c in range(10)]
    found = rebuilt(
        ModelInconsistency(),
        [summed([message(m, b) for m, b in zip(sent, batches, strict=True)])],
        known(model),
    )[0]
    assert found.shape == (40, *SHAPE)
    assert (decibels(found[:4], batches[0]) > EXACT).sum() >= 3
    prior = prior_guess(AUXILIARY, SHAPE)
    assert all(np.array_equal(f, prior) for f in found[4:])
    assert all(decibels(found[:4], b).max() < 30 for b in batches[1:])


def test_all_but_the_victim_have_a_gradient_of_exactly_zero_in_the_layer_and_still_train():
    model, server = network(SmallCNN), InconsistentServer()
    sent = server.module(model, client=3, knowledge=known(model))
    update = message(sent, records(8, 1)).update
    assert not update["imprint.weight"].any()
    assert not update["imprint.bias"].any()
    honest = message(model, records(8, 1)).update
    kept = server.kept(update)
    assert all(np.allclose(kept[n], honest[n], atol=1e-6) for n in honest)


def test_the_victim_is_drawn_from_the_first_clients():
    model, server = network(MLP), InconsistentServer(victims=4, bins=16)
    seen = set()
    for seed in range(20):
        live = [
            c
            for c in range(6)
            if message(
                server.module(model, client=c, knowledge=known(model, seed=seed)), records(4, 1)
            )
            .update["imprint.bias"]
            .any()
        ]
        assert len(live) == 1
        seen.update(live)
    assert seen == {0, 1, 2, 3}


# --------------------------------------------------------------------------- arguments, padding


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (ImprintServer(bins=1), "bins 1"),
        (ImprintServer(sparse="no"), "sparse 'no'"),
        (ImprintServer(gain=0), "gain 0"),
        (ImprintServer(reach=-1.0), "reach -1.0"),
        (InconsistentServer(victims=0), "victims 0"),
        (InconsistentServer(bins=2.5), "bins 2.5"),
        (TrapServer(rows=0), "rows 0"),
        (TrapServer(active=1.5), "active 1.5"),
        (TrapServer(scale=-0.9), "scale -0.9"),
        (TrapServer(front=1), "front 1"),
        (FishingServer(target=-1), "target -1"),
        (FishingServer(share=0), "share 0"),
        (FishingServer(offset="much"), "offset 'much'"),
        (RobbingTheFed(denoised=2), "denoised 2"),
        (SPEAR(samples=0), "samples 0"),
        (Fishing(inner=RobbingTheFed(denoised=2)), "denoised 2"),
    ],
)
def test_wrong_arguments_are_faults(component, said):
    invalid_parameters = component.invalid_parameters()
    assert len(invalid_parameters) == 1
    assert invalid_parameters[0].startswith(said)


@pytest.mark.parametrize(
    "component",
    [
        ImprintServer(),
        InconsistentServer(),
        TrapServer(),
        TrapServer(scale=0.95),
        FishingServer(),
        FishingServer(share=None, target=1),
        RobbingTheFed(),
        Fishing(inner=LinearLayer()),
    ],
)
def test_right_ones_are_not(component):
    assert component.invalid_parameters() == []


def test_tables_are_refused():
    table = ProblemSpec(100, 100, 1, (30,), 2)
    for attack in (LinearLayer(), SPEAR(), RobbingTheFed(), Fishing(inner=TrapWeights())):
        assert "images (C, H, W): in_shape (30,)" in attack.incompatibilities(table, {})[0]
        assert attack.incompatibilities(ProblemSpec(100, 100, 1, SHAPE, 2), {}) == []
    several = ProblemSpec(100, 100, 1, SHAPE, 2, "multilabel")
    assert Fishing(inner=LinearLayer()).incompatibilities(several, {})


@pytest.mark.parametrize("server", [ImprintServer(), TrapServer(), FishingServer()])
def test_servers_say_that_they_need_auxiliary_records(server):
    model = network(MLP)
    with pytest.raises(NotApplicable, match="needs auxiliary records"):
        server.module(model, client=0, knowledge=known(model, auxiliary=None))


def test_what_is_not_recovered_or_not_finite_is_the_prior_guess():
    prior = np.full(SHAPE, 0.25, dtype=np.float32)
    found = np.stack(
        [np.full(256, 2.0), np.full(256, np.nan), np.full(256, 0.5), np.full(256, 0.75)]
    )
    whole = completed(found, 4, prior)
    assert [float(image.max()) for image in whole] == [1.0, 0.5, 0.75, 0.25]
    assert np.array_equal(completed(np.zeros((0, 256)), 2, prior), np.stack([prior, prior]))
    assert len(completed(found, 1, prior)) == 1
    assert np.allclose(prior_guess(None, SHAPE), 0.5)
    assert np.allclose(prior_guess(AUXILIARY, SHAPE), pixels(AUXILIARY.x).mean(axis=0), atol=1e-6)

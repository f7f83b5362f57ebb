"""Records, networks and messages for attacks in closed form."""

import copy

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from medleak.api import (
    Knowledge,
    LocalTraining,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
    replace,
)
from medleak.attacks.gradient_inversion._transcript import pixels, prior_guess

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


def guessed(batch):
    prior = prior_guess(AUXILIARY, SHAPE)
    return decibels(np.repeat(prior[None], len(batch), axis=0), batch).mean()

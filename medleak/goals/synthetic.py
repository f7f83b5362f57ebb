"""What the examples of goals are made of: smooth images, small networks, messages of one gradient step.

Everything is a function of its seed, and nothing is trained. Torch is imported inside the functions.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import LocalTraining, Observation, Records, replace
from medleak.api.knowledge import Make
from medleak.core.keys import rng_for

SIDE = 12
LR = 0.1
"""Of the one step that a client takes."""
SURE = 5e-4
"""Chance that an answer that owes nothing to a release strays further, on one side."""
NULL_SIGMAS = 3.29
MOST_KEPT = 16
_kept: dict[Hashable, Mapping[str, np.ndarray]] = {}


def smooth_images(
    n: int, seed: int | Sequence[int], *, waves: int = 3, contrast: float = 0.09
) -> np.ndarray:
    """Random images, float32 ``(n, 1, SIDE, SIDE)`` in 0..1: cosines of up to `waves` half-waves on grey."""
    at = (np.arange(SIDE) + 0.5) / SIDE
    rows = np.cos(np.pi * np.arange(waves)[:, None] * at)
    basis = np.einsum("ai,bj->abij", rows, rows).reshape(waves**2, SIDE, SIDE)
    weight = np.random.default_rng(seed).normal(size=(n, waves**2))
    return np.clip(0.5 + contrast * np.tensordot(weight, basis, 1), 0, 1)[:, None].astype(
        np.float32
    )


def correlations(images: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Of each image with each of a gallery, about the gallery's mean image, ``(N, G)``."""
    rows, others = (
        np.asarray(a, np.float64).reshape(len(a), -1)
        - gallery.mean(axis=0, dtype=np.float64).ravel()
        for a in (images, gallery)
    )
    tiny = np.finfo(np.float64).tiny
    rows, others = (a / np.linalg.norm(a, axis=1, keepdims=True).clip(tiny) for a in (rows, others))
    return rows @ others.T


def dense(n_inputs: int, n_outputs: int, *, hidden: int, activation: str) -> Any:
    """A network with one hidden layer, which its inputs enter as they are; weights of spread .4."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Flatten(), nn.Linear(n_inputs, hidden), getattr(nn, activation)()]
        network = nn.Sequential(*layers, nn.Linear(hidden, n_outputs))
        for p in network.parameters():
            nn.init.normal_(p, std=0.4)
    return network.eval()


def convolutional(n_outputs: int) -> Any:
    """A small tanh network of images ``(1, SIDE, SIDE)``: smooth enough for second derivatives."""
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 8, 5, padding=2, stride=2), nn.Tanh(), nn.Flatten()]
        network = nn.Sequential(*layers, nn.Linear(8 * (SIDE // 2) ** 2, n_outputs))
    return network.eval()


def with_weights(network: Any) -> Callable[[Mapping[str, np.ndarray] | None], Any]:
    """What `Knowledge.network` is, of a network of this architecture."""

    def make(weights: Mapping[str, np.ndarray] | None) -> Any:
        import torch

        made = copy.deepcopy(network)
        if weights is not None:
            arrays = {name: torch.from_numpy(np.array(a)) for name, a in weights.items()}
            made.load_state_dict(arrays)
        return made.eval()

    return make


def arrays_of(network: Any) -> dict[str, np.ndarray]:
    """The parameters of a network by name."""
    return {name: p.detach().numpy().copy() for name, p in network.named_parameters()}


def message(networks: Sequence[Any], batches: Sequence[Records], *, index: int = 0) -> Observation:
    """The sum of what clients return for one step each, as the server sees it.

    Args:
        networks: what each client was sent.
        batches: the records of each client, of one size.
        index: of the first client.
    """
    import torch
    from torch.nn import functional

    updates = []
    for network, batch in zip(networks, batches, strict=True):
        x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
        loss = functional.cross_entropy(network(x), y)
        found = torch.autograd.grad(loss, list(network.parameters()))
        names = [name for name, _ in network.named_parameters()]
        updates.append({name: g.numpy() for name, g in zip(names, found, strict=True)})
    mean = {name: np.mean([u[name] for u in updates], axis=0) for name in updates[0]}
    clients = tuple(range(index, index + len(batches)))
    local = LocalTraining(1, len(batches[0]), LR)
    return Observation(0, clients, sum(map(len, batches)), arrays_of(networks[0]), mean, local)


def noised(seen: Observation, rng: np.random.Generator) -> Observation:
    """The message with noise of the same norm in place of each array of its update."""

    def noise(array: np.ndarray) -> np.ndarray:
        drawn = rng.standard_normal(array.shape)
        return (drawn * np.linalg.norm(array) / np.linalg.norm(drawn)).astype(array.dtype)

    return replace(seen, update={name: noise(array) for name, array in seen.update.items()})


def keep(owner: tuple, name: Any, make: Make) -> Mapping[str, np.ndarray]:
    """What `Knowledge.keep` is: computed once in a process for the examples of one `owner`.

    An attack is run several times on an example; a generator that it trains is not.
    """
    key = owner, json.dumps(name, sort_keys=True)
    if key not in _kept:
        while len(_kept) >= MOST_KEPT:
            del _kept[next(iter(_kept))]
        _kept[key] = make(rng_for("example", *map(str, owner), key[1]))
    return {part: array.copy() for part, array in _kept[key].items()}


def binomial_slack(n: int, chance: float) -> float:
    """How far a share of n guesses may lie above `chance`, but for a probability of `SURE`."""
    from scipy.stats import binom

    return float(binom.isf(SURE, n, chance) / n - chance)


def auc_slack(first: int, second: int) -> float:
    """The same of an AUC without ties, by the exact deviation of the rank statistic."""
    return float(NULL_SIGMAS * np.sqrt((first + second + 1) / (12 * first * second)))

"""Exact inversion of a fully connected first layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Knowledge, NotApplicable, Observation, Release, ThreatModel
from medleak.attacks.gradient_inversion._transcript import TranscriptAttack, readable_rows

TINY = 1e-6
"""Smallest bias gradient that is divided by, relative to the largest."""
SAME = 1e-2
"""Root mean square difference below which two candidates are one image."""


@dataclass(frozen=True)
class FirstLayer:
    """Where a network reads its input: the name of a linear layer, which sees ``scale * x + shift``."""

    name: str
    scale: np.ndarray
    shift: np.ndarray


def first_layer(network: Any, in_shape: tuple[int, ...]) -> FirstLayer | None:
    """The first linear layer with a bias that sees every pixel by itself, scaled and shifted; else None.

    Found by what reaches each linear layer for a black, a white and a random image.
    """
    import torch
    from torch import nn

    named = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear)}
    seen: dict[str, Any] = {}

    def observed_by(name: str, layer: Any) -> Any:
        return layer.register_forward_hook(lambda m, i, o: seen.update({name: i[0].detach()}))

    hooks = [observed_by(name, m) for name, m in named.items() if m.bias is not None]
    random = torch.rand(in_shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            network(torch.stack([torch.zeros(in_shape), torch.ones(in_shape), random]))
    finally:
        for hook in hooks:
            hook.remove()
    for name, values in seen.items():
        if values.shape != (3, random.numel()):
            continue
        shift, scale = values[0], values[1] - values[0]
        read = torch.allclose(values[2], shift + scale * random.flatten(), atol=1e-4)
        if read and bool((scale.abs() > TINY).all()):
            return FirstLayer(name, scale.double().numpy(), shift.double().numpy())
    return None


def candidates(weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Distinct quotients of weight and bias gradient, the surest first, ``(M, D)``.

    A quotient is one record where a single record activated the row, else a mixture. First come those
    with the least outside of 0..1, in steps of a hundredth; then those that most rows agree on, because
    mixtures rarely repeat; then those with the largest steps between neighbours, which mixtures blur.

    Args:
        weight: gradient ``(R, D)``, as of inputs in 0..1.
        bias: gradient ``(R,)``.
    """
    size = np.abs(bias)
    used = np.flatnonzero(size > TINY * size.max(initial=0.0))
    used = used[np.argsort(-size[used], kind="stable")]
    groups = _agreeing(weight[used] / bias[used, None])
    rows = [used[g] for g in groups]
    images = np.array([bias[g] @ weight[g] / (bias[g] @ bias[g]) for g in rows])
    if not len(images):
        return np.zeros((0, weight.shape[1]))
    outside = np.round(np.abs(images - np.clip(images, 0, 1)).mean(axis=1), 2)
    votes = np.array([len(g) for g in rows])
    steps = np.abs(np.diff(images, axis=1)).mean(axis=1)
    return images[np.lexsort((-steps, -votes, outside))]


def _agreeing(images: np.ndarray) -> list[np.ndarray]:
    """Positions of rows that are the same image within `SAME`, by the first of each."""
    left, groups = np.arange(len(images)), []
    while len(left):
        apart = np.sqrt(((images[left] - images[left[0]]) ** 2).mean(axis=1))
        groups.append(left[apart < SAME])
        left = left[apart >= SAME]
    return groups


class LinearLayer(TranscriptAttack):
    r"""Quotient of the gradients of weight and bias in a first layer that is fully connected.

    .. math:: x = \frac{\partial L / \partial W_i}{\partial L / \partial b_i}

    for any row i that a single record activates. For a batch of one record, every row gives it, and the
    rows are combined by least squares. Of a batch the distinct quotients are returned, see `candidates`. A fixed
    scaling before the layer is undone.

    Raises:
        NotApplicable: no linear layer reads the input, or all its rows are encrypted.
    """

    version = 1
    first_layer = "linear"
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("architecture", "auxiliary"),
        adversary="server",
    )
    paper = "Phong et al. 2018, Privacy-Preserving Deep Learning via Additively Homomorphic Encryption, IEEE TIFS"

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        super().fit(release, knowledge)
        self._first = first_layer(knowledge.network(None), knowledge.problem.in_shape)

    def rebuild(self, observation: Observation, n: int, labels: np.ndarray | None) -> np.ndarray:
        weight, bias = self._gradients(observation)
        if n > 1:
            return candidates(weight, bias)
        return (bias @ weight / (bias @ bias))[None] if bias.any() else weight[:0]

    def _gradients(self, observation: Observation) -> tuple[np.ndarray, np.ndarray]:
        """Gradients of the first layer as if it read raw pixels, float64 ``(R, D)`` and ``(R,)``."""
        first, update = self._first, observation.update
        if first is None or f"{first.name}.bias" not in update:
            who = type(self).__name__
            raise NotApplicable(f"{who}: no fully connected layer reads the input")
        visible = readable_rows(observation, first.name)
        bias = np.asarray(update[f"{first.name}.bias"], np.float64)[visible]
        weight = np.asarray(update[f"{first.name}.weight"], np.float64)[visible]
        return (weight - np.outer(bias, first.shift)) / first.scale, bias

"""What `medleak.defenses.train.bido` computes: kernels, dependence, and the hidden layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from medleak.api import ConfigError
from medleak.defenses.train._layers import mixing

SIGMA = 5.0
EPSILON = 1e-5


def gaussian(a: Tensor) -> Tensor:
    """``exp(-|a_i - a_j|^2 / (2 sigma^2 d)) - 1`` of records ``(m, ...)`` of d values, ``(m, m)``.

    Centring takes the one away. At a sigma of 5 it is nearly all there is, and single precision
    would lose the rest beside it.
    """
    a = a.flatten(1).float()
    a = a - a.mean(0)  # smaller squares, so that less cancels
    squares = a.square().sum(1)
    distances = squares[:, None] + squares - 2 * a @ a.T
    return torch.expm1(-distances.clamp(min=0) / (2 * SIGMA**2 * a.shape[1]))


def regularised(kernel: Tensor) -> Tensor:
    """``R = K (K + 1e-5 m I)^-1`` of a kernel ``(m, m)`` after centring."""
    m = len(kernel)
    centred = kernel - kernel.mean(0) - kernel.mean(1, keepdim=True) + kernel.mean()
    ridge = EPSILON * m * torch.eye(m, device=kernel.device)
    return torch.linalg.solve(centred + ridge, centred)


def dependence(
    x: Tensor, labels: Tensor, hidden: Sequence[Tensor]
) -> tuple[Tensor | float, Tensor | float]:
    """Sums over `hidden` of ``HSIC(x, h)`` and of ``HSIC(labels, h)``; 0 for fewer than two records.

    Shapes: all ``(m, ...)``, labels ``(m, C)`` 0/1.
    """
    if len(x) < 2:
        return 0.0, 0.0
    with torch.autocast(x.device.type, enabled=False):
        of_x, of_y = regularised(gaussian(x)), regularised(labels @ labels.T)
        of_h = sum(regularised(gaussian(h)) for h in hidden)
        return (of_x * of_h.T).sum(), (of_y * of_h.T).sum()


def one_hot(y: Tensor, outputs: int) -> Tensor:
    """Labels as 0/1, ``(m, C)``: classes ``(m,)``, or labels ``(m, L)`` that are so already."""
    return (y if y.ndim == 2 else functional.one_hot(y, outputs)).float()


@contextmanager
def watching(model: nn.Module) -> Iterator[list[Tensor]]:
    """A list that grows, in training, by what enters each linear layer and convolution of `model`."""
    seen: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if layer.training:
            seen.append(inputs[0])

    hooks = [layer.register_forward_pre_hook(keep) for layer in mixing(model)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def hidden(seen: Sequence[Tensor], most: int) -> list[Tensor]:
    """At most `most` of `seen` less the first, which is the input: evenly spread, with the last.

    Raises:
        ConfigError: nothing is left.
    """
    inner = seen[1:]
    if not inner:
        raise ConfigError("BiDO: the network has no hidden layer between two linear ones")
    count = min(most, len(inner))
    return [inner[-1 - (i * len(inner)) // count] for i in range(count)]

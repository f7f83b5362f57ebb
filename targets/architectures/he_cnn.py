"""Networks of linear layers and squares, which is what homomorphic encryption evaluates exactly."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medleak.targets.architectures._blocks import Scale, flat_shape, image_shape, positive

KERNEL = 7
STRIDE = 3
SIDE = 28
SLOPE = 0.1
"""Factor of the squares."""


class Shrink(nn.Module):
    """Images ``(N, C, H, W)`` averaged down to at most 28 pixels a side; smaller ones as they are."""

    def forward(self, x: Tensor) -> Tensor:
        sides = tuple(min(SIDE, side) for side in x.shape[2:])
        return x if sides == tuple(x.shape[2:]) else functional.adaptive_avg_pool2d(x, sides)


class Square(nn.Module):
    """``0.1 x^2``: one multiplication of ciphertexts; the factor joins the weights that follow."""

    def forward(self, x: Tensor) -> Tensor:
        return SLOPE * x * x


class HECNN(nn.Module):
    """A 7x7 convolution of stride 3, a square, a linear layer, a square, and a linear layer.

    On 28 pixels these have `width` x 64, `hidden` and `n_outputs` outputs. Larger images are averaged
    down to 28 pixels first; the client of an encrypted model does so before encrypting. Five levels of
    multiplication, two of them between ciphertexts: a ring of 8192 is enough.

    Squares amplify what is large and have gradient zero at zero. So both biases begin at 1, where
    ``(1 + z)^2`` is about ``1 + 2 z``, and the squares are scaled by .1: SGD with momentum .9 is then
    stable at a learning rate of .05 (`HEMLP`: .01), where bare squares diverge.

    Args:
        in_shape: ``(C, H, W)``, 7 pixels or more.
        n_outputs: classes or labels.
        width: channels of the convolution.
        hidden: units of the first linear layer.

    Shapes: ``(N, C, H, W)`` in 0..1 -> ``(N, n_outputs)``.

    Raises:
        ConfigError: unsuitable `in_shape`, or a size that is not a positive integer.

    Paper: after Gilad-Bachrach et al., CryptoNets: Applying Neural Networks to Encrypted Data with
    High Throughput and Accuracy, ICML 2016.
    """

    version = 1
    first_layer = "convolutional"

    def __init__(
        self, *, in_shape: Sequence[int], n_outputs: int, width: int = 4, hidden: int = 64
    ):
        super().__init__()
        channels, *sides = image_shape("HECNN", in_shape, smallest=KERNEL)
        positive("HECNN", n_outputs=n_outputs, width=width, hidden=hidden)
        rows, columns = ((min(side, SIDE) - KERNEL) // STRIDE + 1 for side in sides)
        self.first = nn.Sequential(Scale(), Shrink())
        self.conv = nn.Conv2d(channels, width, KERNEL, stride=STRIDE)
        self.square = Square()
        self.hidden = nn.Linear(width * rows * columns, hidden)
        self.out = nn.Linear(hidden, n_outputs)
        _begin_at_one(self.conv, self.hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = self.square(self.conv(self.first(x))).flatten(1)
        return self.out(self.square(self.hidden(x)))


class HEMLP(nn.Module):
    """A linear layer, a square and a linear layer, on a table or on pixels as `HECNN` takes them.

    Three levels of multiplication; otherwise see `HECNN`.

    Args:
        in_shape: ``(F,)`` or ``(C, H, W)``.
        n_outputs: classes or labels.
        hidden: units of the hidden layer.

    Shapes: ``(N, *in_shape)`` -> ``(N, n_outputs)``.

    Raises:
        ConfigError: unsuitable `in_shape`, or a size that is not a positive integer.
    """

    version = 1
    first_layer = "linear"

    def __init__(self, *, in_shape: Sequence[int], n_outputs: int, hidden: int = 64):
        super().__init__()
        shape = flat_shape("HEMLP", in_shape)
        positive("HEMLP", n_outputs=n_outputs, hidden=hidden)
        features = shape[0]
        for side in shape[1:]:
            features *= min(side, SIDE)
        image = len(shape) == 3
        self.first = nn.Sequential(*([Scale(), Shrink()] if image else []), nn.Flatten())
        self.hidden = nn.Linear(features, hidden)
        self.square = Square()
        self.out = nn.Linear(hidden, n_outputs)
        _begin_at_one(self.hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.square(self.hidden(self.first(x))))


def _begin_at_one(*layers: nn.Conv2d | nn.Linear) -> None:
    with torch.no_grad():
        for layer in layers:
            layer.bias.fill_(1.0)

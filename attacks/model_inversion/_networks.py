"""Small networks that draw images and judge them: for generative priors, and for students of a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

SMALL, LARGE = 8, 32
"""Sides of the coarsest grid, at most, and of the finest on which there are convolutions."""
WIDEST = 4
"""Most channels of a grid, as a multiple of the width."""
LEAK = 0.2


class Generator(nn.Module):
    """Points to images: a linear layer, then transposed 4x4 convolutions that double the sides.

    After Radford et al. 2016, Unsupervised Representation Learning with Deep Convolutional Generative
    Adversarial Networks, ICLR, with groups normalised in place of batches: an image then depends on its
    own point only. Scale and shift after a normalisation belong to the class, where there are classes
    (de Vries et al. 2017, Modulating early visual processing by language, NeurIPS). Images beyond
    32 pixels are drawn in blocks of neighbouring pixels.

    Args:
        dim: numbers in a point.
        in_shape: of an image, ``(C, H, W)``.
        width: channels of the finest grid, a multiple of 8.
        n_classes: 0 for a generator that knows no classes.

    Shapes: ``(n, dim)``, classes ``(n,)`` int64 or None -> ``(n, C, H, W)`` in 0..1.
    """

    def __init__(self, dim: int, in_shape: Sequence[int], width: int, n_classes: int = 0):
        super().__init__()
        self.n_classes = n_classes
        channels, *self.sides = in_shape
        levels, fold = grids(in_shape)
        self.grid = tuple(-(-side // (fold * 2**levels)) for side in self.sides)
        c = [width * min(WIDEST, 2**i) for i in reversed(range(levels))]
        self.project = nn.Linear(dim, c[0] * self.grid[0] * self.grid[1])
        self.norms = nn.ModuleList(Styled(size, max(1, n_classes)) for size in c)
        outputs = [*c[1:], channels * fold**2]
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in zip(c, outputs, strict=True)
        )
        self.unfold = nn.PixelShuffle(fold)

    def forward(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        classes = torch.zeros(len(z), dtype=torch.int64) if classes is None else classes
        x = self.project(z).view(len(z), -1, *self.grid)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = layer(torch.relu(norm(x, classes)))
        return torch.sigmoid(self.unfold(x))[..., : self.sides[0], : self.sides[1]]


class Styled(nn.Module):
    """Normalised groups of 8 channels, with scale and shift of the class."""

    def __init__(self, channels: int, n_classes: int):
        super().__init__()
        self.norm = nn.GroupNorm(max(1, channels // 8), channels, affine=False)
        self.style = nn.Embedding(n_classes, 2 * channels)
        with torch.no_grad():
            self.style.weight[:, :channels] = 1
            self.style.weight[:, channels:] = 0

    def forward(self, x: Tensor, classes: Tensor) -> Tensor:
        scale, shift = self.style(classes)[:, :, None, None].chunk(2, dim=1)
        return scale * self.norm(x) + shift


class Encoder(nn.Module):
    """Images to numbers: strided convolutions without normalisation, then a linear layer.

    A critic with one output, or a classifier. Of classes that are given, the first output also says
    how well they go with the image: a product of its features and of a vector of the class.

    Miyato and Koyama 2018, cGANs with Projection Discriminator, ICLR.

    Args:
        in_shape: of an image, ``(C, H, W)``.
        width: channels of the finest grid.
        n_outputs: K.
        n_classes: of the given classes; 0: none are given.

    Shapes: ``(n, C, H, W)`` in 0..1, classes ``(n,)`` int64 or None -> ``(n, K)``.
    """

    def __init__(self, in_shape: Sequence[int], width: int, n_outputs: int = 1, n_classes: int = 0):
        super().__init__()
        channels, *sides = in_shape
        levels, self.fold = grids(in_shape)
        sizes = [channels * self.fold**2, *(width * min(WIDEST, 2**i) for i in range(levels + 1))]
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(sizes)):
            layers += [nn.Conv2d(a, b, 4 if i < levels else 3, 2, 1), nn.LeakyReLU(LEAK)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            n = self.features(torch.zeros(1, channels, *sides)).shape[1]
        self.output = nn.Linear(n, n_outputs)
        self.direction = nn.Embedding(n_classes, n) if n_classes else None

    def features(self, x: Tensor) -> Tensor:
        """What enters the last layer, ``(n, C, H, W)`` -> ``(n, D)``."""
        x = (x - 0.5) / 0.25
        lacking = [-side % self.fold for side in x.shape[2:]]
        if any(lacking):
            x = nn.functional.pad(x, (0, lacking[1], 0, lacking[0]), mode="replicate")
        return self.layers(nn.functional.pixel_unshuffle(x, self.fold))

    def forward(self, x: Tensor, classes: Tensor | None = None) -> Tensor:
        found = self.features(x)
        told = self.output(found)
        if classes is None or self.direction is None:
            return told
        return told + (self.direction(classes) * found).sum(dim=1, keepdim=True)


def grids(in_shape: Sequence[int]) -> tuple[int, int]:
    """How often sides are halved, at least once, and the side of the blocks that pixels come in."""
    fold = -(-max(in_shape[1:]) // LARGE)
    side, levels = -(-max(in_shape[1:]) // (2 * fold)), 1
    while side > SMALL:
        side, levels = -(-side // 2), levels + 1
    return levels, fold


def packed(**modules: nn.Module) -> dict[str, np.ndarray]:
    """The weights of several networks, "network.weight" -> array."""
    return {
        f"{name}.{key}": value.detach().numpy().copy()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }


def unpacked(
    build: Callable[[], nn.Module], name: str, arrays: Mapping[str, np.ndarray]
) -> nn.Module:
    """What `build` makes, with the weights that `packed` called `name`; frozen, in evaluation mode."""
    start = f"{name}."
    weights = {
        key.removeprefix(start): torch.from_numpy(np.array(value))
        for key, value in arrays.items()
        if key.startswith(start)
    }
    with torch.random.fork_rng(devices=[]):  # first weights are drawn, and thrown away
        module = build()
    module.load_state_dict(weights)
    return module.requires_grad_(False).eval()

"""Random views of a batch of images ``(N, C, H, W)`` in 0..1, each driven by one generator."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

MOST_DEGREES = 10.0
MOST_SHIFT = 1 / 14
NOISE = 0.02
MOST_GAMMA = 0.25
MOST_BIAS = 0.2


def _rand(n: int, x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, device=x.device)


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror left and right with probability 1/2."""
    chosen = _rand(len(x), x, generator) < 0.5
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)


def shift(x: Tensor, generator: torch.Generator) -> Tensor:
    """Move by up to 1/14 of the side each way; edges are repeated."""
    n, _, height, width = x.shape

    def moved(side: int) -> Tensor:
        most = max(1, round(side * MOST_SHIFT))
        by = torch.randint(-most, most + 1, (n, 1), generator=generator, device=x.device)
        return (torch.arange(side, device=x.device) + by).clamp_(0, side - 1)

    rows, columns = moved(height), moved(width)
    which = torch.arange(n, device=x.device)[:, None, None]
    return x.movedim(1, -1)[which, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def rotate(x: Tensor, generator: torch.Generator) -> Tensor:
    """Turn about the centre by up to 10 degrees; edges are repeated."""
    angle = (2 * _rand(len(x), x, generator) - 1) * (MOST_DEGREES * torch.pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack([cos, -sin, zero, sin, cos, zero], 1).view(-1, 2, 3)
    grid = functional.affine_grid(turn, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, padding_mode="border", align_corners=False)


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation 0.02."""
    return x + NOISE * torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


def contrast(x: Tensor, generator: torch.Generator) -> Tensor:
    r"""Another scanner's grey scale: :math:`x^\gamma`, with :math:`\log \gamma` up to .25 either way."""
    gamma = (MOST_GAMMA * (2 * _rand(len(x), x, generator) - 1)).exp()
    return x.clamp(0, 1) ** gamma[:, None, None, None]


def bias(x: Tensor, generator: torch.Generator) -> Tensor:
    r"""Another coil's shading: times a smooth field :math:`1 + .2 (a u + b v + (c u^2 + d v^2) / 2)`.

    u and v run from -1 to 1 across the image, a to d are drawn between -1 and 1.
    """
    n, _, height, width = x.shape
    draws = 2 * torch.rand(4, n, 1, 1, 1, generator=generator, device=x.device) - 1
    v = torch.linspace(-1, 1, height, device=x.device)[:, None]
    u = torch.linspace(-1, 1, width, device=x.device)
    along, across, wide, tall = draws
    return x * (1 + MOST_BIAS * (along * u + across * v + (wide * u**2 + tall * v**2) / 2))


AUGMENTATIONS = {
    "flip": flip,
    "shift": shift,
    "rotate": rotate,
    "noise": noise,
    "contrast": contrast,
    "bias": bias,
}

"""Views of an image: parts of it, enlarged to its size again. Never mirrored: sides matter in the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medleak.api import Component
from medleak.attacks._arguments import number

if TYPE_CHECKING:
    from torch import Tensor


class RandomCrops(Component):
    """Rectangles of random size, shape and place, bilinearly enlarged to the whole image.

    Args:
        least, most: area of a crop, as a share of the image's; drawn uniformly in between.
        stretch: largest ratio of a crop's sides to those of the image, either way; its logarithm is
            drawn uniformly.
    """

    version = 1

    def __init__(self, *, least: float = 0.5, most: float = 0.9, stretch: float = 1.2):
        self.least = least
        self.most = most
        self.stretch = stretch

    def invalid_parameters(self) -> list[str]:
        found = number("least", self.least, above=0, most=1)
        found += number("most", self.most, above=0, most=1)
        found += number("stretch", self.stretch, above=0)
        if not found and self.least > self.most:
            found.append(f"least {self.least:g} must not be above most {self.most:g}")
        if not found and self.stretch < 1:
            found.append(f"stretch {self.stretch:g} must be a number from 1 up")
        return found

    def __call__(self, images: Tensor, rng: np.random.Generator) -> Tensor:
        """A crop of each image, differentiable; ``(n, C, H, W)`` -> ``(n, C, H, W)``."""
        import torch
        from torch.nn import functional

        n = len(images)
        area = rng.uniform(self.least, self.most, n)
        ratio = np.exp(rng.uniform(-1, 1, n) * np.log(self.stretch))
        sides = np.minimum(1, np.sqrt(np.stack([area * ratio, area / ratio], axis=1)))
        middle = rng.uniform(-1, 1, (n, 2)) * (1 - sides)
        frame = np.zeros((n, 2, 3), np.float32)
        frame[:, [0, 1], [0, 1]], frame[:, :, 2] = sides, middle
        grid = functional.affine_grid(torch.from_numpy(frame), images.shape, align_corners=False)
        return functional.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )

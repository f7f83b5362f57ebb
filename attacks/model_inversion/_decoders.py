"""Search spaces of images: points, and the image that each point stands for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from medleak.attacks.gradient_inversion._priors import PrincipalComponents, total_variation


class Decoder(ABC):
    """A space of points z, each of which stands for an image.

    Attributes:
        dim: numbers in a point.
        conditional: whether `decode` needs the class of each image.
    """

    dim: int
    conditional: ClassVar[bool] = False

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Tensor:
        """Points drawn as the prior has them, float32 ``(n, dim)``; the target is not queried."""

    @abstractmethod
    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """Images in 0..1, differentiable; ``(n, dim)``, classes ``(n,)`` int64 -> ``(n, C, H, W)``."""

    def clip(self, z: Tensor) -> Tensor:
        """The nearest allowed points, ``(n, dim)`` -> ``(n, dim)``."""
        return z

    def penalty(self, z: Tensor, images: Tensor) -> Tensor:
        """How unlikely points and their images are, differentiable.

        Shapes: ``(n, dim)``, ``(n, C, H, W)`` -> ``(n,)``.
        """
        return torch.zeros(len(z))


class PixelDecoder(Decoder):
    """Points are the images themselves, and the penalty is their total variation.

    Args:
        starts: images that sampling begins at, each as likely, ``(S, C, H, W)`` in 0..1.
        noise: standard deviation of what is added to all samples but the first.
    """

    def __init__(self, starts: np.ndarray, noise: float):
        self.shape, self.noise = starts.shape[1:], noise
        self.starts = torch.from_numpy(starts.reshape(len(starts), -1).astype(np.float32))
        self.dim = self.starts.shape[1]

    def sample(self, n: int, rng: np.random.Generator) -> Tensor:
        chosen = torch.from_numpy(rng.integers(len(self.starts), size=n))
        noise = torch.from_numpy(rng.standard_normal((n, self.dim), dtype=np.float32))
        noise[:1] = 0
        return self.clip(self.starts[chosen] + self.noise * noise)

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        return z.unflatten(1, self.shape)

    def clip(self, z: Tensor) -> Tensor:
        return z.clamp(0, 1)

    def penalty(self, z: Tensor, images: Tensor) -> Tensor:
        return total_variation(images[:, None])


class ComponentDecoder(Decoder):
    r"""Points are standard scores along the principal directions of images.

    .. math:: x(z) = \mathrm{clip}_{[0, 1]}(\mu + V (s \odot z)), \qquad z \sim N(0, I)

    with :math:`s_k` the standard deviation along direction k. The penalty is the mean of
    :math:`z_k^2`.

    Args:
        images: ``(M, C, H, W)`` in 0..1.
        components: most directions; at most a third of the images are taken.
        reach: largest standard score.
    """

    def __init__(self, images: np.ndarray, components: int, reach: float):
        found = PrincipalComponents(images, components)
        self.shape, self.reach = images.shape[1:], reach
        self.mean = found.mean
        self.rows = found.variance.sqrt()[:, None] * found.directions
        self.dim = len(self.rows)

    def sample(self, n: int, rng: np.random.Generator) -> Tensor:
        return self.clip(torch.from_numpy(rng.standard_normal((n, self.dim), dtype=np.float32)))

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        return (self.mean + z @ self.rows).clamp(0, 1).unflatten(1, self.shape)

    def clip(self, z: Tensor) -> Tensor:
        return z.clamp(-self.reach, self.reach)

    def penalty(self, z: Tensor, images: Tensor) -> Tensor:
        return z.square().mean(dim=1)


class GeneratorDecoder(Decoder):
    r"""Points of a generator, :math:`z \sim N(0, I)` cut at `reach`.

    Args:
        generator: a `Generator`, of one that knows classes see `ClassedDecoder`.
        reach: largest size of a number in a point.
        unlikely: images ``(n, C, H, W)`` to a penalty each ``(n,)`` (None: no penalty).
    """

    def __init__(
        self,
        generator: nn.Module,
        reach: float,
        unlikely: Callable[[Tensor], Tensor] | None = None,
    ):
        self.generator, self.reach, self.unlikely = generator, reach, unlikely
        self.dim = generator.project.in_features

    def sample(self, n: int, rng: np.random.Generator) -> Tensor:
        return self.clip(torch.from_numpy(rng.standard_normal((n, self.dim), dtype=np.float32)))

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.generator(z)

    def clip(self, z: Tensor) -> Tensor:
        return z.clamp(-self.reach, self.reach)

    def penalty(self, z: Tensor, images: Tensor) -> Tensor:
        return super().penalty(z, images) if self.unlikely is None else self.unlikely(images)


class ClassedDecoder(GeneratorDecoder):
    """Points of a generator that knows classes: a point stands for an image of each class."""

    conditional = True

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        return self.generator(z, classes)

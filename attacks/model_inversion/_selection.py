"""Selection of the points that an attack starts from, and of those that it returns.

Selection uses the model under attack, never the evaluator of the scoring.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from medleak.api import Component
from medleak.attacks._arguments import whole
from medleak.attacks.model_inversion._crops import RandomCrops

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.model_inversion._oracle import AttackState


class Selection(Component, ABC):
    """Base of what an inversion attack's YAML names as `first` and `last`."""

    @abstractmethod
    def starts(self, state: AttackState, classes: Tensor, n: int) -> Tensor:
        """Points of the prior for each class, ``(K,)`` int64 -> ``(K, n, dim)``."""

    @abstractmethod
    def finals(self, state: AttackState, z: Tensor, classes: Tensor, n: int) -> Tensor:
        """Those to answer with, ``(K, S, dim)``, ``(K,)`` -> ``(K, n, dim)``, best first."""


class AsDrawn(Selection):
    """No selection: points in the order in which they came."""

    version = 1

    def starts(self, state: AttackState, classes: Tensor, n: int) -> Tensor:
        import torch

        return torch.stack([state.decoder.sample(n, state.rng) for _ in classes])

    def finals(self, state: AttackState, z: Tensor, classes: Tensor, n: int) -> Tensor:
        return z[:, :n]


class Confident(Selection):
    r"""The points whose class the target sees in many views of the image.

    .. math:: s(z) = \frac1V \sum_v p_t(T_v(x(z)))

    over random crops T. An image that is right by a few pixels only does not survive them. Labels
    count as probabilities of 0 and 1.

    Args:
        pool: points drawn for the starts, the same for all classes; more where more are needed.
        views: crops of each image; 0 is the image as it is.
        crops: what a view shows.

    Struppek et al. 2022, Plug & Play Attacks: Towards Robust and Flexible Model Inversion Attacks,
    ICML.
    """

    version = 1

    def __init__(self, *, pool: int = 500, views: int = 10, crops: RandomCrops | None = None):
        self.pool = pool
        self.views = views
        self.crops = crops

    def invalid_parameters(self) -> list[str]:
        found = whole("pool", self.pool) + whole("views", self.views, least=0)
        return found + faults_of([("crops", self.crops or RandomCrops(), RandomCrops)])

    def starts(self, state: AttackState, classes: Tensor, n: int) -> Tensor:
        z = state.decoder.sample(max(n, self.pool), state.rng)
        return z[self._seen(state, z, classes).argsort(dim=1, descending=True, stable=True)[:, :n]]

    def finals(self, state: AttackState, z: Tensor, classes: Tensor, n: int) -> Tensor:
        import torch

        owner = classes.repeat_interleave(z.shape[1])
        seen = self.confidence(state, state.decoder.decode(z.flatten(0, 1), owner))
        own = seen.gather(1, owner[:, None]).view(z.shape[:2])
        order = own.argsort(dim=1, descending=True, stable=True)[:, :n]
        return torch.take_along_dim(z, order[:, :, None], dim=1)

    def confidence(self, state: AttackState, images: Tensor) -> Tensor:
        """Mean probabilities over the views, ``(n, C, H, W)`` -> ``(n, outputs)``."""
        if not self.views:
            return state.oracle.probabilities(images)
        crops = self.crops or RandomCrops()
        return sum(
            state.oracle.probabilities(crops(images, state.rng)) for _ in range(self.views)
        ).div(self.views)

    def _seen(self, state: AttackState, z: Tensor, classes: Tensor) -> Tensor:
        """How each class is seen in each point of a pool, ``(P, dim)``, ``(K,)`` -> ``(K, P)``."""
        import torch

        if not state.decoder.conditional:
            return self.confidence(state, state.decoder.decode(z))[:, classes].T
        images = (state.decoder.decode(z, k.expand(len(z))) for k in classes)
        return torch.stack(
            [self.confidence(state, x)[:, k] for x, k in zip(images, classes, strict=True)]
        )


def faults_of(parts: list[tuple[str, object, type]]) -> list[str]:
    """What is wrong with components inside a component: (name, value, needed base) of each."""
    found = []
    for name, part, base in parts:
        if not isinstance(part, base):
            found.append(f"{name} {part!r} must be a {base.__name__} (a block with _target_)")
        else:
            found += [f"{name}: {fault}" for fault in part.invalid_parameters()]
    return found

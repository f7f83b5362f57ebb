"""The common structure of model inversion: a prior, a first selection, a search, a last selection."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import Attack, Component, InversionChallenge, Knowledge, ProblemSpec, Release
from medleak.attacks._arguments import number, one_class, whole
from medleak.attacks.model_inversion._crops import RandomCrops
from medleak.attacks.model_inversion._descent import Optimizer
from medleak.attacks.model_inversion._losses import LOSSES, Loss
from medleak.attacks.model_inversion._oracle import AttackState, Oracle
from medleak.attacks.model_inversion._priors import Prior
from medleak.attacks.model_inversion._selection import Selection, faults_of
from medleak.core.suggestions import unknown

if TYPE_CHECKING:
    from torch import Tensor


class ModelInversion(Attack):
    """Base of attacks that make a model show its classes.

    Each requested image of a class gets `starts` starting points: `first` takes them from the prior,
    `improve` moves them, and `last` selects the answer. The author
    writes `improve`; `fit`, `run` and `prior_samples` are here. Without the model the answer is the
    prior's own samples.
    """

    prior: Prior
    first: Selection
    last: Selection
    starts: int

    def invalid_parameters(self) -> list[str]:
        return faults_of(self.parts()) + whole("starts", self.starts)

    def parts(self) -> list[tuple[str, object, type[Component]]]:
        """Name, value and needed base of each component inside."""
        return [
            ("prior", self.prior, Prior),
            ("first", self.first, Selection),
            ("last", self.last, Selection),
        ]

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        who, found = type(self).__name__, []
        if len(problem.in_shape) != 3:
            found.append(f"{who} draws images (C, H, W): in_shape {problem.in_shape}")
        return found + one_class(who, problem)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        oracle = Oracle(release, knowledge, self.requires.access)
        self._knowledge = knowledge
        self._state = AttackState(self.prior.fit(knowledge, oracle), oracle, knowledge.rng)

    def run(self, release: Release, challenge: InversionChallenge) -> np.ndarray:
        """Images ``(K, M, C, H, W)``, float32 in 0..1."""
        import torch

        classes = torch.from_numpy(np.asarray(challenge.classes, dtype=np.int64))
        n = challenge.n_images * self.starts
        z = self.first.starts(self._state, classes, n)
        z = self.improve(z.flatten(0, 1), classes.repeat_interleave(n)).unflatten(0, (-1, n))
        z = self.last.finals(self._state, z, classes, challenge.n_images)
        return self._images(z, classes.repeat_interleave(z.shape[1]))

    @abstractmethod
    def improve(self, z: Tensor, classes: Tensor) -> Tensor:
        """Points that show their class better, ``(n, dim)``, ``(n,)`` int64 -> ``(n, dim)``."""

    def prior_samples(self, challenge: InversionChallenge) -> np.ndarray:
        import torch

        decoder, rng = self._state.decoder, self._state.rng
        k, m = len(challenge), challenge.n_images
        z = torch.stack([decoder.sample(m, rng) for _ in range(k)])
        # A conditional prior knows from the target what a class looks like: each image shows any class.
        shown = rng.integers(self._knowledge.problem.n_outputs, size=k * m)
        return self._images(z, torch.from_numpy(shown))

    def _images(self, z: Tensor, owner: Tensor) -> np.ndarray:
        """Of points ``(K, M, dim)``, the image of each in turn showing its `owner`, ``(K M,)``."""
        import torch

        with torch.no_grad():
            images = self._state.decoder.decode(z.flatten(0, 1), owner)
        return images.unflatten(0, z.shape[:2]).numpy()


class GuidedInversion(ModelInversion):
    r"""Base of white-box attacks that descend on a loss of the class.

    .. math:: \min_z \ell(f(T(x(z))), t) + \lambda R(z)

    with R the penalty of the prior and T a random crop, new in each iteration, if there is one.
    """

    loss: str
    descent: Optimizer
    prior_weight: float
    crops: RandomCrops | None

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters() + number("prior_weight", self.prior_weight)
        return found + ([] if self.loss in LOSSES else [unknown("loss", self.loss, LOSSES)])

    def parts(self) -> list[tuple[str, object, type[Component]]]:
        crops = [] if self.crops is None else [("crops", self.crops, RandomCrops)]
        return [*super().parts(), ("descent", self.descent, Optimizer), *crops]

    def improve(self, z: Tensor, classes: Tensor) -> Tensor:
        return self.descent(
            self.objective,
            z,
            classes,
            clip=self._state.decoder.clip,
            progress=self._knowledge.progress,
        )

    def objective(self, z: Tensor, classes: Tensor) -> Tensor:
        """The loss to minimise, ``(n, dim)``, ``(n,)`` -> ``(n,)``."""
        decoder, loss = self._state.decoder, self.image_loss()
        images = decoder.decode(z, classes)
        seen = images if self.crops is None else self.crops(images, self._state.rng)
        value = loss(seen, classes)
        if not self.prior_weight:
            return value
        return value + self.prior_weight * decoder.penalty(z, images)

    def image_loss(self) -> Loss:
        """Images and classes to a loss each, ``(n, C, H, W)``, ``(n,)`` -> ``(n,)``."""
        network, loss = self._state.oracle.network, LOSSES[self.loss]
        return lambda images, classes: loss(network(images), classes)

"""The two exchangeable rules inside a recipe: which records make a batch, and what its gradient is.

A `train` defense replaces either of them; a federated trainer runs the whole recipe once per client
and round, with whatever rules it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Backward = Callable[[Any, Any], Any]
"""``backward(x, y)``: leave the gradient in every ``.grad``, return the mean loss, detached.

One that has to know the epoch also has a method ``begins(epoch)``, called before each, from 1 on.
"""


class Sampler(Protocol):
    """Draws the batches of a training run."""

    def steps(self, n: int) -> int:
        """Number of optimiser steps over `n` records."""

    def epochs(self, patients: np.ndarray, seed: int) -> Iterator[list[np.ndarray]]:
        """Positions of each batch, epoch by epoch; `patients` is ``(N,)``."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain numbers and words for `Trained.facts`."""


class Gradient(Protocol):
    """Turns a batch into the gradient of one step."""

    def attached(self, model: Any, loss: Any, seed: int) -> AbstractContextManager[Backward]:
        """A backward function for `model`; `loss` maps (outputs, y) to losses ``(N,)``."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain numbers and words for `Trained.facts`."""


@dataclass(frozen=True)
class Shuffled:
    """Every record once an epoch, in a new order, in batches of nearly equal size.

    Equal sizes leave no last batch of one record, which normalisation layers cannot digest.
    """

    n_epochs: int
    batch_size: int

    def steps(self, n: int) -> int:
        return self.n_epochs * self._per_epoch(n)

    def epochs(self, patients: np.ndarray, seed: int) -> Iterator[list[np.ndarray]]:
        rng, n = np.random.default_rng(seed), len(patients)
        for _ in range(self.n_epochs):
            yield np.array_split(rng.permutation(n), self._per_epoch(n))

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"batch": self.batch_size}

    def _per_epoch(self, n: int) -> int:
        return -(-n // self.batch_size)


@dataclass(frozen=True)
class MeanGradient:
    """Gradient of the mean loss; zero for an empty batch."""

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        def backward(x: Any, y: Any) -> Any:
            model.zero_grad(set_to_none=True)
            losses = loss(model(x), y)
            # Dividing by at least one keeps an empty Poisson batch a step of no change.
            mean = losses.sum() / max(len(x), 1)
            mean.backward()
            return mean.detach()

        yield backward

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

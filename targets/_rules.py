"""The rules of a plain recipe; see `medleak.api.sampling`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Backward, GradientRule, Sampler, Step


@dataclass(frozen=True)
class Shuffled(Sampler):
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
class MeanGradient(GradientRule):
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

        yield Step(backward)

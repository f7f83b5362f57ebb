"""The two exchangeable rules inside a recipe: which records make a batch, and what its gradient is.

A defense of slot `train` replaces either of them; a federated trainer runs the recipe's step once per client
and round, with whatever gradient rule it carries.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import numpy as np


class Backward(ABC):
    """``backward(x, y)``: leave the gradient in every ``.grad``, return the mean loss, detached."""

    @abstractmethod
    def __call__(self, x: Any, y: Any) -> Any:
        """One batch of inputs ``(N, ...)`` and labels."""

    def begins(self, epoch: int) -> None:
        """Hear that `epoch` begins, counted from 1."""
        return


class Step(Backward):
    """A plain function as a `Backward`.

    Args:
        function: ``function(x, y)``, see `Backward`.
        inner: the backward function that it calls, which hears of epochs too.
    """

    def __init__(self, function: Callable[[Any, Any], Any], inner: Backward | None = None):
        self.function = function
        self.inner = inner

    def __call__(self, x: Any, y: Any) -> Any:
        return self.function(x, y)

    def begins(self, epoch: int) -> None:
        if self.inner is not None:
            self.inner.begins(epoch)


class Sampler(ABC):
    """Draws the batches of a training run.

    Class attributes:
        poisson: whether each unit joins each batch by an independent coin.
    """

    poisson: ClassVar[bool] = False

    @abstractmethod
    def steps(self, n: int) -> int:
        """Number of optimiser steps over `n` records."""

    @abstractmethod
    def epochs(self, patients: np.ndarray, seed: int) -> Iterator[list[np.ndarray]]:
        """Positions of each batch, epoch by epoch; `patients` is ``(N,)``."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain numbers and words for `Trained.facts`."""
        return {}


class GradientRule(ABC):
    """Turns a batch into the gradient of one step.

    Class attributes:
        clips: whether it clips the gradient of each record and adds noise; such a rule has numbers
            `clip` and `expected_batch`.
    """

    clips: ClassVar[bool] = False

    @abstractmethod
    def attached(self, model: Any, loss: Any, seed: int) -> AbstractContextManager[Backward]:
        """A backward function for `model`; `loss` maps (outputs, y) to losses ``(N,)``."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain numbers and words for `Trained.facts`."""
        return {}

    def innermost(self) -> GradientRule:
        """The rule inside of all wrappers; a rule that works around another one asks that one."""
        return self

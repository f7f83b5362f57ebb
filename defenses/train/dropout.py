"""Dropout before the last layer, whatever the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medleak.api import Backward, GradientRule
from medleak.defenses.train._layers import last_linear
from medleak.defenses.train._recipes import RuleFilling, number


class Dropout(RuleFilling):
    """Drops each input of the last linear layer with probability `rate`, in training only.

    ``h_j m_j / (1 - rate)`` with ``m_j ~ Bernoulli(1 - rate)``, drawn for each record and step by
    torch's generator, which the recipe seeds. A hook does it, so that no parameter changes its name,
    and leaves with the training. In a model that is one linear layer, features are dropped. A
    defense against membership inference in Salem et al., NDSS 2019; it promises nothing.

    Each record is masked for itself, so that it also serves inside DP-SGD, listed after it.

    Args:
        rate: probability of being dropped, from 0 to below 1; 0 is plain training.
    """

    slot = "train"
    version = 1
    paper = "Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, JMLR 2014"

    def __init__(self, *, rate: float = 0.5):
        self.rate = rate

    def invalid_parameters(self) -> list[str]:
        good = number(self.rate) and 0 <= self.rate < 1
        return [] if good else [f"rate {self.rate!r} must be a number from 0 to below 1"]

    def rule(self, inner: GradientRule) -> GradientRule:
        return Dropped(float(self.rate), inner)


@dataclass(frozen=True)
class Dropped(GradientRule):
    """`inner` on a model whose last linear layer sees thinned inputs."""

    rate: float
    inner: GradientRule

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        """As `inner`, with the hook.

        Raises:
            ConfigError: the model has no linear layer.
        """
        from torch.nn import functional

        def thin(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (functional.dropout(inputs[0], self.rate, layer.training), *inputs[1:])

        _, layer = last_linear(model, who="Dropout")
        hook = layer.register_forward_pre_hook(thin)
        try:
            with self.inner.attached(model, loss, seed) as backward:
                yield backward
        finally:
            hook.remove()

    @property
    def facts(self) -> Mapping[str, Any]:
        return {**self.inner.facts, "dropout": self.rate}

    def innermost(self) -> GradientRule:
        return self.inner.innermost()

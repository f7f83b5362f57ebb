"""The bottleneck of `medleak.defenses.train.vib`: everything in it that needs torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medleak.api import ConfigError
from medleak.defenses.train._layers import last_linear

OFFSET = -5.0
"""Of the log-variance: training begins with little noise."""


class Bottleneck(nn.Module):
    """Means, log-variances, a sample, and a linear decoder, in place of the linear layer `old`.

    Shapes: ``(N, old.in_features)`` -> ``(N, old.out_features)``; `divergence` is that of the last
    batch, ``(N,)``, in nats.
    """

    def __init__(self, old: nn.Linear, width: int):
        super().__init__()
        bias = old.bias is not None
        self.encode = nn.Linear(old.in_features, 2 * width, bias=bias)
        self.decode = nn.Linear(width, old.out_features, bias=bias)
        self.to(old.weight)
        self.divergence: Tensor | None = None

    def forward(self, h: Tensor) -> Tensor:
        mean, spread = self.encode(h).float().chunk(2, dim=-1)
        log_variance = spread + OFFSET
        self.divergence = divergence(mean, log_variance)
        if self.training:
            mean = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        return self.decode(mean)

    @torch.no_grad()
    def fold(self, old: nn.Linear) -> None:
        """Make `old` the map from representation to the mean's answer."""
        width = self.decode.in_features
        decode = self.decode.weight.double()
        old.weight.copy_(decode @ self.encode.weight[:width].double())
        if old.bias is not None:
            old.bias.copy_(decode @ self.encode.bias[:width].double() + self.decode.bias)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``KL(N(mean, diag(e^log_variance)) || N(0, I))`` of each row, in nats: ``(N, K)`` -> ``(N,)``."""
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2


def priced(
    loss: Callable[[Tensor, Tensor], Tensor], bottleneck: Bottleneck, beta: float
) -> Callable[[Tensor, Tensor], Tensor]:
    """``loss(z, y) + beta divergence``, ``(N,)``, for the batch that went through last."""
    return lambda z, y: loss(z, y) + beta * bottleneck.divergence


@contextmanager
def squeezed(model: nn.Module, width: int) -> Iterator[Bottleneck]:
    """`model` with a bottleneck for its last linear layer, which comes back with both folded into it.

    Raises:
        ConfigError: it has no linear layer, or is nothing else.
    """
    name, old = last_linear(model, who="VIB")
    if not name:
        raise ConfigError(
            f"VIB: {type(model).__name__} is one linear layer, with nothing to squeeze before it"
        )
    parent, _, own = name.rpartition(".")
    holder, bottleneck = model.get_submodule(parent), Bottleneck(old, width)
    for hook in old._forward_pre_hooks.values():  # dropout's, if it was listed after
        bottleneck.register_forward_pre_hook(hook)
    setattr(holder, own, bottleneck)
    try:
        yield bottleneck
    finally:
        bottleneck.fold(old)
        setattr(holder, own, old)

"""Gradients of many messages in the weights that all of them were sent, layer by layer.

The input of a layer and the gradient in its output give the gradient in its weights, message by
message. So the records of all messages pass through the network as one ordinary batch. Every
gradient can be differentiated once more in the records.

Imported only inside functions: torch is needed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from medleak.attacks.gradient_inversion._double_backward import (
    Columns,
    Convolved,
    Normalised,
    Pooled,
    Product,
    WeightGradient,
    Window,
    channels,
)

NARROW = 8
"""Channels below which a convolution is a product of columns: a vector register is not filled."""

WeightRule = Callable[[Tensor], tuple[Tensor, Tensor]]
"""The gradient of the loss in the output of a layer, to stacked gradients in its weight and bias."""


def readable(network: nn.Module) -> bool:
    """Whether all weights belong to layers that `gradients` knows."""
    owners = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
    return all(
        type(m) in (nn.Linear, nn.GroupNorm)
        or (type(m) is nn.Conv2d and m.groups == 1 and not isinstance(m.padding, str))
        for m in owners
    )


def gradients(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
) -> dict[str, Tensor]:
    """Gradients of a sum over messages, each message's by itself.

    Args:
        network: `readable`.
        weights: name -> ``(...)``.
        x: ``(S, B, C, H, W)``.
        loss: of logits ``(S, B, K)``, a sum over the S messages.

    Returns:
        name -> ``(S, ...)``.
    """
    names = {id(w): name for name, w in weights.items()}
    with torch.enable_grad(), _Watched(len(x), names) as layers:
        x = x if x.requires_grad else x.detach().requires_grad_()
        z = functional_call(network, dict(weights), (x.flatten(0, 1),))
        total = loss(z.unflatten(0, x.shape[:2]))
    outs, rules = zip(*layers.met, strict=True)
    found: dict[str, Tensor] = {}
    with torch.enable_grad():
        seen = torch.autograd.grad(total, outs, create_graph=True)
        for out_gradient, (weight_names, rule) in zip(seen, rules, strict=True):
            for name, g in zip(weight_names, rule(out_gradient), strict=False):
                found[name] = found[name] + g if name in found else g
    return {
        n: found[n] if n in found else w.expand(len(x), *w.shape) * 0 for n, w in weights.items()
    }


class _Watched(TorchFunctionMode):
    """Records the output of each layer with weights, and the rule from its gradient to that of the weights.

    Args:
        messages: S, into which the records are split.
        names: id of a weight -> its name.
    """

    def __init__(self, messages: int, names: Mapping[int, str]):
        super().__init__()
        self.messages, self.names = messages, names
        self.met: list[tuple[Tensor, tuple[list[str], WeightRule]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        ids = map(id, (*args, *kwargs.values()))
        weight_names = [self.names[i] for i in ids if i in self.names]  # weight, then bias
        if func not in LAYERS or not weight_names:
            return QUICKER.get(func, func)(*args, **kwargs)
        y, rule = LAYERS[func](self.messages, *args, **kwargs)
        self.met.append((y, (weight_names, rule)))
        return y


# --------------------------------------------------------------------------- layers


def _linear(s: int, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    def rule(g: Tensor) -> tuple[Tensor, Tensor]:
        g = g.unflatten(0, (s, -1)).flatten(1, -2)
        return g.mT @ x.unflatten(0, (s, -1)).flatten(1, -2), g.sum(dim=1)

    return functional.linear(x, weight, bias), rule


def _group_norm(
    s: int, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> Any:
    normal = Normalised.apply(x, groups, eps)
    wide = (-1,) + (1,) * (x.ndim - 2)

    def rule(g: Tensor) -> tuple[Tensor, Tensor]:
        each = (channels(t).sum(dim=2).unflatten(0, (s, -1)).sum(dim=1) for t in (g * normal, g))
        return tuple(each)

    return torch.addcmul(bias.view(wide), normal, weight.view(wide)), rule


def _conv2d(
    s: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Any:
    window = Window(tuple(weight.shape[2:]), stride, padding, dilation)
    if weight.shape[1] < NARROW:
        return _narrow(s, x, weight, bias, window)

    def rule(g: Tensor) -> tuple[Tensor, Tensor]:
        return WeightGradient.apply(x, g, s, window)

    return Convolved.apply(x, weight, bias, window), rule


def _narrow(s: int, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Any:
    """A convolution of few channels, as a product with columns ``(N, C * h * w + 1, L)``."""
    columns = Columns.apply(x, window)
    b = weight.new_zeros(len(weight)) if bias is None else bias
    y = Product.apply(columns, torch.cat([weight.flatten(1), b[:, None]], dim=1))

    def rule(g: Tensor) -> tuple[Tensor, Tensor]:
        each = columns @ g.flatten(2).mT
        both = each.unflatten(0, (s, -1)).sum(dim=1).mT
        return both[:, :, :-1].unflatten(2, weight.shape[1:]), both[:, :, -1]

    return y.unflatten(2, window.sides(x)), rule


LAYERS = {
    functional.linear: _linear,
    functional.group_norm: _group_norm,
    functional.conv2d: _conv2d,
}


def _max_pool2d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    window = (kernel_size, stride or kernel_size, padding, dilation)
    pairs = [[n, n] if isinstance(n, int) else n for n in window]
    found = Pooled.apply(x, (*pairs, ceil_mode))
    return found if return_indices else found[0]


QUICKER = {functional.max_pool2d: _max_pool2d}

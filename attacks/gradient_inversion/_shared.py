"""Gradients of many messages in the weights that all of them were sent, layer by layer.

What goes into a layer and the slope of what comes out of it tell the gradient in its weights, message
by message, so that the records of all messages go through the network as one ordinary batch. Every
gradient can be differentiated once more in the records.

Imported only inside functions: torch is needed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call
from torch.nn import functional
from torch.nn.grad import conv2d_weight
from torch.overrides import TorchFunctionMode

NARROW = 8
"""Channels below which a convolution is a product of columns: a vector register is not filled."""

Slope = Callable[[Tensor], tuple[Tensor, Tensor]]
"""The slope of what comes out of a layer, to stacked gradients in its weight and bias."""


def readable(network: nn.Module) -> bool:
    """Whether all weights belong to layers that `gradients` knows."""
    owners = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
    return all(
        type(m) in (nn.Linear, nn.GroupNorm)
        or (type(m) is nn.Conv2d and not isinstance(m.padding, str))
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
    outs, slopes = zip(*layers.met, strict=True)
    found: dict[str, Tensor] = {}
    with torch.enable_grad():
        seen = torch.autograd.grad(total, outs, create_graph=True)
        for slope, (owned, rule) in zip(seen, slopes, strict=True):
            for name, g in zip(owned, rule(slope), strict=False):
                found[name] = found[name] + g if name in found else g
    return {
        n: found[n] if n in found else w.expand(len(x), *w.shape) * 0 for n, w in weights.items()
    }


class _Watched(TorchFunctionMode):
    """Notes what comes out of each layer with weights, and how its slope becomes their gradient.

    Args:
        messages: S, into which the records are split.
        names: id of a weight -> its name.
    """

    def __init__(self, messages: int, names: Mapping[int, str]):
        super().__init__()
        self.messages, self.names = messages, names
        self.met: list[tuple[Tensor, tuple[list[str], Slope]]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in LAYERS:
            return self._layer(LAYERS[func], *args, **kwargs)
        return QUICKER.get(func, func)(*args, **kwargs)

    def _layer(self, layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y, (weight, bias), slope = layer(self.messages, x, *args, **kwargs)
        owned = [self.names[id(w)] for w in (weight, bias) if w is not None]
        self.met.append((y, (owned, slope)))
        return y


# --------------------------------------------------------------------------- layers


def _linear(s: int, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    def slope(g: Tensor) -> tuple[Tensor, Tensor]:
        g = g.unflatten(0, (s, -1)).flatten(1, -2)
        return g.mT @ x.unflatten(0, (s, -1)).flatten(1, -2), g.sum(dim=1)

    return functional.linear(x, weight, bias), (weight, bias), slope


def _group_norm(
    s: int, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float = 1e-5
) -> Any:
    normal = _Normalised.apply(x, groups, eps)
    wide = (-1,) + (1,) * (x.ndim - 2)

    def slope(g: Tensor) -> tuple[Tensor, Tensor]:
        each = (_channels(t).sum(dim=2).unflatten(0, (s, -1)).sum(dim=1) for t in (g * normal, g))
        return tuple(each)

    return torch.addcmul(bias.view(wide), normal, weight.view(wide)), (weight, bias), slope


def _conv2d(s: int, x: Tensor, weight: Tensor, bias: Tensor | None = None, *geometry: Any) -> Any:
    stride, padding, dilation, groups = geometry
    if weight.shape[1] < NARROW and groups == 1:
        return _narrow(s, x, weight, bias, (weight.shape[2:], dilation, padding, stride))
    y = _Convolved.apply(x, weight, bias, geometry)

    def slope(g: Tensor) -> tuple[Tensor, Tensor]:
        return _WeightSlope.apply(x, g, s, weight.shape, geometry)

    return y, (weight, bias), slope


def _narrow(s: int, x: Tensor, weight: Tensor, bias: Tensor | None, window: Any) -> Any:
    """A convolution of few channels, as a product with columns ``(N, C * h * w + 1, L)``."""
    columns = functional.pad(functional.unfold(x, *window), (0, 0, 0, 1), value=1.0)
    b = weight.new_zeros(len(weight)) if bias is None else bias
    y = _Product.apply(columns, torch.cat([weight.flatten(1), b[:, None]], dim=1))
    sides = [
        (n + 2 * p - d * (k - 1) - 1) // t + 1
        for n, k, d, p, t in zip(x.shape[2:], *window, strict=True)
    ]

    def slope(g: Tensor) -> tuple[Tensor, Tensor]:
        each = columns @ g.flatten(2).mT
        both = each.unflatten(0, (s, -1)).sum(dim=1).mT
        return both[:, :, :-1].unflatten(2, weight.shape[1:]), both[:, :, -1]

    return y.unflatten(2, sides), (weight, bias), slope


LAYERS = {
    functional.linear: _linear,
    functional.group_norm: _group_norm,
    functional.conv2d: _conv2d,
}


def _max_pool2d(
    x: Tensor,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    pairs = [[n, n] if isinstance(n, int) else n for n in (size, stride or size, padding, dilation)]
    found = _Pooled.apply(x, (*pairs, ceil_mode))
    return found if return_indices else found[0]


QUICKER = {functional.max_pool2d: _max_pool2d}


# --------------------------------------------------------------------------- convolutions


class _Convolved(Function):
    """A convolution whose second derivative leaves its weights alone; PyTorch's own never does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.size, ctx.geometry = x.shape[2:], geometry
        return functional.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return _Transposed.apply(g, weight, ctx.size, ctx.geometry), None, None, None


class _Transposed(Function):
    """The slope of a convolution's input ``(N, C, H, W)`` from that of its output."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, size: Any, geometry: Any) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.geometry = geometry
        return _transposed(g, weight, size, geometry)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        (weight,) = ctx.saved_tensors
        return _Convolved.apply(u, weight, None, ctx.geometry), None, None, None


def _transposed(g: Tensor, weight: Tensor, size: Any, geometry: Any) -> Tensor:
    stride, padding, dilation, groups = geometry
    rest = [
        n + 2 * p - d * (k - 1) - 1 - t * (m - 1)
        for n, m, k, t, p, d in zip(
            size, g.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    ]
    return functional.conv_transpose2d(g, weight, None, stride, padding, rest, groups, dilation)


class _WeightSlope(Function):
    """Gradients in the weight and bias of a convolution, ``(S, O, C, h, w)`` and ``(S, O)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, s: int, shape: Any, geometry: Any) -> Any:
        ctx.save_for_backward(x, g)
        ctx.geometry = geometry
        parts = zip(x.chunk(s), g.chunk(s), strict=True)
        each = [conv2d_weight(a, shape, b, *geometry) for a, b in parts]
        return torch.stack(each), _channels(g).sum(dim=2).unflatten(0, (s, -1)).sum(dim=1)

    @staticmethod
    def backward(ctx: Any, v: Tensor, bias: Tensor) -> Any:
        x, g = ctx.saved_tensors
        into_x, into_g = torch.empty_like(x), torch.empty_like(g)
        parts = (t.chunk(len(v)) for t in (into_x, into_g, x, g))
        for a, b, own, slope, w, c in zip(*parts, v, bias, strict=True):
            a.copy_(_transposed(slope, w, x.shape[2:], ctx.geometry))
            b.copy_(functional.conv2d(own, w, c, *ctx.geometry))
        return into_x, into_g, None, None, None


class _Product(Function):
    """``(N, O, L)`` of columns ``(N, K, L)`` and a fixed weight ``(O, K)``, channels innermost."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return (columns.mT @ weight.mT).mT

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.saved_tensors[0].mT @ g, None


class _Pooled(Function):
    """The largest of each window, and where it lay: PyTorch's own adds noughts to second derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Any) -> tuple[Tensor, Tensor]:
        y, at = functional.max_pool2d(x, *window, return_indices=True)
        ctx.save_for_backward(x, at)
        ctx.mark_non_differentiable(at)
        ctx.window = window
        return y, at

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Any) -> Any:
        x, at = ctx.saved_tensors
        return _Unpooled.apply(g, x.detach(), at, ctx.window), None


class _Unpooled(Function):
    """The slope ``(N, C, H, W)`` of what was pooled."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, at: Tensor, window: Any) -> Tensor:
        ctx.save_for_backward(at)
        return torch.ops.aten.max_pool2d_with_indices_backward(g, x, *window, at)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        (at,) = ctx.saved_tensors
        n, c, h, w = u.shape
        # By places in memory, channels innermost: less than half of the time of `gather`.
        first = torch.arange(n)[:, None] * (c * h * w) + torch.arange(c)
        places = torch.add(first[:, None, None], at.permute(0, 2, 3, 1), alpha=c)
        chosen = u.permute(0, 2, 3, 1).reshape(-1).index_select(0, places.flatten())
        return chosen.view(places.shape).permute(0, 3, 1, 2), None, None, None


# --------------------------------------------------------------------------- normalisation


def _channels(t: Tensor) -> Tensor:
    """``(N, C, ...)`` as ``(N, C, L)``."""
    return t.reshape(*t.shape[:2], -1)


@cache
def _averaging(channels: int, groups: int, dtype: torch.dtype) -> Tensor:
    """``(C, C)``: each channel's value to the mean of its group."""
    size = channels // groups
    return torch.block_diag(*[torch.full((size, size), 1 / size, dtype=dtype)] * groups)


def _mean(t: Tensor, groups: int) -> Tensor:
    """Of each group of channels, at each of its channels: ``(N, C, ...)`` -> ``(N, C, 1 ...)``."""
    each = _channels(t).mean(dim=2) @ _averaging(t.shape[1], groups, t.dtype)
    return each.view(*each.shape, *(1,) * (t.ndim - 2))


class _Normalised(Function):
    r"""``(N, C, ...)`` with mean 0 and variance 1 in each group of channels.

    .. math:: y = r (x - \bar x), \quad r = (\overline{(x - \bar x)^2} + \epsilon)^{-1/2}, \qquad
        \frac{\partial \langle g, y \rangle}{\partial x} = r (g - \bar g - y\, \overline{g y})

    with means over groups. It has a third of the steps that autograd takes for the second derivative.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, eps: float) -> Tensor:
        y = x - _mean(x, groups)
        r = (_mean(y.square(), groups) + eps).rsqrt_()
        y.mul_(r)
        ctx.save_for_backward(x, y, r)
        ctx.groups = groups
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, y, r = ctx.saved_tensors
        return _NormalisedSlope.apply(g, x, y.detach(), r, ctx.groups), None, None


class _NormalisedSlope(Function):
    r"""The slope in x, as a function of g and of x itself (of which y and r are parts).

    .. math:: u \mapsto r (u - \bar u - y\, \overline{uy}), \qquad u \mapsto -r^2 \big(
        (\overline{ug} - \bar u \bar g - 3\, \overline{gy}\, \overline{uy})\, y
        + \overline{gy} (u - \bar u) + \overline{uy} (g - \bar g) \big)
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, y: Tensor, r: Tensor, groups: int) -> Tensor:
        g = g - _mean(g, groups)
        gy = _mean(g * y, groups)
        ctx.save_for_backward(g, y, r, gy)
        ctx.groups = groups
        return torch.addcmul(g, y, gy, value=-1).mul_(r)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        g, y, r, gy = ctx.saved_tensors
        u = u - _mean(u, ctx.groups)
        uy, ug = _mean(u * y, ctx.groups), _mean(u * g, ctx.groups)
        into_g = torch.addcmul(u, y, uy, value=-1).mul_(r)
        into_x = y.mul(ug - 3 * gy * uy).addcmul_(u, gy).addcmul_(g, uy).mul_(-r.square())
        return into_g, into_x, None, None, None

"""Operations that gradient matching differentiates twice, in fewer or faster steps than autograd.

All of them treat weights as constants, and the gradients are exact. Feature maps are stored with
channels last wherever that is faster.

Imported only inside functions: torch is needed at once.
"""

from __future__ import annotations

from functools import cache
from itertools import product, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

BLOCK = 8
"""Records whose patches are laid out at once: they fit into a cache."""


# --------------------------------------------------------------------------- convolutions


class Window(NamedTuple):
    """What a convolution sees of its input at each place; pairs of rows and columns."""

    size: Any
    stride: Any
    padding: Any
    dilation: Any

    def sides(self, x: Tensor) -> list[int]:
        """Of what comes out."""
        reach = ((k - 1) * d + 1 for k, d in zip(self.size, self.dilation, strict=True))
        parts = zip(x.shape[2:], reach, self.padding, self.stride, strict=True)
        return [(n + 2 * p - r) // t + 1 for n, r, p, t in parts]

    def seen(self, x: Tensor) -> Tensor:
        """A view ``(N, C, h, w, H', W')`` of a padded copy of x."""
        (top, left), sides = self.padding, self.sides(x)
        x = functional.pad(x, (left, left, top, top))
        n, c, *places = x.stride()
        inner = (d * t for d, t in zip(self.dilation, places, strict=True))
        outer = (s * t for s, t in zip(self.stride, places, strict=True))
        return x.as_strided((*x.shape[:2], *self.size, *sides), (n, c, *inner, *outer))

    def laid_back(self, columns: Tensor, x: Tensor) -> Tensor:
        """The transpose of `seen`: sums ``(N, C, h, w, H', W')`` in the places where they were seen."""
        (top, left), (height, width) = self.padding, x.shape[2:]
        total = functional.pad(torch.zeros_like(x), (left, left, top, top))
        for i, j in product(*map(range, self.size)):
            rows, across = (
                slice(k * d, k * d + (m - 1) * t + 1, t)
                for k, d, m, t in zip(
                    (i, j), self.dilation, columns.shape[4:], self.stride, strict=True
                )
            )
            total[:, :, rows, across] += columns[:, :, i, j]
        return total[:, :, top : top + height, left : left + width]


class Columns(Function):
    """``(N, C * h * w + 1, L)`` of what a window sees in ``(N, C, H, W)``, and ones."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: Window, last: float = 1.0) -> Tensor:
        ctx.save_for_backward(x)
        ctx.window = window
        seen = window.seen(x)
        found = x.new_full((len(x), seen[0, ..., 0, 0].numel() + 1, seen[0, 0, 0, 0].numel()), last)
        found[:, :-1].view(seen.shape).copy_(seen)
        return found

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return _LaidBack.apply(g, ctx.saved_tensors[0].detach(), ctx.window), None, None


class _LaidBack(Function):
    """The transpose of `Columns`."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, window: Window) -> Tensor:
        ctx.window = window
        seen = (len(x), x.shape[1], *window.size, *window.sides(x))
        return window.laid_back(g[:, :-1].view(seen), x)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        return Columns.apply(u, ctx.window, 0.0), None, None


class Convolved(Function):
    """A convolution whose second derivative leaves its weights alone; PyTorch's own never does."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, window: Window) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.window = window
        return functional.conv2d(x, weight, bias, *window[1:])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        return _Transposed.apply(g, x.detach(), weight, ctx.window), None, None, None


class _Transposed(Function):
    """Gradient in a convolution's input ``(N, C, H, W)``, from the gradient in its output."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.window = window
        return _transposed(g, x, weight, window)

    @staticmethod
    def backward(ctx: Any, u: Tensor) -> Any:
        return Convolved.apply(u, ctx.saved_tensors[0], None, ctx.window), None, None, None


def _transposed(g: Tensor, x: Tensor, weight: Tensor, window: Window) -> Tensor:
    parts = zip(x.shape[2:], g.shape[2:], *window, strict=True)
    rest = [n + 2 * p - d * (k - 1) - 1 - t * (m - 1) for n, m, k, t, p, d in parts]
    _, stride, padding, dilation = window
    return functional.conv_transpose2d(g, weight, None, stride, padding, rest, dilation=dilation)


class WeightGradient(Function):
    """Gradients in the weight and bias of a convolution, ``(S, O, C, h, w)`` and ``(S, O)``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, s: int, window: Window) -> Any:
        ctx.save_for_backward(x, g)
        ctx.window = window
        rows = g.permute(0, 2, 3, 1).reshape(s, -1, g.shape[1])
        each = max(1, BLOCK * s // len(x))
        parts = [
            torch.bmm(a.mT, window.seen(b).permute(0, 4, 5, 2, 3, 1).reshape(*a.shape[:2], -1))
            for a, b in zip(rows.split(each), x.split(each * len(x) // s), strict=True)
        ]
        found = torch.cat(parts).unflatten(2, (*window.size, x.shape[1]))
        return found.permute(0, 1, 4, 2, 3), rows.sum(dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, v: Tensor, bias: Tensor) -> Any:
        x, g = (t.chunk(len(v)) for t in ctx.saved_tensors)
        into_x = map(_transposed, g, x, v, repeat(ctx.window))
        into_g = (
            functional.conv2d(*each, *ctx.window[1:]) for each in zip(x, v, bias, strict=True)
        )
        return torch.cat([*into_x]), torch.cat([*into_g]), None, None


class Product(Function):
    """``(N, O, L)`` of columns ``(N, K, L)`` and a fixed weight ``(O, K)``, channels last."""

    @staticmethod
    def forward(ctx: Any, columns: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return (columns.mT @ weight.mT).mT

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return ctx.saved_tensors[0].mT @ g, None


class Pooled(Function):
    """The largest of each window, and where it lay: PyTorch's own adds zeros to second derivatives."""

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
    """Gradient ``(N, C, H, W)`` in the input of the pooling."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, at: Tensor, window: Any) -> Tensor:
        ctx.save_for_backward(at)
        return torch.ops.aten.max_pool2d_with_indices_backward(g, x, *window, at)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> Any:
        (at,) = ctx.saved_tensors
        n, c, h, w = u.shape
        # By memory order, channels last: less than half of the time of `gather`.
        first = torch.arange(n)[:, None] * (c * h * w) + torch.arange(c)
        places = torch.add(first[:, None, None], at.permute(0, 2, 3, 1), alpha=c)
        chosen = u.permute(0, 2, 3, 1).reshape(-1).index_select(0, places.flatten())
        return chosen.view(places.shape).permute(0, 3, 1, 2), None, None, None


# --------------------------------------------------------------------------- normalisation


def channels(t: Tensor) -> Tensor:
    """``(N, C, ...)`` as ``(N, C, L)``."""
    return t.reshape(*t.shape[:2], -1)


@cache
def _averaging(channels: int, groups: int, dtype: torch.dtype) -> Tensor:
    """``(C, C)``: each channel's value to the mean of its group."""
    size = channels // groups
    return torch.block_diag(*[torch.full((size, size), 1 / size, dtype=dtype)] * groups)


def _mean(t: Tensor, groups: int) -> Tensor:
    """Of each group of channels, at each of its channels: ``(N, C, ...)`` -> ``(N, C, 1 ...)``."""
    each = channels(t).mean(dim=2) @ _averaging(t.shape[1], groups, t.dtype)
    return each.view(*each.shape, *(1,) * (t.ndim - 2))


class Normalised(Function):
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
        return _NormalisedGradient.apply(g, x, y.detach(), r, ctx.groups), None, None


class _NormalisedGradient(Function):
    r"""Gradient in x, as a function of g and x (y and r depend on x).

    .. math:: u \mapsto r (u - \bar u - y\, \overline{uy}), \qquad u \mapsto -r^2 \big(
        (\overline{ug} - \bar u \bar g - 3\, \overline{gy}\, \overline{uy})\, y
        + \overline{gy} (u - \bar u) + \overline{uy} (g - \bar g) \big)
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, y: Tensor, r: Tensor, groups: int) -> Tensor:
        mean, gy = _mean(g, groups), _mean(g * y, groups)
        ctx.save_for_backward(g, y, r, mean, gy)
        ctx.groups = groups
        return torch.addcmul(-r * mean, g, r).addcmul_(y, -r * gy)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor) -> Any:
        g, y, r, g_mean, gy = ctx.saved_tensors
        mean, uy, ug = (_mean(t, ctx.groups) for t in (u, u * y, u * g))
        into_g = torch.addcmul(-r * mean, u, r).addcmul_(y, -r * uy)
        # Factors are multiplied where they are small: one for each channel.
        k = -r.square()
        into_x = torch.addcmul(-k * (gy * mean + uy * g_mean), u, k * gy).addcmul_(g, k * uy)
        into_x.addcmul_(y, k * (ug - mean * g_mean - 3 * gy * uy))
        return into_g, into_x, None, None, None

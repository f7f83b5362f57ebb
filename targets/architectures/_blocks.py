"""What the architectures share: input checks, the fixed first step, normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn

from medleak.api import ConfigError


def image_shape(who: str, in_shape: Sequence[int], *, smallest: int) -> tuple[int, int, int]:
    """`in_shape` as ``(C, H, W)``.

    Raises:
        ConfigError: not an image, neither grey nor colour, or a side below `smallest`.
    """
    shape = tuple(in_shape)
    if len(shape) != 3:
        raise ConfigError(f"{who} needs images (C, H, W): in_shape {shape} is not one")
    if shape[0] not in (1, 3):
        raise ConfigError(f"{who} takes 1 (grey) or 3 (colour) channels: in_shape {shape}")
    if min(shape[1:]) < smallest:
        raise ConfigError(f"{who} needs images of {smallest} pixels or more: in_shape {shape}")
    return shape


def flat_shape(who: str, in_shape: Sequence[int]) -> tuple[int, ...]:
    """`in_shape` as ``(F,)`` or ``(C, H, W)``, else ConfigError."""
    shape = tuple(in_shape)
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ConfigError(
            f"{who} takes a table (F,) or images (C, H, W): in_shape {shape} is neither"
        )
    return shape


def positive(who: str, **values: int) -> None:
    """Refuse anything but positive integers, by name."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConfigError(f"{who} {name} must be a positive integer, not {value!r}")


class Scale(nn.Module):
    """``(x - 0.5) / 0.25``: pixels in 0..1 to about unit spread, with public constants only."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.25


class FullPrecision(nn.Module):
    """bfloat16 to float32, anything else unchanged.

    CUDA's autocast does this before a normalisation; the CPU's does not, and there a bfloat16
    GroupNorm takes about four times as long as the float32 one.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.float() if x.dtype is torch.bfloat16 else x


def channels_last(x: Tensor) -> Tensor:
    """The same images ``(N, C, H, W)`` with the channels last in memory.

    Turned around by permutations, because a clone with a memory format of its own stops
    `torch.func.vmap`; and activations only, because parameters in that layout cannot be
    flattened with ``view(-1)``.
    """
    rows = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
    return rows.permute(0, 3, 1, 2)


def observed_by(layers: nn.Sequential) -> bool:
    """Whether a hook sees the inputs of a convolution in `layers`.

    Opacus's per-sample gradients of a convolution take those inputs to be contiguous, and are
    wrong, without a word, where they are not (1.6.0, ``unfold2d``).
    """
    return any(m._forward_hooks for m in layers if isinstance(m, nn.Conv2d))


def norm(channels: int, groups: int = 32) -> nn.Sequential:
    """GroupNorm with at most `groups` groups: no statistics shared between patients, as
    per-record gradients need."""
    return nn.Sequential(FullPrecision(), nn.GroupNorm(gcd(groups, channels), channels))


def flat_input(shape: tuple[int, ...]) -> tuple[list[nn.Module], int]:
    """First layers that flatten (and, for images, scale) and the number of features."""
    features = 1
    for side in shape:
        features *= side
    return ([Scale(), nn.Flatten()] if len(shape) == 3 else []), features

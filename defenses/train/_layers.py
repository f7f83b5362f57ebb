"""Which layers of a network a training defense works on, whatever the network."""

from __future__ import annotations

from typing import Any

from medleak.api import ConfigError


def last_linear(model: Any, *, who: str) -> tuple[str, Any]:
    """Name and module of the linear layer that was registered last.

    Raises:
        ConfigError: there is none; `who` asks.
    """
    from torch import nn

    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise ConfigError(f"{who}: {type(model).__name__} has no linear layer")
    return layers[-1]


def mixing(model: Any) -> list[Any]:
    """The linear layers and convolutions of `model`: what enters them is a representation."""
    from torch import nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [m for m in model.modules() if isinstance(m, kinds)]


def keeping(model: Any) -> list[Any]:
    """The modules that keep parameters or buffers of their own, in order of registration."""
    return [
        m
        for m in model.modules()
        if next(m.parameters(recurse=False), None) is not None
        or next(m.buffers(recurse=False), None) is not None
    ]

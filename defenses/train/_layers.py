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

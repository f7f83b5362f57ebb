"""Plugin title: say here what it protects."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from medleak.api import Aggregated, Aggregator


class PluginName(Aggregator):
    """Sums messages after cutting each to a norm; the server reads every one of them.

    Args:
        norm: the largest of a message.
    """

    slot = "aggregate"

    def __init__(self, *, norm: float = 1.0):
        self.norm = norm

    def invalid_parameters(self) -> list[str]:
        return [] if self.norm > 0 else [f"norm {self.norm}: above 0 is needed"]

    def seen(self, message: np.ndarray) -> np.ndarray:
        """Clients cut their messages before they send them."""
        return message * min(1.0, self.norm / max(float(np.linalg.norm(message)), 1e-12))

    def added(self, message: np.ndarray) -> np.ndarray:
        return self.seen(message)

    def aggregate(
        self,
        messages: Mapping[int, np.ndarray],
        *,
        dropped: Collection[int],
        rng: np.random.Generator,
    ) -> Aggregated:
        """The sum over those who did not vanish."""
        survivors = tuple(client for client in sorted(messages) if client not in dropped)
        total = np.sum([self.seen(messages[client]) for client in survivors], axis=0)
        excluded = {client: "dropped out" for client in dropped if client in messages}
        return Aggregated(total, survivors, excluded)

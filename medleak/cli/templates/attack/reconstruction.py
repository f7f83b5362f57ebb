"""Plugin title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import (
    Attack,
    Knowledge,
    Observation,
    ReconstructionChallenge,
    Records,
    Release,
    ThreatModel,
)


class PluginName(Attack):
    """Reads a record out of a fully connected layer that sees the image; without bias gradient, the mean image.

    The gradients of a row's weights and bias are the record, times the same number.

    Args:
        smallest: bias gradient below which a row is not divided by.
    """

    requires = ThreatModel(
        goal="reconstruction", access="aggregate", knowledge=("auxiliary",), adversary="server"
    )
    paper = "unpublished"
    first_layer = "linear"  # of networks that begin otherwise it can read nothing

    def __init__(self, *, smallest: float = 1e-8):
        self.smallest = smallest

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._auxiliary = knowledge.auxiliary

    def run(self, release: Release, challenge: ReconstructionChallenge) -> np.ndarray:
        """Images ``(T, B, C, H, W)`` in 0..1: B of each message, of which `n_records` count."""
        messages = release.view("aggregate")
        most = max(map(int, challenge.n_records), default=0)
        images = np.zeros((len(challenge), most, *challenge.in_shape), dtype=np.float32)
        for t, index in enumerate(challenge.indices):
            found = self._read(messages[int(index)], challenge.in_shape)
            images[t] = self._mean(challenge.in_shape) if found is None else found
        return images

    def _read(self, message: Observation, shape: tuple[int, ...]) -> np.ndarray | None:
        for name, gradient in message.update.items():
            bias = message.update.get(name.replace("weight", "bias"))
            if gradient.ndim != 2 or gradient.shape[1] != np.prod(shape) or bias is None:
                continue
            row = int(np.abs(bias).argmax())
            if abs(bias[row]) > self.smallest:
                return np.clip(gradient[row] / bias[row], 0, 1).reshape(shape)
        return None

    def _mean(self, shape: tuple[int, ...]) -> np.ndarray:
        records: Records | None = self._auxiliary
        if records is None or not len(records):
            return np.full(shape, 0.5)
        return records.x.mean(axis=0) / (255 if records.x.dtype == np.uint8 else 1)

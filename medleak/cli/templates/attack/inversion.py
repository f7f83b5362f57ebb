"""Plugin title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, InversionChallenge, Knowledge, Release, ThreatModel


class PluginName(Attack):
    """Shows of a class the auxiliary images that the model takes for it most surely, a few averaged.

    Args:
        averaged: images behind each picture.
    """

    requires = ThreatModel(goal="inversion", access="scores", knowledge=("auxiliary",))
    paper = "unpublished"

    def __init__(self, *, averaged: int = 3):
        self.averaged = averaged

    def invalid_parameters(self) -> list[str]:
        return [] if self.averaged >= 1 else [f"averaged {self.averaged}: at least 1 is needed"]

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._auxiliary = knowledge.auxiliary

    def run(self, release: Release, challenge: InversionChallenge) -> np.ndarray:
        """Pictures ``(K, M, C, H, W)`` in 0..1: M of each of K classes."""
        x = self._auxiliary.x
        images = x / (255 if x.dtype == np.uint8 else 1)
        scores = release.scores(x)
        pictures = np.zeros(challenge.shape, dtype=np.float32)
        for k, label in enumerate(challenge.classes):
            surest = np.argsort(-scores[:, label], kind="stable")
            for m in range(challenge.n_images):
                some = np.take(surest, np.arange(m, m + self.averaged), mode="wrap")
                pictures[k, m] = images[some].mean(axis=0)
        return pictures

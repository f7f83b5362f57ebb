"""Plugin title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Challenge, Release, ThreatModel


class PluginName(Attack):
    """Scores a record by the log-probability that the model gives to its label.

    Args:
        weight: what the score is multiplied with; the YAML sets it.
    """

    requires = ThreatModel(goal="membership", access="scores", knowledge=("labels",))
    paper = "unpublished"

    def __init__(self, *, weight: float = 1.0):
        self.weight = weight

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        """One score for each record, higher for members, ``(N,)``."""
        scores = np.maximum(release.scores(challenge.x), -50.0)  # a defense may round to -inf
        own = np.take_along_axis(scores, challenge.y[..., None], axis=-1)
        return self.weight * own.reshape(len(challenge), -1).sum(axis=1)

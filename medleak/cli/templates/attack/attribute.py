"""Plugin title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, AttributeChallenge, Release, ThreatModel


class PluginName(Attack):
    """The value whose auxiliary records are answered most alike, by distance to the mean answer.

    Args:
        floor: the smallest log-probability told apart.
    """

    requires = ThreatModel(goal="attribute", access="scores", knowledge=("auxiliary",))
    paper = "unpublished"

    def __init__(self, *, floor: float = -20.0):
        self.floor = floor

    def run(self, release: Release, challenge: AttributeChallenge) -> np.ndarray:
        """A score for each record and value, higher where it is the likelier one, ``(N, V)``."""
        known, theirs = map(self._flat, (release.scores(challenge.known.x), challenge.scores))
        distances = np.full(challenge.shape, np.inf)
        for v in range(len(challenge.values)):
            own = known[challenge.known_value == v]
            if len(own):
                distances[:, v] = np.linalg.norm(theirs - own.mean(axis=0), axis=1)
        return -distances

    def _flat(self, scores: np.ndarray) -> np.ndarray:
        return np.maximum(scores, self.floor).reshape(len(scores), -1)

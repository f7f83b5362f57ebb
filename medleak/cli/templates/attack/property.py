"""Plugin title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Knowledge, PropertyChallenge, Release, ThreatModel


class PluginName(Attack):
    """Whether the model answers patients with and without the value as shadows of the higher share do.

    Args:
        floor: the smallest log-probability told apart.
    """

    requires = ThreatModel(
        goal="property", access="scores", knowledge=("auxiliary", "labels", "shadows")
    )
    paper = "unpublished"

    def __init__(self, *, floor: float = -20.0):
        self.floor = floor

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: PropertyChallenge) -> np.ndarray:
        """One number, ``(1,)``: above 0 where the higher share is the guess."""
        shadows = [self._answers(s.release, challenge) for s in self._knowledge.shadows]
        high, low = (np.stack(shadows)[challenge.shadow_high == side] for side in (True, False))
        middle = (high.mean(axis=0) + low.mean(axis=0)) / 2
        spread = high.var(axis=0) + low.var(axis=0) + 1e-12
        towards = (high.mean(axis=0) - low.mean(axis=0)) / spread  # diagonal discriminant
        return np.array([float((self._answers(release, challenge) - middle) @ towards)])

    def _answers(self, release: Release, challenge: PropertyChallenge) -> np.ndarray:
        """Mean log-probability of each class, of records with the value and of the others."""
        records = self._knowledge.auxiliary
        scores = np.maximum(release.scores(records.x), self.floor).reshape(len(records), -1)
        has = np.asarray(records.groups[challenge.attribute]) == challenge.value
        return np.concatenate([scores[has].mean(axis=0), scores[~has].mean(axis=0)])

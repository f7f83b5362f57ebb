"""Plugin title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Knowledge, PropertyChallenge, Release, ThreatModel


class PluginName(Attack):
    """Whether the model is as sure of patients with the value as shadows of the higher share are.

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
        shadows = np.array([self._gap(s.release, challenge) for s in self._knowledge.shadows])
        high, low = (shadows[challenge.shadow_high == side].mean() for side in (True, False))
        gap = self._gap(release, challenge)
        return np.array([(gap - (high + low) / 2) * np.sign(high - low)])

    def _gap(self, release: Release, challenge: PropertyChallenge) -> float:
        """Mean log-probability of the own label, of records with the value less that of others."""
        records = self._knowledge.auxiliary
        scores = np.maximum(release.scores(records.x), self.floor)
        own = np.take_along_axis(scores, records.y[..., None], axis=-1)
        sure = own.reshape(len(records), -1).mean(axis=1)
        has = np.asarray(records.groups[challenge.attribute]) == challenge.value
        return float(sure[has].mean() - sure[~has].mean())

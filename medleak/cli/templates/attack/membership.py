"""Plugin title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, Release, ThreatModel, task_of


class PluginName(Attack):
    """Scores a record by the log-probability that the model gives to its label.

    Args:
        weight: what the score is multiplied with; the YAML sets it.
    """

    requires = ThreatModel(goal="membership", access="scores", knowledge=("labels",))
    paper = "unpublished"

    def __init__(self, *, weight: float = 1.0):
        self.weight = weight

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        """Note the task: one class, several labels or a mask."""
        self._task = task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        """One score for each record, higher for members, ``(N,)``."""
        scores = np.maximum(release.scores(challenge.x), -50.0)  # a defense may round to -inf
        of_labels = self._task.true_log_probability(scores, challenge.y)  # (N, L)
        return self.weight * of_labels.sum(axis=1)

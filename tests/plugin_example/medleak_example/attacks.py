"""Attacks that only return scores: metrics, intervals, plots and tables come by themselves."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Challenge, GoalChallenge, Knowledge, Release, ThreatModel


class Confidence(Attack):
    """Calls a record a member the surer the model is of the record's own label.

    ``s = log p(y | x)``, at least `floor`; summed over the labels of a multi-label task.

    Args:
        floor: the smallest log-probability told apart.
    """

    requires = ThreatModel(goal="membership", access="scores", knowledge=("labels",))
    paper = "Salem et al. 2019, ML-Leaks, NDSS"

    def __init__(self, *, floor: float = -50.0):
        self.floor = floor

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        scores, labels = release.scores(challenge.x), challenge.y[..., None]
        own = np.take_along_axis(scores, labels, axis=-1)
        return np.maximum(own, self.floor).reshape(len(challenge), -1).sum(axis=1)


class MeanAnswer(Attack):
    r"""Takes a model's mean answer on auxiliary records for how common each class was in training.

    .. math:: \hat\pi_c = \frac1M \sum_i p(c \mid x_i)
    """

    requires = ThreatModel(goal="example_shares", access="scores", knowledge=("auxiliary",))
    paper = "Saerens et al. 2002, Adjusting the Outputs of a Classifier to New a Priori Probabilities, Neural Computation"

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._answers = np.exp(release.scores(knowledge.auxiliary.x))

    def run(self, release: Release, challenge: GoalChallenge) -> np.ndarray:
        return self._answers.mean(axis=0)

"""The loss attack."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, Release, ThreatModel, task_of
from medleak.api.scores import zero_floor


class Yeom(Attack):
    r"""Loss threshold: members have a lower loss.

    .. math:: s(x, y) = \log p_y(x)

    summed over the labels of a multi-label task; of a mask, the mean over pixels. One query per record,
    no shadows. A probability that was rounded to zero counts as half of the smallest positive one
    released.
    """

    version = 1
    requires = ThreatModel(goal="membership", access="scores", knowledge=("labels",))
    paper = "Yeom et al. 2018, Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting, CSF"

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._task = task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        log_p = release.scores(challenge.x)
        found = self._task.true_log_probability(log_p, challenge.y, floor=zero_floor(log_p))
        return found.sum(axis=1)

"""The loss attack."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Challenge, Release, ThreatModel
from medleak.attacks._kernels import true_log_probability, zero_floor


class Yeom(Attack):
    r"""Loss threshold: members have a lower loss.

    .. math:: s(x, y) = \log p_y(x)

    summed over the labels of a multi-label task. One query per record, no shadows. A probability
    that was rounded to zero counts as half of the smallest positive one released.
    """

    version = 1
    requires = ThreatModel(goal="membership", access="scores", knowledge=("labels",))
    paper = "Yeom et al. 2018, Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting, CSF"

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        log_p = release.scores(challenge.x)
        return true_log_probability(log_p, challenge.y, floor=zero_floor(log_p)).sum(axis=1)

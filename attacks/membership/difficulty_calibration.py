"""Difficulty calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, ProblemSpec, Release, ThreatModel, task_of
from medleak.api.scores import zero_floor
from medleak.attacks.membership._moments import InOutMoments
from medleak.attacks.membership._shadows import each, too_few
from medleak.attacks.membership.lira import means


class DifficultyCalibration(Attack):
    r"""How much lower the target's loss is than that of models without the record.

    .. math:: s(x) = \frac1K \sum_k \ell_k(x) - \ell(x), \qquad \ell = -\log p_y

    over the K shadows that were not trained on x; labels of a multi-label task add up. A record that
    is in every shadow takes their mean loss, raised by the population's IN-OUT gap. A probability that
    was rounded to zero counts as half of the smallest positive one released.
    """

    version = 1
    requires = ThreatModel(
        goal="membership", access="scores", knowledge=("shadows", "labels", "architecture")
    )
    paper = (
        "Watson et al. 2022, On the Importance of Difficulty Calibration in Membership Inference "
        "Attacks, ICLR"
    )

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return too_few(knowledge, 1, "difficulty calibration")

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        log_p = release.scores(challenge.x)
        floor = zero_floor(log_p)
        target = self._task.true_log_probability(log_p, challenge.y, floor=floor)
        sides = InOutMoments(target)
        for shadow in each(self._knowledge):
            log_p = shadow.release.scores(challenge.x)
            values = self._task.true_log_probability(log_p, challenge.y, floor=floor)
            sides.add(values, shadow.member)
        inside, outside = sides.inside, sides.outside
        expected = np.where(outside.n > 0, outside.mean, means(inside, outside)[1])
        return (target - expected).sum(axis=1)

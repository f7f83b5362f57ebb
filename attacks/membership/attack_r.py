"""The reference attack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, ProblemSpec, Release, ThreatModel, task_of
from medleak.api.scores import zero_floor
from medleak.attacks._kernels import tail_score
from medleak.attacks.membership._moments import InOutMoments
from medleak.attacks.membership._shadows import each, too_few
from medleak.attacks.membership.lira import means, variance


class AttackR(Attack):
    r"""How rare so low a loss is under reference models that were not trained on the record.

    .. math::
        s(x) = -\log \frac{\#\{k: \ell_k(x) < \ell(x)\} + \tfrac12 \#\{k: \ell_k(x) = \ell(x)\}
                           + 1 - \Phi(t(x))}{K + 1}

    over the K shadows without x. The paper's p-value has K + 1 levels, so that most records tie: here
    the normal distribution of the record's logit scores (with the pooled variance as two
    observations) counts as one more reference, and :math:`t` is the target's score standardised by it.
    The loss enters by :math:`\phi = \log(p_y / (1 - p_y))`, which has the same order. A record that is
    in every shadow has that distribution alone, about its IN mean less the population's IN-OUT gap.
    Multi-label: scores add up over labels (Fisher's combination).
    """

    version = 1
    requires = ThreatModel(
        goal="membership", access="scores", knowledge=("shadows", "labels", "architecture")
    )
    paper = (
        "Ye et al. 2022, Enhanced Membership Inference Attacks against Machine Learning Models, CCS"
    )

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return too_few(knowledge, 4, "Attack-R")

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        log_p = release.scores(challenge.x)
        floor = zero_floor(log_p)
        phi = self._task.logit_score(log_p, challenge.y, floor=floor)
        sides, above, ties = InOutMoments(phi), np.zeros(phi.shape), np.zeros(phi.shape)
        for shadow in each(self._knowledge):
            log_p, without = shadow.release.scores(challenge.x), ~shadow.member[:, None]
            values = self._task.logit_score(log_p, challenge.y, floor=floor)
            above += (values > phi) & without
            ties += (values == phi) & without
            sides.add(values, shadow.member)
        inside, outside = sides.inside, sides.outside
        mean, spread = means(inside, outside)[1], np.sqrt(variance(outside, per_example=True))
        return tail_score(above, ties, outside.n, (phi - mean) / spread).sum(axis=1)

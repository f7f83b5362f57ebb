"""The Bayes-optimal attack for independent records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, ProblemSpec, Release, ThreatModel, task_of
from medleak.attacks._arguments import choice, number
from medleak.attacks.membership._shadows import each, is_auxiliary, too_few

MODES = ("online", "offline")


class BASE(Attack):
    r"""Log-likelihood of the target against its average over shadows.

    .. math::
        s(x) = -\ell(x) - c \log \frac1K \sum_k e^{-\ell_k(x)}

    the log-odds of membership where models are drawn with density proportional to
    :math:`e^{-\text{loss}}`, with :math:`\ell = -\log p_T(y | x)` in a softmax at `temperature` (labels
    of a multi-label task add up). Online the sum runs over all shadows, with and without the record, and
    c = 1: this is :math:`\log(p / \bar p)`, whose order is that of RMIA with as many shadows on either
    side. Offline it runs over those without, and `scale` makes up for the missing ones. A record that
    is in every shadow takes the mean threshold of the others.

    Args:
        mode: "online" (``pool=audit``: shadows hold challenge patients) or "offline".
        temperature: T of the softmax; 1 is the model's own loss.
        scale: c of the offline attack, in 0..1; .7 is that of the authors' code.
    """

    version = 1
    requires = ThreatModel(
        goal="membership", access="scores", knowledge=("shadows", "labels", "architecture")
    )
    paper = "Lassila et al. 2025, Practical Bayes-Optimal Membership Inference Attacks, NeurIPS"

    def __init__(
        self,
        *,
        mode: Literal["online", "offline"] = "online",
        temperature: float = 1.0,
        scale: float = 0.7,
    ):
        self.mode = mode
        self.temperature = temperature
        self.scale = scale

    def invalid_parameters(self) -> list[str]:
        return (
            choice("mode", self.mode, MODES)
            + number("temperature", self.temperature, above=0)
            + number("scale", self.scale, most=1)
        )

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        reasons = too_few(knowledge, 4 if self.mode == "online" else 1, f"BASE {self.mode}")
        if self.mode == "online" and is_auxiliary(knowledge):
            reasons.append("BASE online needs shadows with challenge patients: pool=audit")
        return reasons

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        online = self.mode == "online"
        n, total = np.zeros(len(challenge)), np.full(len(challenge), -np.inf)
        for shadow in each(self._knowledge):
            counts = online | ~shadow.member
            log_p = self._log_p(shadow.release, challenge)
            total = np.logaddexp(total, np.where(counts, log_p, -np.inf))
            n += counts
        seen = n > 0
        threshold = np.where(seen, total - np.log(np.maximum(n, 1)), 0.0)
        if not seen.all() and seen.any():
            threshold[~seen] = threshold[seen].mean()
        return self._log_p(release, challenge) - (1.0 if online else self.scale) * threshold

    def _log_p(self, release: Release, challenge: Challenge) -> np.ndarray:
        return self._task.tempered_log_probability(
            release.scores(challenge.x), challenge.y, temperature=self.temperature
        )

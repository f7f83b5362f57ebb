"""The likelihood-ratio attack."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, ProblemSpec, Release, ThreatModel, task_of
from medleak.api.scores import zero_floor
from medleak.attacks._kernels import QUERIES, augmented
from medleak.attacks.membership._moments import InOutMoments, Moments
from medleak.attacks.membership._queries import Queries, labels_sent
from medleak.attacks.membership._shadows import each, is_auxiliary, one_of, too_few

MODES = ("online", "offline")
VARIANCES = ("auto", "pooled", "per_example")
PER_EXAMPLE_FROM = 64
"""Number of shadows from which variance="auto" gives each record its own."""
PRIOR = 2.0
"""Weight of the pooled variance in a record's own, in observations."""
SMALLEST = 1e-12
"""Least variance: a release may answer the same for all shadows."""


class LiRA(Attack):
    r"""Likelihood ratio of the logit score under shadows with and without the record.

    .. math::
        S_{online} &= \frac1Q \sum_q \log \mathcal N(\phi_q; \mu_{in}, \sigma_{in}^2)
                    - \log \mathcal N(\phi_q; \mu_{out}, \sigma_{out}^2) \\
        S_{offline} &= \frac1Q \sum_q \log \Phi\big((\phi_q - \mu_{out}) / \sigma_{out}\big)

    with :math:`\phi = \log p_y - \log \sum_{j \ne y} p_j`, over Q queries per record (see
    `augmented`); labels of a multi-label task add up, a mask is one question about its mean loss and moves
    with its image. :math:`\mu` are means per record and query, not
    medians: they stream, so memory does not grow with the number of shadows. A record with a single IN
    (OUT) shadow goes half way to the population's IN-OUT gap, one with none all the way.

    Args:
        mode: "online" (``pool=audit``: shadows hold challenge patients) or "offline".
        variance: "pooled" (one residual variance over all records), "per_example" (each record's
            own, with the pooled one as two observations), or "auto": per example from 64 shadows.
        queries: "identity" (1), "flip" (2) or "all" (18); a table has one. Fewer where the query
            budget does not pay for all.

    Raises:
        ConfigError: an option that is not among the choices.
    """

    version = 1
    requires = ThreatModel(
        goal="membership", access="scores", knowledge=("shadows", "labels", "architecture")
    )
    paper = "Carlini et al. 2022, Membership Inference Attacks From First Principles, IEEE S&P"

    def __init__(
        self,
        *,
        mode: Literal["online", "offline"] = "online",
        variance: Literal["auto", "pooled", "per_example"] = "auto",
        queries: Literal["identity", "flip", "all"] = "flip",
    ):
        self.mode = mode
        self.variance = variance
        self.queries = queries

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        self._check_options()
        reasons = too_few(knowledge, 4, f"LiRA {self.mode}")
        if self.variance == "per_example":
            reasons += too_few(knowledge, 32, "LiRA with a variance per example")
        if self.mode == "online" and is_auxiliary(knowledge):
            reasons.append("LiRA online needs shadows with challenge patients: pool=audit")
        return reasons

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._check_options()
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        budget, n = self._knowledge.budget, max(1, len(challenge))
        most = None if budget is None else max(1, budget // n)
        sent = Queries(challenge.x, partial(augmented, queries=self.queries), most=most)
        labels = labels_sent(self._task, challenge.y, self.queries, len(sent))
        answers = [release.scores(x) for x in sent]
        floor = zero_floor(answers[0])
        phi = [
            self._task.logit_score(log_p, y, floor=floor)
            for log_p, y in zip(answers, labels, strict=True)
        ]
        sides = [InOutMoments(values) for values in phi]
        for shadow in each(self._knowledge):
            for x, y, side in zip(sent, labels, sides, strict=True):
                values = self._task.logit_score(shadow.release.scores(x), y, floor=floor)
                side.add(values, shadow.member)
        many = len(self._knowledge.shadows or ()) >= PER_EXAMPLE_FROM
        own = self.variance == "per_example" or (self.variance == "auto" and many)
        score = online_score if self.mode == "online" else offline_score
        scores = [
            score(values, side.inside, side.outside, per_example=own)
            for values, side in zip(phi, sides, strict=True)
        ]
        return np.stack(scores).sum(axis=-1).mean(axis=0)

    def _check_options(self) -> None:
        one_of("LiRA mode", self.mode, MODES)
        one_of("LiRA variance", self.variance, VARIANCES)
        one_of("LiRA queries", self.queries, QUERIES)


def online_score(
    phi: np.ndarray, inside: Moments, outside: Moments, *, per_example: bool
) -> np.ndarray:
    """Log-likelihood ratio per record and label, ``(N, L)``."""
    mu_in, mu_out = means(inside, outside)
    return log_normal(phi, mu_in, variance(inside, per_example=per_example)) - log_normal(
        phi, mu_out, variance(outside, per_example=per_example)
    )


def offline_score(
    phi: np.ndarray, inside: Moments, outside: Moments, *, per_example: bool
) -> np.ndarray:
    """One-sided log-probability of so low a score without the record, ``(N, L)``."""
    from scipy.special import log_ndtr

    mu_out = means(inside, outside)[1]
    return log_ndtr((phi - mu_out) / np.sqrt(variance(outside, per_example=per_example)))


def log_normal(x: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Log-density of a normal distribution, less ``log(2 pi) / 2``."""
    return -0.5 * ((x - mean) ** 2 / variance + np.log(variance))


def means(inside: Moments, outside: Moments) -> tuple[np.ndarray, np.ndarray]:
    """IN and OUT means; where fewer than two shadows were seen, leaning on the population's gap."""
    both = (inside.n > 0) & (outside.n > 0)
    gaps = np.where(both, inside.mean - outside.mean, 0.0)
    gap = gaps.sum(axis=0, keepdims=True) / np.maximum(both.sum(axis=0, keepdims=True), 1)
    return _lean(inside, outside.mean + gap), _lean(outside, inside.mean - gap)


def _lean(side: Moments, guess: np.ndarray) -> np.ndarray:
    own = np.where(side.n < 2, side.n / 2, 1.0)
    return own * side.mean + (1 - own) * guess


def variance(side: Moments, *, per_example: bool) -> np.ndarray:
    """Variance per record, or one for all records, per label; always positive."""
    squares, freedom = side.residual_squares, np.maximum(side.n - 1, 0)
    pooled = squares.sum(axis=0, keepdims=True) / np.maximum(freedom.sum(axis=0, keepdims=True), 1)
    pooled = np.maximum(pooled, SMALLEST)
    return (squares + PRIOR * pooled) / (freedom + PRIOR) if per_example else pooled

"""The robust (relative) membership attack."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    ConfigError,
    Knowledge,
    MedleakError,
    ProblemSpec,
    Release,
    Shadow,
    ThreatModel,
    task_of,
)
from medleak.attacks._kernels import QUERIES, augmented, relative_rank
from medleak.attacks.membership._moments import InOutMoments, Moments
from medleak.attacks.membership._queries import Queries, labels_sent, population
from medleak.attacks.membership._shadows import each, is_auxiliary, one_of, positive, too_few

MODES = ("online", "offline")
GRID = tuple(round(0.1 * i, 1) for i in range(11))
DEFAULT_A = 0.3
"""`a` where it is to be tuned and there is no reference model to tune it on."""
TINY = 1e-30


class RMIA(Attack):
    r"""Share of population records that the record beats in likelihood ratio.

    .. math::
        R(x) = \frac{p(x | \theta)}{p(x)}, \qquad
        s(x) = \Pr_z\big[R(x) / R(z) \ge \gamma\big]

    with p the true outcome's probability in a softmax at `temperature` (product over the labels of a
    multi-label task, geometric mean over the pixels of a mask) and, over models with and without the record,

    .. math::
        p(x)_{online} = \tfrac12 (\bar p_{in} + \bar p_{out}), \qquad
        p(x)_{offline} = \tfrac12 \big[(1 + a)\, \bar p_{out} + (1 - a)\big].

    The z are auxiliary records, in no target's training set; shadows that were trained on a record
    never count towards its :math:`\bar p_{out}`. Online, a record without IN shadows (every z) gets
    :math:`\bar p_{in} = a\, \bar p_{out} + 1 - a`, with a fitted to the records that have both.

    Args:
        mode: "online" (``pool=audit``) or "offline".
        temperature: T of the softmax.
        gamma: how far a record must beat z. Scores rise with R(x) whatever it is, so it only decides
            which records tie: at 2, the paper's, nearly all of them where the leak is small.
        a: offline slope in 0..1; "tuned" takes that of 0, .1, ... 1 with the best AUC against the
            held-out reference model (0.3 where there is none), never against the target.
        max_population: most auxiliary records that are used; drawn with the attack's generator.
        queries: "identity" (1), "flip" (2) or "all" (18) of the record; it beats z where more than
            half of them do. Fewer where the query budget does not pay for all.

    Raises:
        ConfigError: an option out of range.
        MedleakError: no auxiliary record is outside all shadows.
    """

    version = 1
    requires = ThreatModel(
        goal="membership",
        access="scores",
        knowledge=("shadows", "auxiliary", "labels", "architecture"),
    )
    paper = "Zarifzadeh et al. 2024, Low-Cost High-Power Membership Inference Attacks, ICML"

    def __init__(
        self,
        *,
        mode: Literal["online", "offline"] = "online",
        temperature: float = 2.0,
        gamma: float = 1.0,
        a: float | Literal["tuned"] = "tuned",
        max_population: int = 10000,
        queries: Literal["identity", "flip", "all"] = "identity",
    ):
        self.mode = mode
        self.temperature = temperature
        self.gamma = gamma
        self.a = a
        self.max_population = max_population
        self.queries = queries

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        self._check_options()
        auxiliary = is_auxiliary(knowledge)
        least = 1 if auxiliary and self.mode == "offline" else 4
        reasons = too_few(knowledge, least, f"RMIA {self.mode}")
        if self.mode == "online" and auxiliary:
            reasons.append("RMIA online needs shadows with challenge patients: pool=audit")
        return reasons

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._check_options()
        self._knowledge = knowledge

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        model_queries = _ModelQueries(challenge, self._knowledge, self)
        answers = list(model_queries.probabilities(release))
        sides = [InOutMoments(p) for p in answers]
        for shadow in each(self._knowledge):
            asking = zip(
                model_queries.probabilities(shadow.release),
                model_queries.members(shadow),
                strict=True,
            )
            for side, (values, member) in zip(sides, asking, strict=True):
                side.add(values, member)
        p = np.concatenate(answers)
        inside = Moments.joined([side.inside for side in sides])
        outside = Moments.joined([side.outside for side in sides])
        z = model_queries.is_population & (outside.n > 0)
        if not z.any():
            raise MedleakError(
                "RMIA: no auxiliary record is outside a shadow, so none can serve as z"
            )
        if self.mode == "online":
            average = online_average(inside, outside)
        else:
            known = outside.n > 0
            out = np.where(known, outside.mean, outside.mean[known].mean())
            a = self._tuned(model_queries, out, known) if self.a == "tuned" else self.a
            average = offline_average(out, a)
        ratio = p / np.maximum(average, TINY)
        return self._dominated(
            ratio[~model_queries.is_population], ratio[z], model_queries.n_queries
        )

    def _dominated(self, x: np.ndarray, z: np.ndarray, n_queries: int) -> np.ndarray:
        return relative_rank(majority(x.reshape(n_queries, -1)), z, gamma=self.gamma)

    def _tuned(self, model_queries: _ModelQueries, out: np.ndarray, known: np.ndarray) -> float:
        """`a` with the best AUC against the reference model, whose membership the attacker knows."""
        from medleak.metrics.statistics.roc import auc

        reference = self._knowledge.reference
        if reference is None:
            return DEFAULT_A
        p = np.concatenate(list(model_queries.probabilities(reference.release)))
        member = np.concatenate(model_queries.members(reference))
        # A reference from the auxiliary pool is attacked on one half of those records, with z from
        # the other.
        coin = self._knowledge.rng.random(len(p)) < 0.5
        in_challenge = member[~model_queries.is_population].any()
        x = known & (
            ~model_queries.is_population if in_challenge else model_queries.is_population & coin
        )
        z = known & model_queries.is_population & ~x & ~member
        if not z.any() or member[x].all() or not member[x].any():
            return DEFAULT_A
        n_queries = model_queries.n_queries if in_challenge else 1
        truth = member[x].reshape(n_queries, -1)[0]

        def power(a: float) -> float:
            ratio = p / np.maximum(offline_average(out, a), TINY)
            return auc(self._dominated(ratio[x], ratio[z], n_queries), truth)

        return max(GRID, key=power)

    def _check_options(self) -> None:
        one_of("RMIA mode", self.mode, MODES)
        one_of("RMIA queries", self.queries, QUERIES)
        positive("RMIA temperature", self.temperature)
        positive("RMIA gamma", self.gamma)
        positive("RMIA max_population", self.max_population)
        number = isinstance(self.a, int | float) and not isinstance(self.a, bool)
        if self.a != "tuned" and not (number and 0 <= self.a <= 1):
            raise ConfigError(f"RMIA a is {self.a!r}: 'tuned' or a number in 0..1 is needed")


class _ModelQueries:
    """What every model is asked: the challenge, once per query, then the population."""

    def __init__(self, challenge: Challenge, knowledge: Knowledge, attack: RMIA):
        n, most, budget = len(challenge), attack.max_population, knowledge.budget
        queries = None
        if budget is not None:  # the population first: without it there is no score
            queries = max(1, (budget - min(most, len(knowledge.auxiliary or ()))) // max(1, n))
        made = partial(augmented, queries=attack.queries)
        self._sent = Queries(challenge.x, made, most=queries)
        self.n_queries = len(self._sent)
        spent = self.n_queries * n
        self._population, self._chosen = population(knowledge, "RMIA", most=most, spent=spent)
        self._task, self._temperature = task_of(knowledge.problem.task), attack.temperature
        self._labels = labels_sent(self._task, challenge.y, attack.queries, self.n_queries)
        self.is_population = np.arange(spent + len(self._population)) >= spent

    def probabilities(self, release: Release) -> Iterator[np.ndarray]:
        """Probability of the true outcome, part by part: ``(N,)`` per query, then ``(M,)``."""
        for x, y in zip(self._sent, self._labels, strict=True):
            yield self._probability(release, x, y)
        yield self._probability(release, self._population.x, self._population.y)

    def _probability(self, release: Release, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        log_p = release.scores(x)
        return self._task.tempered_probability(log_p, y, temperature=self._temperature)

    def members(self, shadow: Shadow) -> list[np.ndarray]:
        """Which of them the shadow was trained on, part by part."""
        return [*[shadow.member] * self.n_queries, shadow.auxiliary_member[self._chosen]]


def majority(ratios: np.ndarray) -> np.ndarray:
    """The largest ratio that more than half of the queries of each record reach, of ``(Q, N)``.

    A record beats z where more than half of its queries do, and these are those whose ratio is
    large enough: so that one of them, the same for every z, decides.
    """
    q = len(ratios)
    return np.partition(ratios, q - q // 2 - 1, axis=0)[q - q // 2 - 1] if q > 1 else ratios[0]


def offline_average(out: np.ndarray, a: float) -> np.ndarray:
    """``((1 + a) out + 1 - a) / 2``: the average over models with and without each record."""
    return ((1 + a) * out + 1 - a) / 2


def online_average(inside: Moments, outside: Moments) -> np.ndarray:
    """``(p_in + p_out) / 2``, where either is unknown by the line fitted to the records with both."""
    p_in, p_out = inside.mean, outside.mean
    has_in, has_out = inside.n > 0, outside.n > 0
    a = fitted_slope(p_in[has_in & has_out], p_out[has_in & has_out])
    without_in = 1 - a * (1 - p_out)
    without_out = np.clip(1 - (1 - p_in) / max(a, GRID[1]), 0.0, 1.0)
    return (np.where(has_in, p_in, without_in) + np.where(has_out, p_out, without_out)) / 2


def fitted_slope(p_in: np.ndarray, p_out: np.ndarray) -> float:
    """Least-squares `a` in 0..1 of ``1 - p_in = a (1 - p_out)``."""
    squares = ((1 - p_out) ** 2).sum()
    return float(np.clip(((1 - p_in) * (1 - p_out)).sum() / squares, 0.0, 1.0)) if squares else 1.0

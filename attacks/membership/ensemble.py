"""Several attacks stacked by logistic regression."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    Knowledge,
    MedleakError,
    ProblemSpec,
    Release,
    Shadow,
    Shadows,
    ThreatModel,
)
from medleak.attacks._arguments import whole
from medleak.attacks.membership._queries import known
from medleak.attacks.membership._shadows import n_shadows, too_few

RIDGE = 1e-3
"""Penalty on squared weights, per observation: enough to make them unique."""
ACCESS = ("labels", "scores")


class Ensemble(Attack):
    r"""A weighted sum of other attacks, with weights learned where shadows play the target.

    .. math:: s(x) = \sum_a w_a \, \Phi^{-1}\!\Big(\frac{r_a(x) - 1/2}{N}\Big)

    with :math:`r_a(x)` the rank of x among the N records by attack a (ties share their mean rank, so
    that infinite scores do no harm). Each of `targets` shadows plays the target once, with the other
    shadows as its pool; w minimises the logistic loss of their known membership. With ``pool=audit`` the
    records are those of the challenge: whether a shadow saw a record says nothing about whether the
    target did. With ``pool=auxiliary`` they are those of a random half of the auxiliary patients, the
    other half staying auxiliary. The audited membership has no part in either.

    Args:
        attacks: blocks with a `_target_` each, attacks on scores or labels; all of them have the
            ensemble's knowledge.
        targets: how many shadows play the target.
        nonnegative: whether weights below zero are ruled out: an attack that is no better than
            chance on the few targets then counts for nothing, and never the other way round.

    Raises:
        MedleakError: ``pool=auxiliary`` without auxiliary records.
    """

    version = 1
    requires = ThreatModel(
        goal="membership",
        access="scores",
        knowledge=("shadows", "auxiliary", "labels", "architecture"),
    )
    paper = "Wolpert 1992, Stacked Generalization, Neural Networks"

    def __init__(self, *, attacks: Sequence[Attack], targets: int = 3, nonnegative: bool = True):
        self.attacks = attacks
        self.targets = targets
        self.nonnegative = nonnegative

    def invalid_parameters(self) -> list[str]:
        found = whole("targets", self.targets)
        if not self.attacks:
            found.append("attacks is empty: a list of blocks with _target_ is needed")
        for attack in self.attacks:
            name = type(attack).__name__
            if not isinstance(attack, Attack) or attack.requires.goal != "membership":
                found.append(f"attacks: {name} is no membership attack")
            elif attack.requires.access not in ACCESS:
                needs = f"{name} needs '{attack.requires.access}'"
                found.append(f"attacks: {needs}, and an ensemble sees {' and '.join(ACCESS)}")
            else:
                found += [f"attacks: {name}: {fault}" for fault in attack.invalid_parameters()]
        return found

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        reasons = too_few(knowledge, self.targets + 1, "the ensemble")
        fewer = {**knowledge, "n_shadows": max(0, n_shadows(knowledge) - 1)}
        for attack in self.attacks:
            name = type(attack).__name__
            reasons += [
                f"{name} in the ensemble: {r}" for r in attack.incompatibilities(problem, fewer)
            ]
        return reasons

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        knowledge, games = self._knowledge, []
        played, rest = self._rehearsal(challenge)
        for t in range(self.targets):
            target = next(itertools.islice(rest.shadows, t, None))
            others = replace(rest, shadows=Others(rest.shadows, t))
            games.append((self._scores(target.release, played, others), target.member))
            knowledge.progress((t + 1) / (self.targets + 1))
        weights = stacked(*map(np.concatenate, zip(*games, strict=True)), self.nonnegative)
        return self._scores(release, challenge, knowledge) @ weights

    def _rehearsal(self, challenge: Challenge) -> tuple[Challenge, Knowledge]:
        """The records of the challenge when a shadow plays the target, and the attacker's other knowledge."""
        knowledge = self._knowledge
        if knowledge.pool == "audit":
            return challenge, knowledge
        records = known(knowledge, challenge, "the ensemble")
        patients = np.unique(records.patients)
        half = patients[knowledge.rng.random(len(patients)) < 0.5]
        chosen = np.isin(records.patients, half)
        if chosen.all() or not chosen.any():
            raise MedleakError("the ensemble needs more auxiliary patients")
        played = records.take(chosen)
        return (
            Challenge(played, np.full(len(played), "natural")),
            replace(
                knowledge,
                auxiliary=records.take(~chosen),
                shadows=Halves(knowledge.shadows, chosen),
                reference=knowledge.reference and halved(knowledge.reference, chosen),
            ),
        )

    def _scores(self, release: Release, challenge: Challenge, knowledge: Knowledge) -> np.ndarray:
        """Normal scores of every attack, ``(N, A)``."""
        share = None if knowledge.budget is None else knowledge.budget // len(self.attacks)
        columns = []
        for attack in self.attacks:
            rng = np.random.default_rng(int(self._knowledge.rng.integers(2**63)))
            quiet = replace(knowledge, rng=rng, budget=share, progress=lambda fraction: None)
            output = copy.copy(attack).execute(release, challenge, quiet)
            columns.append(normal_scores(output.scores))
        return np.column_stack(columns)


@dataclass(frozen=True)
class Others:
    """A pool less the shadow at `place`."""

    pool: Shadows
    place: int

    def __len__(self) -> int:
        return len(self.pool) - 1

    def __iter__(self) -> Iterator[Shadow]:
        return (shadow for k, shadow in enumerate(self.pool) if k != self.place)


@dataclass(frozen=True)
class Halves:
    """A pool of the auxiliary patients, with those at `chosen` as the challenge."""

    pool: Shadows
    chosen: np.ndarray

    def __len__(self) -> int:
        return len(self.pool)

    def __iter__(self) -> Iterator[Shadow]:
        return (halved(shadow, self.chosen) for shadow in self.pool)


def halved(shadow: Shadow, chosen: np.ndarray) -> Shadow:
    """The shadow, with the auxiliary records at `chosen` as the challenge."""
    member = shadow.auxiliary_member
    return Shadow(member[chosen], member[~chosen], shadow.release)


def normal_scores(scores: np.ndarray) -> np.ndarray:
    """Normal quantiles of the ranks, ``(N,)``; ties share their mean rank."""
    from scipy.special import ndtri
    from scipy.stats import rankdata

    return ndtri((rankdata(scores) - 0.5) / max(1, len(scores)))


def stacked(x: np.ndarray, member: np.ndarray, nonnegative: bool) -> np.ndarray:
    r"""Weights ``(A,)`` of the logistic regression of `member` ``(P,)`` on `x` ``(P, A)``.

    .. math:: \min_{w, b} \frac1P \sum_i \log(1 + e^{-m_i (w x_i + b)}) + \tfrac{\rho}{2} |w|^2

    with :math:`m_i = \pm 1` and, where `nonnegative`, :math:`w \ge 0`. Equal weights where none helps.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    design, sign = np.column_stack([x, np.ones(len(x))]), 2.0 * member - 1
    penalty = np.append(np.full(x.shape[1], RIDGE), 0.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (design @ w)
        gradient = -(sign * expit(-margin)) @ design / len(design)
        value = np.logaddexp(0, -margin).mean() + (penalty * w * w).sum() / 2
        return value, gradient + penalty * w

    bounds = [(0.0 if nonnegative else None, None)] * x.shape[1] + [(None, None)]
    weights = minimize(loss, np.zeros(len(penalty)), jac=True, bounds=bounds).x[:-1]
    return weights if weights.any() else np.full(x.shape[1], 1 / x.shape[1])

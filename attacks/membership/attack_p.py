"""The population attack."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, Release, ThreatModel, task_of
from medleak.api.scores import zero_floor
from medleak.attacks._arguments import whole
from medleak.attacks._kernels import tail_score
from medleak.attacks.membership._queries import population

SMALLEST = 1e-6
"""Least standard deviation: a release may answer the same for all records."""


class AttackP(Attack):
    r"""How rare so low a loss is among auxiliary records of the same class; no shadows.

    .. math::
        s(x) = -\log \frac{\#\{z: \ell(z) < \ell(x)\} + \tfrac12 \#\{z: \ell(z) = \ell(x)\}
                           + 1 - \Phi(t(x))}{M + 1}

    over the M auxiliary records z of x's class, of all classes where it has fewer than
    `least_per_class`. The paper's p-value has M + 1 levels, and the surest records all share the
    lowest: here the normal distribution of the z's logit scores counts as one more z, with
    :math:`t` the logit score of x standardised by it. The loss enters by that score,
    :math:`\phi = \log(p_y / (1 - p_y))`, which has the same order. Multi-label: a class per label and
    value; scores add up over labels (Fisher's combination).

    Args:
        least_per_class: fewest auxiliary records of a class that are compared with alone.
        max_population: most auxiliary records used; drawn with the attack's generator.

    Raises:
        MedleakError: there are no auxiliary records.
    """

    version = 1
    requires = ThreatModel(goal="membership", access="scores", knowledge=("auxiliary", "labels"))
    paper = (
        "Ye et al. 2022, Enhanced Membership Inference Attacks against Machine Learning Models, CCS"
    )

    def __init__(self, *, least_per_class: int = 50, max_population: int = 10000):
        self.least_per_class = least_per_class
        self.max_population = max_population

    def invalid_parameters(self) -> list[str]:
        return whole("least_per_class", self.least_per_class) + whole(
            "max_population", self.max_population
        )

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        records, _ = population(
            self._knowledge, "Attack-P", most=self.max_population, spent=len(challenge)
        )
        log_p, log_p_z = release.scores(challenge.x), release.scores(records.x)
        floor = zero_floor(log_p)
        phi = self._task.logit_score(log_p, challenge.y, floor=floor)
        phi_z = self._task.logit_score(log_p_z, records.y, floor=floor)
        y, y_z = self._task.classes(challenge.y), self._task.classes(records.y)
        columns = zip(phi.T, y.T, phi_z.T, y_z.T, strict=True)
        return sum(rarity(*column, least=self.least_per_class) for column in columns)


def rarity(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, y_z: np.ndarray, *, least: int
) -> np.ndarray:
    """`tail_score` of each x ``(N,)`` of class y among the z ``(M,)`` of its class, or all z."""
    score = np.empty(len(x))
    for c in np.unique(y):
        peers = z[y_z == c] if (y_z == c).sum() >= least else z
        own, peers = y == c, np.sort(peers)
        low, high = (np.searchsorted(peers, x[own], side=side) for side in ("left", "right"))
        deviate = (x[own] - peers.mean()) / max(peers.std(), SMALLEST)
        score[own] = tail_score(len(peers) - high, high - low, len(peers), deviate)
    return score

"""The label-only attack by distance to the decision boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, ProblemSpec, Release, ThreatModel
from medleak.attacks._arguments import one_class, whole
from medleak.attacks.membership._hopskipjump import Walks

LEAST = 25
"""Fewest queries that are worth spending on a record: about two bisections."""
BLOCK = 2**23
"""Most numbers in one request: records walk together in blocks."""


class BoundaryDistance(Attack):
    r"""Distance from the record to the nearest point that the model labels otherwise.

    .. math:: s(x, y) = \min \{ \lVert x' - x \rVert_2 : \hat y(x') \ne \hat y(x) \}

    where the label is right, and 0 where it is wrong. The points x' are those that HopSkipJump (see
    `Walks`) queries on its way to the boundary, so that the score is a true upper bound wherever it
    is stopped. Its starting point is the nearest challenge record with another label, which costs
    nothing. Pixels and, by their range over the challenge, the columns of a table run from 0 to 1. Only
    labels are seen.

    Queries: one for each record, then equal shares of the rest for the records that are labelled
    rightly, at most `queries` each. A share below 25 goes to fewer records, drawn at random: a record
    without one gets the neutral score, the median distance of those with one; and where the budget
    does not even pay for every label, a record without a label gets the median score. No model gets
    more queries than the budget.

    Args:
        queries: most queries of a record's boundary.
        evaluations: queries per step that estimate the boundary's direction.
    """

    version = 2
    requires = ThreatModel(goal="membership", access="labels", knowledge=("labels",))
    paper = "Li & Zhang 2021, Membership Leakage in Label-Only Exposures, CCS"

    def __init__(self, *, queries: int = 200, evaluations: int = 30):
        self.queries = queries
        self.evaluations = evaluations

    def invalid_parameters(self) -> list[str]:
        return whole("queries", self.queries, least=LEAST) + whole("evaluations", self.evaluations)

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return one_class("a boundary between classes", problem)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        rng, budget, n = self._knowledge.rng, self._knowledge.budget, len(challenge)
        asked = np.arange(n)
        if budget is not None and budget < n:
            asked = np.sort(rng.choice(n, budget, replace=False))
        labels = np.full(n, -1)
        if len(asked):
            labels[asked] = release.labels(challenge.x[asked])
        right = np.flatnonzero(labels == challenge.y)
        share, many = shares(len(right), None if budget is None else budget - n, self.queries)
        tried = np.sort(rng.permutation(right)[:many])
        distance = np.zeros(n)
        distance[right] = np.nan
        distance[tried] = self._distances(release, challenge.x, labels, tried, share)
        distance[right] = neutral(distance[right])
        unknown = labels == -1
        if unknown.any() and not unknown.all():
            distance[unknown] = np.median(distance[~unknown])
        return distance

    def _distances(
        self, release: Release, x: np.ndarray, labels: np.ndarray, tried: np.ndarray, share: int
    ) -> np.ndarray:
        """Distances of the records at `tried`; NaN where no record has another label."""
        space = _Unit(x)
        points = space.inside(x)
        found = np.full(len(tried), np.nan)

        def ask(sent: np.ndarray) -> np.ndarray:
            return release.labels(space.outside(sent.reshape(-1, *x.shape[1:])))

        size = max(1, BLOCK // (self.evaluations * points.shape[1]))
        for first in range(0, len(tried), size):
            part = tried[first : first + size]
            start = nearest_other(points, labels, part)
            part, start = part[start >= 0], start[start >= 0]
            walks = Walks(
                ask, points=points[part], starts=points[start], labels=labels[part], share=share
            )
            at = np.searchsorted(tried, part)
            found[at] = walks.distances(self.evaluations, self._knowledge.rng)
            self._knowledge.progress(min(1.0, (first + size) / len(tried)))
        return found


def shares(n: int, left: int | None, most: int) -> tuple[int, int]:
    """Queries of each record, and how many of `n` records get them, when `left` may be spent."""
    if left is None or n == 0:
        return most, n
    share = min(most, max(LEAST, left // n))
    return share, max(0, min(n, left // share))


def neutral(distance: np.ndarray) -> np.ndarray:
    """`distance` with the median in place of NaN (1 where nothing was measured: above a wrong label)."""
    known = distance[~np.isnan(distance)]
    return np.where(np.isnan(distance), np.median(known) if len(known) else 1.0, distance)


def nearest_other(points: np.ndarray, labels: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Nearest point with another known label of each point at `which`; -1 where there is none.

    Args:
        points: ``(N, D)``.
        labels: ``(N,)``, -1 where unknown.
    """
    own = points[which]
    squares = (points**2).sum(axis=1) - 2 * own @ points.T  # less the own square
    other = (labels != labels[which][:, None]) & (labels >= 0)
    nearest = np.where(other, squares, np.inf).argmin(axis=1)
    return np.where(other.any(axis=1), nearest, -1)


class _Unit:
    """Records as points ``(N, D)`` in 0..1, and back as the release takes them."""

    def __init__(self, x: np.ndarray):
        self.low, self.range = np.float32(0), np.float32(255 if x.dtype == np.uint8 else 1)
        self.image = x.ndim == 4
        if not self.image:
            self.low = x.min(axis=0)
            self.range = np.where(np.ptp(x, axis=0) > 0, np.ptp(x, axis=0), 1).astype(np.float32)

    def inside(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.low) / self.range).astype(np.float32).reshape(len(x), -1)

    def outside(self, points: np.ndarray) -> np.ndarray:
        """Float images lie in 0..1 for a release whatever the records are."""
        return points if self.image else self.low + points * self.range

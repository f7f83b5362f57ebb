"""The label-only attack by distance to the decision boundary."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, Release, Setting, ThreatModel
from medleak.attacks.membership._arguments import whole
from medleak.attacks.membership.art import seeded

LEAST = 25
"""Fewest queries that are worth spending on a record: about two bisections."""
SENT = 16
"""Most records in one request: the bench stores the answers to larger ones, for the next attack."""


class BoundaryDistance(Attack):
    r"""Distance from the record to the nearest point that the model labels otherwise.

    .. math:: s(x, y) = \min \{ \lVert x' - x \rVert_2 : \hat y(x') \ne \hat y(x) \}

    where the label is right, and 0 where it is wrong. The points x' are those that HopSkipJump (Chen et
    al. 2020, of the Adversarial Robustness Toolbox) asks about on its way to the boundary, so that the
    score is a true upper bound wherever it is stopped. Its starting point is the nearest challenge
    record with another label, which costs nothing. Pixels and, by their range over the challenge, the
    columns of a table run from 0 to 1. Only labels are seen.

    Queries: one for each record, then equal shares of the rest for the records that are labelled
    rightly, at most `queries` each. A share below 25 goes to fewer records, drawn at random: a record
    without one gets the neutral score, the median distance of those with one; and where the budget
    does not even pay for every label, a record without a label gets the median score. No model is
    asked more than the budget.

    Args:
        queries: most queries of a record's boundary.
        evaluations: queries per step that estimate the boundary's direction.
    """

    version = 1
    requires = ThreatModel(goal="membership", access="labels", knowledge=("labels",))
    paper = "Li & Zhang 2021, Membership Leakage in Label-Only Exposures, CCS"

    def __init__(self, *, queries: int = 100, evaluations: int = 30):
        self.queries = queries
        self.evaluations = evaluations

    def faults(self) -> list[str]:
        return whole("queries", self.queries, least=LEAST) + whole("evaluations", self.evaluations)

    def refusals(self, setting: Setting, knowledge: Mapping[str, Any]) -> list[str]:
        if setting.task == "multilabel":
            return ["a boundary between classes is needed; the task is multi-label"]
        return []

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
        with seeded(int(rng.integers(2**32))):
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
        for at, i in enumerate(tried):
            others = np.flatnonzero((labels != labels[i]) & (labels >= 0))
            if not len(others):
                return found
            start = others[np.argmin(_distance(points[others], points[i]))]
            walk = _Walk(release, space, points[i], points[start], labels[[i, start]], share)
            found[at] = walk.distance(self.evaluations, self._knowledge.setting.n_outputs)
            self._knowledge.progress((at + 1) / len(tried))
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


def _distance(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    return np.linalg.norm((points - to).reshape(len(points), -1), axis=1)


class _Unit:
    """Records as points in 0..1, and back as the release takes them."""

    def __init__(self, x: np.ndarray):
        self.low, self.range = np.float32(0), np.float32(255 if x.dtype == np.uint8 else 1)
        self.image = x.ndim == 4
        if not self.image:
            self.low = x.min(axis=0)
            self.range = np.where(np.ptp(x, axis=0) > 0, np.ptp(x, axis=0), 1).astype(np.float32)

    def inside(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.low) / self.range).astype(np.float32)

    def outside(self, points: np.ndarray) -> np.ndarray:
        """Float images lie in 0..1 for a release whatever the records are."""
        return points if self.image else self.low + points * self.range


class _Spent(Exception):
    """The record's share of the queries is used up."""


class _Walk:
    """HopSkipJump from one record, watched: queries are counted, the nearest other label is kept."""

    def __init__(
        self,
        release: Release,
        space: _Unit,
        point: np.ndarray,
        start: np.ndarray,
        labels: np.ndarray,
        share: int,
    ):
        self.release, self.space, self.left = release, space, share
        self.point, self.start, self.label = point, start, int(labels[0])
        self.known = {p.tobytes(): int(c) for p, c in zip((point, start), labels, strict=True)}
        self.nearest = float(_distance(start[None], point)[0])

    def distance(self, evaluations: int, n_outputs: int) -> float:
        from art.attacks.evasion import HopSkipJump
        from art.estimators.classification import BlackBoxClassifier

        walk = self

        class Served(BlackBoxClassifier):
            def predict(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> np.ndarray:
                return np.eye(n_outputs, dtype=np.float32)[walk.ask(x)]

        served = Served(
            predict_fn=self.ask,
            input_shape=self.point.shape,
            nb_classes=n_outputs,
            clip_values=(0.0, 1.0),
        )
        jump = HopSkipJump(
            served,
            max_iter=self.left,  # each takes more than one query: the share ends it
            init_eval=evaluations,
            max_eval=evaluations,
            verbose=False,
        )
        with contextlib.suppress(_Spent):
            # Without a starting point it would draw one from a generator that cannot be seeded.
            jump.generate(x=self.point[None], x_adv_init=self.start[None].copy())
        return self.nearest

    def ask(self, points: np.ndarray) -> np.ndarray:
        """Labels of `points`; what was asked before is not asked again."""
        points = points.astype(np.float32)
        if len(points) == 1 and points.tobytes() in self.known:
            return np.array([self.known[points.tobytes()]])
        found = []
        for first in range(0, len(points), SENT):
            part = points[first : first + min(SENT, self.left)]
            if not len(part):
                raise _Spent
            found.append(self.release.labels(self.space.outside(part)))
            self.left -= len(part)
            other = found[-1] != self.label
            if other.any():
                self.nearest = float(min(self.nearest, *_distance(part[other], self.point)))
        found = np.concatenate(found)
        if len(found) < len(points):
            raise _Spent
        return found

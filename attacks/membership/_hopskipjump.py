"""HopSkipJump from many records in step, with every query paid for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

FIRST_DELTA = 0.1
"""Radius of a record's first estimate; later ones have `THETA` times its distance."""
THETA = 0.01
SMALLEST = 1e-12
"""Length that stands for zero."""


class Walks:
    r"""Walks along a decision boundary, from points with another label towards the records.

    At each turn t a point x' with another label is moved as in Chen et al. 2020, *HopSkipJumpAttack*,
    IEEE S&P:

    1. bisection between the record x and x', down to :math:`.01 / \sqrt D` of the way;
    2. the direction :math:`\sum_b (f_b - \bar f) u_b` from the labels :math:`f_b = \pm 1` of points
       :math:`x' + \delta u_b`, with u uniform on the sphere (:math:`\sum_b f_b u_b` where all agree);
    3. a step of length :math:`\lVert x' - x \rVert / \sqrt t`, halved until the label is another one.

    These are the rules and constants of the Adversarial Robustness Toolbox, which walks from one record
    after the other: most of its requests hold a single query, and a network then spends its time on
    being called. Here a request holds the queries of every record.

    No share is overdrawn, and none is left: an estimate takes at most half of what there is, and turns
    follow until all is spent.

    Args:
        ask: points ``(M, D)`` float32 in 0..1 to labels ``(M,)``.
        points: the records, ``(N, D)`` float32.
        starts: points with other labels, ``(N, D)`` float32.
        labels: of the records, ``(N,)``.
        share: queries of each.

    Attributes:
        left: queries that are left of each share, ``(N,)``.
        nearest: distance of the nearest point with another label seen so far, ``(N,)`` float64.
    """

    def __init__(
        self,
        ask: Callable[[np.ndarray], np.ndarray],
        *,
        points: np.ndarray,
        starts: np.ndarray,
        labels: np.ndarray,
        share: int,
    ):
        self.ask, self.points, self.labels = ask, points, labels
        self.at = starts.copy()
        self.left = np.full(len(points), share)
        self.nearest = lengths(starts - points).astype(np.float64)

    def distances(self, evaluations: int, rng: np.random.Generator) -> np.ndarray:
        """Walk until all shares are spent; `nearest`.

        Args:
            evaluations: most queries of an estimate.
            rng: draws the directions.
        """
        turn = 1
        while len(walking := np.flatnonzero(self.left)):
            self._approach(walking)
            walking = walking[self.left[walking] > 0]
            self._step(walking, self._direction(walking, evaluations, rng, turn), turn)
            turn += 1
        return self.nearest

    def _approach(self, walking: np.ndarray) -> None:
        """Bisection between record and point."""
        here = self.points[walking]
        along = self.at[walking] - here
        low, high = np.zeros((len(here), 1), np.float32), np.ones((len(here), 1), np.float32)
        for _ in range(int(np.ceil(np.log2(np.sqrt(here.shape[1]) / THETA)))):
            middle = (low + high) / 2
            other, asked = self._other(walking, (here + middle * along)[:, None])
            high = np.where(other, middle, high)
            low = np.where(asked & ~other, middle, low)
        self.at[walking] = here + high * along

    def _direction(
        self, walking: np.ndarray, evaluations: int, rng: np.random.Generator, turn: int
    ) -> np.ndarray:
        """Unit vectors ``(n, D)`` from the points into the region of other labels."""
        at = self.at[walking]
        most = np.minimum(evaluations, np.maximum(1, self.left[walking] // 2))
        delta = THETA * lengths(at - self.points[walking])
        if turn == 1:
            delta = np.full_like(delta, FIRST_DELTA)
        shape = (len(at), int(most.max(initial=1)), at.shape[1])
        sent = rng.standard_normal(shape, dtype=np.float32)
        sent *= (delta[:, None] / np.maximum(lengths(sent), SMALLEST))[..., None]
        sent = np.clip(at[:, None] + sent, 0, 1)
        other, asked = self._other(walking, sent, most)
        sign = np.where(other, 1.0, -1.0) * asked
        mean = sign.sum(axis=1, keepdims=True) / most[:, None]
        sign -= np.where(np.abs(mean) == 1, 0.0, mean) * asked
        sent -= at[:, None]
        towards = (sign.astype(np.float32)[:, None] @ sent)[:, 0]
        return towards / np.maximum(lengths(towards), SMALLEST)[:, None]

    def _step(self, walking: np.ndarray, towards: np.ndarray, turn: int) -> None:
        """Away along `towards`, no further than another label reaches."""
        at = self.at[walking]
        size = lengths(at - self.points[walking]) / np.float32(np.sqrt(turn))
        todo = np.arange(len(walking))
        while len(todo):
            sent = np.clip(at[todo] + size[todo, None] * towards[todo], 0, 1)
            other, asked = (answer[:, 0] for answer in self._other(walking[todo], sent[:, None]))
            self.at[walking[todo[other]]] = sent[other]
            size /= 2
            todo = todo[asked & ~other]

    def _other(
        self, which: np.ndarray, sent: np.ndarray, most: np.ndarray | int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whether points ``(n, k, D)`` of some records have another label, and whether they were asked.

        The first `most` of each record are, as far as its share reaches.
        """
        paid = np.minimum(most, self.left[which])
        asked = np.arange(sent.shape[1]) < paid[:, None]
        other = np.zeros(asked.shape, dtype=bool)
        if asked.any():
            other[asked] = self.ask(sent[asked]) != np.repeat(self.labels[which], paid)
        self.left[which] -= paid
        far = np.where(other, lengths(sent - self.points[which][:, None]), np.inf)
        self.nearest[which] = np.minimum(self.nearest[which], far.min(axis=1))
        return other, asked


def lengths(vectors: np.ndarray) -> np.ndarray:
    """Euclidean norms along the last axis."""
    return np.sqrt(np.einsum("...d,...d->...", vectors, vectors))

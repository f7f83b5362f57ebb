"""The label-only attack by votes over augmented queries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    Knowledge,
    MedleakError,
    ProblemSpec,
    Release,
    ThreatModel,
)
from medleak.attacks._arguments import choice, no_masks, number, whole
from medleak.attacks._kernels import QUERIES, augmented
from medleak.attacks.membership._queries import Queries, known
from medleak.attacks.membership._supervised import examples, learned
from medleak.core.keys import rng_for

TABLE_QUERIES = {"identity": 1, "flip": 2, "all": 18}
"""Queries of a table under the names of those of an image."""


class AugmentationVotes(Attack):
    r"""How often the served label stays right when the record is moved a little.

    .. math:: v_q(x, y) = \mathbb 1[\hat y(T_q x) = y], \qquad s(x, y) = \tfrac1Q \sum_q v_q

    :math:`T_q` are the record itself, its mirror image, both under eight shifts of a sixteenth of a
    side, and rotations: the same ones, in the same order, for every record and model. A table is
    moved by fixed directions of Gaussian noise instead. With shadows the score is the log-odds of a
    logistic regression on the votes :math:`(v_1, ..., v_Q)`, learned on what the shadows answer about
    their own members and non-members: it finds out which transformations the training knew. In a
    multi-label task a vote is the share of labels that are right.

    A query budget pays for the first transformations only, as many for each record.

    Args:
        queries: "identity" (1), "flip" (2) or "all" (18).
        rotations: degrees of further queries of an image, edges repeated.
        noise: of a table's queries, in standard deviations of each column.
        n_teachers: shadows that the votes are weighed on, the first ones: each is asked as much as
            the target.

    Raises:
        MedleakError: a budget below one query per record.
    """

    version = 2
    requires = ThreatModel(goal="membership", access="labels", knowledge=("labels", "shadows"))
    paper = "Choquette-Choo et al. 2021, Label-Only Membership Inference Attacks, ICML"

    def __init__(
        self,
        *,
        queries: Literal["identity", "flip", "all"] = "all",
        rotations: Sequence[float] = (-4, 4, -8, 8),
        noise: float = 0.1,
        n_teachers: int = 4,
    ):
        self.queries = queries
        self.rotations = rotations
        self.noise = noise
        self.n_teachers = n_teachers

    def invalid_parameters(self) -> list[str]:
        found = choice("queries", self.queries, QUERIES) + number("noise", self.noise, above=0)
        found += whole("n_teachers", self.n_teachers)
        if not isinstance(self.rotations, Sequence) or not all(map(_degrees, self.rotations)):
            found.append(f"rotations {self.rotations!r} must be a list of degrees")
        return found

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        budget, least = knowledge.get("budget"), 2 * problem.n_records - 1
        reasons = no_masks("AugmentationVotes", problem)
        if budget is None or budget >= least:
            return reasons
        return [
            *reasons,
            f"a budget of {budget} is less than one query for each of some {least + 1} records",
        ]

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        knowledge, most = self._knowledge, None
        if knowledge.budget is not None:
            most = knowledge.budget // max(1, len(challenge))
            if most == 0 and len(challenge):
                raise MedleakError(
                    f"a budget of {knowledge.budget} is less than one query for each of "
                    f"{len(challenge)} records"
                )
        spread = challenge.x.std(axis=0) if challenge.x.ndim == 2 else None

        made = partial(self._moved, spread=spread)
        sent = Queries(challenge.x, made, most=most)
        own = votes(release, sent, challenge.y)
        if not knowledge.shadows:
            return own.mean(axis=1)
        who = "AugmentationVotes"
        if knowledge.pool == "auxiliary":
            sent = Queries(known(knowledge, challenge, who).x, made, most=most)
        seen = examples(
            lambda shadow, records: votes(shadow.release, sent, records.y),
            challenge,
            knowledge,
            who,
            most=self.n_teachers,
        )
        return learned("logistic", *seen)(own)

    def _moved(self, x: np.ndarray, spread: np.ndarray | None) -> Iterator[np.ndarray]:
        """The records as they are sent, one transformation after the other."""
        if spread is None:
            yield from augmented(x, self.queries)
            yield from (turned(x, degrees) for degrees in self.rotations)
            return
        yield x
        for q in range(1, TABLE_QUERIES[self.queries]):
            direction = rng_for("augmentation votes", q).standard_normal(x.shape[1])
            yield (x + self.noise * spread * direction).astype(x.dtype)


def votes(release: Release, sent: Queries, y: np.ndarray) -> np.ndarray:
    """Share of each record's labels that are right, by query, ``(N, Q)``."""
    right = [release.labels(x) == y for x in sent]
    return np.stack([r.reshape(len(r), -1).mean(axis=1) for r in right], axis=1)


def turned(x: np.ndarray, degrees: float) -> np.ndarray:
    """Images ``(N, C, H, W)`` turned about their centre, bilinear, edges repeated."""
    from scipy.ndimage import rotate

    options = {"axes": (2, 3), "reshape": False, "order": 1, "mode": "nearest"}
    moved = rotate(x.astype(np.float32), degrees, **options)
    return np.rint(moved).astype(x.dtype) if x.dtype == np.uint8 else moved


def _degrees(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

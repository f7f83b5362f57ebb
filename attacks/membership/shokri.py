"""The shadow-classifier attack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Attack, Challenge, Knowledge, ProblemSpec, Release, ThreatModel, task_of
from medleak.api.scores import zero_floor
from medleak.attacks._arguments import no_masks, whole
from medleak.attacks.membership._queries import inside, known
from medleak.attacks.membership._shadows import each, too_few


class Shokri(Attack):
    r"""A classifier per class, learned on what shadows answer about members and non-members.

    .. math:: s(x, y) = \log \frac{\Pr[\text{member} \mid v(x, y)]}{1 - \Pr[\text{member} \mid v(x, y)]}

    where v holds the log-probability of the true outcome and then those of the others, largest first,
    `top` of them at most: the paper's vector with the class made its first entry, so that it means the
    same for every class. Gradient-boosted trees (scikit-learn) stand for the paper's network: only the
    order of a log-probability matters to them, and none has to be scaled. A class with fewer than
    `least_per_class` pairs of (shadow, record) in either group shares one classifier for all classes, whose
    inputs include the class. A multi-label task has a classifier per label and value; their scores add up.

    They learn on challenge records (``pool=audit``) or auxiliary ones (``pool=auxiliary``), from the
    shadows' membership, never from the audited one.

    Args:
        top: most outcomes that a classifier sees.
        least_per_class: fewest members, and non-members, that a class needs for a classifier.
        max_fit: most (shadow, record, label) triples that are learned from; drawn with the attack's
            generator.

    Raises:
        MedleakError: ``pool=auxiliary`` without auxiliary records.
    """

    version = 1
    requires = ThreatModel(
        goal="membership", access="scores", knowledge=("shadows", "labels", "architecture")
    )
    paper = (
        "Shokri et al. 2017, Membership Inference Attacks Against Machine Learning Models, IEEE S&P"
    )

    def __init__(self, *, top: int = 10, least_per_class: int = 200, max_fit: int = 200000):
        self.top = top
        self.least_per_class = least_per_class
        self.max_fit = max_fit

    def invalid_parameters(self) -> list[str]:
        names = ("top", "least_per_class", "max_fit")
        return [fault for name in names for fault in whole(name, getattr(self, name))]

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return too_few(knowledge, 1, "the shadow classifier") + no_masks(
            "the shadow classifier", problem
        )

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        log_p = release.scores(challenge.x)
        floor = zero_floor(log_p)
        examples = self._examples(challenge, floor)
        vectors = self._features(log_p, challenge.y, floor)
        wanted = self._task.classes(challenge.y)
        return self._odds(examples, vectors.reshape(-1, vectors.shape[-1]), wanted.ravel()).reshape(
            wanted.shape
        ).sum(axis=1)  # fmt: skip

    def _examples(self, challenge: Challenge, floor: float) -> tuple[np.ndarray, ...]:
        """Vectors, classes and membership of (shadow, record, label) triples."""
        knowledge = self._knowledge
        records = known(knowledge, challenge, "the shadow classifier")
        own = self._task.classes(records.y)
        share = min(1.0, self.max_fit / max(1, len(knowledge.shadows) * own.size))
        parts = []
        for shadow in each(knowledge):
            drawn = np.ones(own.shape, dtype=bool)
            if share < 1:
                drawn = knowledge.rng.random(own.shape) < share
            vectors = self._features(shadow.release.scores(records.x), records.y, floor)
            member = np.broadcast_to(inside(knowledge, shadow)[:, None], own.shape)
            parts.append((vectors[drawn].astype(np.float32), own[drawn], member[drawn]))
        return tuple(map(np.concatenate, zip(*parts, strict=True)))

    def _features(self, log_p: np.ndarray, y: np.ndarray, floor: float) -> np.ndarray:
        return features(*self._task.questions(log_p, y), top=self.top, floor=floor)

    def _odds(
        self, examples: tuple[np.ndarray, ...], vectors: np.ndarray, wanted: np.ndarray
    ) -> np.ndarray:
        """Log-odds of membership of `vectors` ``(R, top)`` of classes `wanted` ``(R,)``."""
        seen, of_class, member = examples
        odds, alone = np.zeros(len(vectors)), []
        for c in np.unique(wanted):
            own, queried = of_class == c, wanted == c
            sides = member[own].sum(), (~member[own]).sum()
            if min(sides) >= self.least_per_class:
                odds[queried] = log_odds(seen[own], member[own], vectors[queried])
                alone.append(c)
        rest = ~np.isin(wanted, alone)
        if rest.any():
            told = np.column_stack([seen, of_class])
            odds[rest] = log_odds(told, member, np.column_stack([vectors, wanted])[rest])
        return odds


def features(log_p: np.ndarray, y: np.ndarray, *, top: int, floor: float) -> np.ndarray:
    """Log-probability of the true outcome, then of the others, largest first: ``(N, L, C or top)``.

    Shapes: `log_p` ``(N, L, C)``, `y` ``(N, L)``.
    """
    log_p = np.maximum(log_p, floor)
    own = np.arange(log_p.shape[-1]) == y[..., None]
    others = -np.sort(-np.where(own, -np.inf, log_p), axis=-1)[..., : max(0, top - 1)]
    true = np.take_along_axis(log_p, y[..., None], axis=-1)
    return np.concatenate([true, others], axis=-1)[..., : log_p.shape[-1]]


def log_odds(seen: np.ndarray, member: np.ndarray, queried: np.ndarray) -> np.ndarray:
    """Log-odds that boosted trees fitted to ``(P, F)`` and ``(P,)`` give to ``(R, F)``."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    if member.all() or not member.any():
        return np.zeros(len(queried))
    # Small trees: membership is faint, and larger ones memorise the shadows' noise.
    trees = HistGradientBoostingClassifier(
        max_iter=50, max_leaf_nodes=8, min_samples_leaf=50, early_stopping=False, random_state=0
    )
    return trees.fit(seen, member).decision_function(queried)

"""A property of the training set from the model's answers about other patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Knowledge,
    ProblemSpec,
    PropertyChallenge,
    Records,
    Release,
    Shadow,
    Task,
    ThreatModel,
    task_of,
)
from medleak.api.scores import zero_floor
from medleak.attacks._arguments import no_masks
from medleak.attacks.property._meta import meta_classifier_scores


class ScoreProperty(Attack):
    r"""A meta-classifier on how sure the model is of patients with the value, and of those without.

    .. math:: \text{mean and spread of } \log p_y - \log \sum_{j \ne y} p_j

    over the auxiliary records of each class with and without the value: a model that has seen few women is less sure
    of women. Of a shadow only those count that it was not trained on, as the target was trained on none.
    The log-odds of a ridge regression over shadows are the score.
    """

    version = 1
    requires = ThreatModel(
        goal="property", access="scores", knowledge=("auxiliary", "labels", "shadows")
    )
    paper = (
        "Parisot et al. 2021, Property Inference Attacks on Convolutional Neural Networks, SECRYPT"
    )

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return no_masks("ScoreProperty", problem)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: PropertyChallenge) -> np.ndarray:
        records = self._knowledge.auxiliary
        own = np.asarray(records.groups[challenge.attribute]) == challenge.value
        everybody = np.ones(len(records), dtype=bool)

        def observe(shadow: Shadow) -> np.ndarray:
            told = ~shadow.auxiliary_member
            return confidence(shadow.release, records, own, told, task=self._task)

        return meta_classifier_scores(
            confidence(release, records, own, everybody, task=self._task),
            observe,
            self._knowledge,
            challenge,
        )


def confidence(
    release: Release, records: Records, own: np.ndarray, queried: np.ndarray, *, task: Task
) -> np.ndarray:
    """Mean and spread of the logit score by label, value and class, float64 ``(F,)``; 0 where nobody is.

    Args:
        own: who has the value, ``(N,)`` bool.
        queried: which records count, ``(N,)`` bool.
    """
    log_p = release.scores(records.x)
    scores = task.logit_score(log_p, records.y, floor=zero_floor(log_p))
    labels = task.questions(log_p, records.y)[1]
    found = []
    for told, label in zip(scores.T, labels.T, strict=True):
        for side in (own, ~own):
            for c in range(log_p.shape[-1]):
                some = told[queried & side & (label == c)]
                found += [some.mean(), some.std()] if len(some) else [0.0, 0.0]
    return np.array(found)

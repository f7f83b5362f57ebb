"""The attribute attack of the Adversarial Robustness Toolbox, on tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Attack, AttributeChallenge, Knowledge, ProblemSpec, Release, ThreatModel
from medleak.attacks._arguments import one_class
from medleak.attacks.membership.art import MODELS, classifier, one_hot, seeded
from medleak.core.suggestions import unknown


class ARTAttribute(Attack):
    """ART's ``AttributeInferenceBlackBox``: the feature from the others, the predicted class and the label.

    It learns on auxiliary patients. ART sees a classifier whose ``predict`` is ``exp(scores)`` and answers with
    decisions: the score of a value is 1 where it is the decision, else 0, so that the AUC is that of one
    operating point. ART draws from global generators: they are seeded from the attack's own and put
    back afterwards.

    Args:
        model: ART's ``attack_model_type``: "nn", "rf", "gb", "lr", "dt", "knn" or "svm".
        label: whether the attack also gets the true label.
    """

    version = 1
    requires = ThreatModel(goal="attribute", access="scores", knowledge=("auxiliary", "labels"))
    paper = "Nicolae et al. 2018, Adversarial Robustness Toolbox, arXiv:1807.01069"

    def __init__(self, *, model: str = "rf", label: bool = True):
        self.model = model
        self.label = label

    def invalid_parameters(self) -> list[str]:
        return [] if self.model in MODELS else [unknown("model", self.model, MODELS)]

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        reasons = []
        own = str(knowledge.get("attribute", "")).startswith("feature:")
        if len(problem.in_shape) != 1 or not own:
            reasons.append(
                "ART's attribute attack is for a table's own columns (attribute=feature:3)"
            )
        return reasons + one_class("ART's attribute attack", problem)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: AttributeChallenge) -> np.ndarray:
        from art.attacks.inference.attribute_inference import AttributeInferenceBlackBox

        problem, known = self._knowledge.problem, challenge.known
        answers = release.scores(known.x)
        # ART queries the table that it is fitted on, whose column holds the indices of values.
        target = classifier(Release({"scores": lambda x: answers}), problem)
        table = known.x.copy()
        table[:, challenge.column] = challenge.known_value
        labels = [one_hot(y, problem) if self.label else None for y in (known.y, challenge.y)]
        with seeded(int(self._knowledge.rng.integers(2**32))):
            art = AttributeInferenceBlackBox(
                target, attack_model_type=self.model, attack_feature=challenge.column
            )
            art.fit(table, labels[0])
            predicted = art.infer(
                np.delete(challenge.x, challenge.column, axis=1),
                labels[1],
                pred=challenge.labels[:, None],
            )
        return np.eye(len(challenge.values))[np.asarray(predicted).ravel().astype(np.int64)]

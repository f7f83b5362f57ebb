"""Attribute inference from the scores of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Attack, AttributeChallenge, Knowledge, ProblemSpec, Release, ThreatModel
from medleak.attacks._arguments import no_masks
from medleak.attacks.attribute._known_attributes import outcomes, table, with_label
from medleak.core.suggestions import unknown
from medleak.metrics.guessing import learned

CLASSIFIERS = ("logistic", "trees")


class ScoreAttribute(Attack):
    r"""A classifier of the attribute on the model's answers, learned on auxiliary patients.

    .. math:: s(v) = \log \Pr[v \mid f(x), y]

    Its inputs are the log-odds of each outcome, the label, and their products. On a table the adversary
    also has the other features. If the attribute is one of the features, the adversary fills in each
    value and queries the model (the paper's inversion); these answers are further inputs.

    Args:
        classifier: "logistic" (ridge regression, penalty chosen on held-out patients) or "trees" (gradient
            boosting, scikit-learn).
    """

    version = 1
    requires = ThreatModel(goal="attribute", access="scores", knowledge=("auxiliary", "labels"))
    paper = (
        "Fredrikson et al. 2014, Privacy in Pharmacogenetics, USENIX Security; "
        "Yeom et al. 2018, Privacy Risk in Machine Learning, CSF"
    )

    def __init__(self, *, classifier: str = "logistic"):
        self.classifier = classifier

    def invalid_parameters(self) -> list[str]:
        known = self.classifier in CLASSIFIERS
        return [] if known else [unknown("classifier", self.classifier, CLASSIFIERS)]

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return no_masks("ScoreAttribute", problem)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: AttributeChallenge) -> np.ndarray:
        problem, known = self._knowledge.problem, challenge.known
        own = with_label(outcomes(release.scores(known.x)), known.y, problem)
        theirs = with_label(outcomes(challenge.scores), challenge.y, problem)
        if (more := table(challenge, release)) is not None:
            own, theirs = (np.concatenate(p, axis=1) for p in zip((own, theirs), more, strict=True))
        seed, n_values = int(self._knowledge.rng.integers(2**31)), len(challenge.values)
        value, patients = challenge.known_value, known.patients
        if self.classifier == "trees":
            return _trees(own, value, n_values, seed)(theirs)
        return learned(own, value, patients, n_values=n_values, seed=seed)(theirs)


def _trees(features: np.ndarray, value: np.ndarray, n_values: int, seed: int):
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=60,
        max_leaf_nodes=8,
        learning_rate=0.05,
        class_weight="balanced",
        early_stopping=False,
        random_state=seed,
    ).fit(features, value)
    return lambda new: np.log(np.maximum(model.predict_proba(new), np.exp(-30)))

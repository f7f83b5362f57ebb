"""Attribute inference from the features that enter the last layer of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    AttributeChallenge,
    Knowledge,
    ProblemSpec,
    Release,
    ThreatModel,
    task_of,
)
from medleak.api.networks import last_layer
from medleak.attacks._arguments import no_masks
from medleak.metrics.guessing import learned


class EmbeddingAttribute(Attack):
    r"""Logistic regression of the attribute on the features that enter the last linear layer.

    .. math:: s(v) = \log \Pr[v \mid h(x), y]

    It is learned on auxiliary patients, with a ridge penalty whose strength is chosen on held-out
    patients. The features h of a network trained for a diagnosis also encode other attributes of the
    image (the paper calls this overlearning).

    Raises:
        MedleakError: the network does not end in a linear layer.
    """

    version = 1
    requires = ThreatModel(
        goal="attribute", access="weights", knowledge=("auxiliary", "labels", "architecture")
    )
    paper = "Song & Shmatikov 2020, Overlearning Reveals Sensitive Attributes, ICLR"

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return no_masks("EmbeddingAttribute", problem)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: AttributeChallenge) -> np.ndarray:
        problem, known = self._knowledge.problem, challenge.known
        network = self._knowledge.network(release.weights)
        own = last_layer(network, known.x, problem.n_outputs)[0]
        own = _with_label(own, known.y, problem)
        theirs = _with_label(challenge.features, challenge.y, problem)
        guess = learned(
            own,
            challenge.known_value,
            known.patients,
            n_values=len(challenge.values),
            seed=int(self._knowledge.rng.integers(2**31)),
        )
        return guess(theirs)


def _with_label(features: np.ndarray, y: np.ndarray, problem: ProblemSpec) -> np.ndarray:
    label = task_of(problem.task).one_hot(y, problem.n_outputs)
    return np.concatenate([features, label], axis=1)

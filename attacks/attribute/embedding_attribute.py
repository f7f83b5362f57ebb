"""An attribute from what the model makes of a record before its last layer."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, AttributeChallenge, Knowledge, Release, ThreatModel
from medleak.api.networks import last_layer
from medleak.metrics.guessing import learned, one_hot


class EmbeddingAttribute(Attack):
    r"""Logistic regression of the attribute on the features that enter the last linear layer.

    .. math:: s(v) = \log \Pr[v \mid h(x), y]

    learned on auxiliary patients; ridge penalty, its strength chosen on patients who were held out. A
    network trained for a diagnosis keeps much else of a picture in h: the paper's overlearning.

    Raises:
        MedleakError: the network does not end in a linear layer.
    """

    version = 1
    requires = ThreatModel(
        goal="attribute", access="weights", knowledge=("auxiliary", "labels", "architecture")
    )
    paper = "Song & Shmatikov 2020, Overlearning Reveals Sensitive Attributes, ICLR"

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, inquiry: AttributeChallenge) -> np.ndarray:
        n_outputs, known = self._knowledge.problem.n_outputs, inquiry.known
        network = self._knowledge.network(release.weights)
        own = _with_label(last_layer(network, known.x, n_outputs)[0], known.y, n_outputs)
        theirs = _with_label(inquiry.features, inquiry.y, n_outputs)
        guess = learned(
            own,
            inquiry.known_value,
            known.patients,
            n_values=len(inquiry.values),
            seed=int(self._knowledge.rng.integers(2**31)),
        )
        return guess(theirs)


def _with_label(features: np.ndarray, y: np.ndarray, n_outputs: int) -> np.ndarray:
    return np.concatenate([features, one_hot(y, n_outputs)], axis=1)

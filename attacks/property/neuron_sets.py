"""A property of the training set from the weights, whatever order the neurons are in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medleak.api import Attack, Knowledge, PropertyChallenge, Release, ThreatModel
from medleak.attacks.property._meta import meta_classifier_scores

MOST_INPUTS = 128
"""Inputs, or filter taps, of a first layer that are looked at one by one."""


class NeuronSets(Attack):
    r"""A meta-classifier on each layer as a set of neurons.

    .. math:: L_\ell = \operatorname{pool}_{i} \varphi(w_{\ell i}, b_{\ell i}), \qquad
              s = \log \frac{\Pr[\text{higher share} \mid L_1, L_2, \dots]}{\Pr[\text{lower} \mid \dots]}

    Two networks that differ by the order of their hidden units are one function, and have the same
    features here: phi is the mean, the spread, the length and the largest modulus of a neuron's incoming
    weights, and its bias; pooled are mean, spread, least and largest over the layer. The first layer's
    inputs and the last one's outputs have an order that means something: they are kept apart. The paper
    learns phi on thousands of shadows; with some tens it is fixed, and a ridge regression on the pooled
    features is what is learned.
    """

    version = 1
    requires = ThreatModel(
        goal="property", access="weights", knowledge=("auxiliary", "architecture", "shadows")
    )
    paper = (
        "Ganju et al. 2018, Property Inference Attacks on Fully Connected Neural Networks using "
        "Permutation Invariant Representations, CCS"
    )

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: PropertyChallenge) -> np.ndarray:
        layers = list(self._knowledge.network(None).state_dict())

        def observe(release: Release) -> np.ndarray:
            weights = release.weights
            return invariants({name: weights[name] for name in layers})

        own = observe(release)
        return meta_classifier_scores(
            own, lambda shadow: observe(shadow.release), self._knowledge, challenge
        )


def invariants(weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """What does not depend on the order of hidden units, float64 ``(F,)``.

    Args:
        weights: name -> array, in the order of the layers; the first axis of each is the neurons.
    """
    arrays = {n: np.asarray(a, dtype=np.float64) for n, a in weights.items() if np.ndim(a)}
    matrices = [name for name, array in arrays.items() if array.ndim > 1]
    found = []
    for name, array in arrays.items():
        last = bool(matrices) and _layer(name) == _layer(matrices[-1])
        rows = _neurons(array)
        # The classes of the last layer are no set: they have names.
        found.append(rows.ravel() if last else _pooled(rows))
        if matrices and name == matrices[0]:
            inputs = array.reshape(len(array), -1)
            if inputs.shape[1] <= MOST_INPUTS:
                found.append(_neurons(inputs.T)[:, :3].ravel())
    return np.concatenate(found)


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _neurons(array: np.ndarray) -> np.ndarray:
    """phi of each row, ``(n, 4)``; of a vector, its values ``(n, 1)``."""
    if array.ndim == 1:
        return array[:, None]
    flat = array.reshape(len(array), -1)
    parts = flat.mean(1), flat.std(1), np.linalg.norm(flat, axis=1), np.abs(flat).max(1)
    return np.stack(parts, axis=1)


def _pooled(rows: np.ndarray) -> np.ndarray:
    return np.concatenate([rows.mean(0), rows.std(0), rows.min(0), rows.max(0)])

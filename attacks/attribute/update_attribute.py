"""Attribute inference about the patients behind a message of federated training."""

from __future__ import annotations

import hashlib

import numpy as np

from medleak.api import (
    Attack,
    Knowledge,
    MessageAttributeChallenge,
    NotApplicable,
    Observation,
    Release,
    ThreatModel,
    task_of,
)
from medleak.attacks._whitebox import gradients
from medleak.metrics.batches import drawn
from medleak.metrics.guessing import learned


class UpdateAttribute(Attack):
    r"""A classifier of the majority's value on updates, learned on updates of auxiliary batches.

    .. math:: s(v) = \log \Pr[v \mid P_\theta u, |P_\theta u|], \qquad
              u_B = \frac{1}{|B|} \sum_{i \in B} \nabla \ell(\theta; x_i, y_i)

    The attack computes updates of auxiliary batches, at the model that the clients received and of the
    message's size; their majority value is known. P projects on the `n_directions` in which the gradients
    of auxiliary records vary the most. The absolute values are inputs as well, because the sign of a
    gradient is that of the label's residual. An update over several local steps is treated as one step,
    and a sum of several clients' updates as one large batch.

    Args:
        n_reference: most auxiliary records whose gradients are taken.
        n_directions: principal directions that the classifier sees.
    """

    version = 1
    requires = ThreatModel(
        goal="attribute",
        access="aggregate",
        knowledge=("auxiliary", "architecture"),
        adversary="server",
    )
    paper = "Melis et al. 2019, Exploiting Unintended Feature Leakage in Collaborative Learning, IEEE S&P"

    def __init__(self, *, n_reference: int = 400, n_directions: int = 64):
        self.n_reference = n_reference
        self.n_directions = n_directions

    def invalid_parameters(self) -> list[str]:
        least = {"n_reference": 20, "n_directions": 1}
        return [
            f"{name} {getattr(self, name)!r}: a whole number from {low} up is needed"
            for name, low in least.items()
            if type(getattr(self, name)) is not int or getattr(self, name) < low
        ]

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: MessageAttributeChallenge) -> np.ndarray:
        messages = release.view("aggregate")
        if not len(messages):
            raise NotApplicable("no message was observed: federated training with observe > 0")
        rng, known = self._knowledge.rng, challenge.known
        chosen = np.sort(rng.permutation(len(known))[: self.n_reference])
        self._records, self._value = known.take(chosen), challenge.known_value[chosen]
        learnt: dict[tuple[str, int], tuple] = {}
        seed, scores = int(rng.integers(2**31)), np.zeros(challenge.shape)
        for t, (i, size) in enumerate(zip(challenge.indices, challenge.n_records, strict=True)):
            message = messages[int(i)]
            place = _digest(message), int(size)
            if place not in learnt:
                learnt[place] = self._learnt(message, int(size), challenge.shape[1], seed)
            view, classifier = learnt[place]
            scores[t] = classifier(view(message.update)[None])[0]
            self._knowledge.progress((t + 1) / len(challenge))
        return scores

    def _learnt(self, message: Observation, size: int, n_values: int, seed: int) -> tuple:
        """The features of an update (a function), and the classifier on these features."""
        network = self._knowledge.network(message.sent)
        names = [name for name, _ in network.named_parameters()]
        rows = gradients(network, self._records, task=task_of(self._knowledge.problem.task))
        centre = rows.mean(axis=0)
        basis = np.linalg.svd(rows - centre, full_matrices=False)[2][: self.n_directions]
        seen = (rows - centre) @ basis.T
        rng = np.random.default_rng([seed, size])
        batches, value, group = drawn(self._value, self._records.patients, size, rng)
        examples = _with_moduli(seen[batches].mean(axis=1))
        classifier = learned(examples, value, group, n_values=n_values, seed=seed)

        def view(update: dict[str, np.ndarray]) -> np.ndarray:
            flat = np.concatenate([np.asarray(update[name], float).ravel() for name in names])
            return _with_moduli((flat - centre) @ basis.T)

        return view, classifier


def _with_moduli(seen: np.ndarray) -> np.ndarray:
    return np.concatenate([seen, np.abs(seen)], axis=-1)


def _digest(message: Observation) -> str:
    """Digest of the model that a message answers: gradients are computed once for each model."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(message.sent):
        found.update(np.ascontiguousarray(message.sent[name]).data)
    return found.hexdigest()

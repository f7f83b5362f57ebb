"""Membership from the messages of federated training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    Knowledge,
    NotApplicable,
    Observation,
    Release,
    ThreatModel,
    task_of,
)
from medleak.attacks._whitebox import gradient_cosines

REFERENCE = 200
"""Auxiliary records whose gradients span what all records share."""


class UpdateCosine(Attack):
    r"""Cosine of a record's gradient with what the clients sent: high where the record was in the batch.

    .. math:: s(x) = \max_m \cos\big(P_m \nabla \ell(\theta_m; x), P_m u_m\big)

    over the observed messages m; P takes out the span of auxiliary records' gradients at the same model,
    in which those of all records largely lie (an addition to the paper). What is left of different
    records is nearly orthogonal, so that a sum of a few still points at each of them. Only members whose
    batch was observed can be found. Sums of updates are read like single ones, with less to find;
    entries that are encrypted are left out.

    Args:
        n_reference: auxiliary records whose gradients are taken out.
    """

    version = 1
    requires = ThreatModel(
        goal="membership",
        access="aggregate",
        knowledge=("architecture", "labels", "auxiliary"),
        adversary="server",
    )
    paper = (
        "Li et al. 2023, Effective Passive Membership Inference Attacks in Federated Learning, ICLR"
    )

    def __init__(self, *, n_reference: int = REFERENCE):
        self.n_reference = n_reference

    def invalid_parameters(self) -> list[str]:
        fits = type(self.n_reference) is int and self.n_reference >= 10
        return [] if fits else [f"n_reference {self.n_reference!r}: at least 10 are needed"]

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        messages: Sequence[Observation] = release.view("aggregate")
        if not len(messages):
            raise NotApplicable("no message was observed: federated training with observe > 0")
        scores = np.full(len(challenge), -np.inf)
        start = 0
        while start < len(messages):
            block = _same_model(messages, start)
            start += len(block)
            scores = np.maximum(scores, self._likeness(block, challenge))
            self._knowledge.progress(start / len(messages))
        return scores

    def _likeness(self, block: Sequence[Observation], challenge: Challenge) -> np.ndarray:
        others = self._knowledge.auxiliary
        chosen = self._knowledge.rng.permutation(len(others))[: self.n_reference]
        network = self._knowledge.network(block[0].sent)
        updates = [message.update for message in block]
        cosines = gradient_cosines(
            network,
            challenge.records,
            updates,
            others.take(chosen),
            hidden=block[0].hidden,
            task=task_of(self._knowledge.problem.task),
        )
        return cosines.max(axis=1)


def _same_model(messages: Sequence[Observation], start: int) -> list[Observation]:
    """The messages from `start` on that answer the same model: gradients are computed once for all."""
    block = [messages[start]]
    for i in range(start + 1, len(messages)):
        message = messages[i]
        if not (_equal(message.sent, block[0].sent) and _equal(message.hidden, block[0].hidden)):
            break
        block.append(message)
    return block


def _equal(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> bool:
    return some.keys() == others.keys() and all(
        np.array_equal(array, others[name]) for name, array in some.items()
    )

"""The informed adversary: all records but one are known, and so is every noisy gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    InformedPrior,
    Knowledge,
    NotApplicable,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
    ThreatModel,
    multiclass,
)
from medleak.attacks._arguments import one_class
from medleak.attacks._whitebox import each_gradient
from medleak.attacks.gradient_inversion._transcript import pixels


def residuals(noisy: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What is left of each step's noisy sum without the clipped gradients of the known records.

    Args:
        noisy: released sums, ``(T, P)`` (a released mean times the expected batch).
        known: clipped gradients of the known records that were in the batch, summed, ``(T, P)``.
    """
    return np.asarray(noisy, np.float64) - np.asarray(known, np.float64)


def clipped(gradients: np.ndarray, clip: float) -> np.ndarray:
    """Each row ``(..., P)`` scaled down to a Euclidean norm of at most `clip`."""
    gradients = np.asarray(gradients, np.float64)
    norm = np.linalg.norm(gradients, axis=-1, keepdims=True)
    return gradients * np.minimum(1, clip / np.maximum(norm, np.finfo(np.float64).tiny))


def scores(candidates: np.ndarray, left: np.ndarray, clip: float) -> np.ndarray:
    r"""How well each candidate explains what is left; the highest is the guess.

    .. math:: s(z) = \sum_t \langle \mathrm{clip}_C(\nabla \ell(\theta_t, z)), r_t \rangle

    Where all candidates' gradients are clipped to the same norm this orders them by likelihood, so
    that no adversary with a uniform prior is right more often at full batch.

    Args:
        candidates: their gradients at each step, ``(M, T, P)``.
        left: the residuals r, ``(T, P)``.
        clip: the clipping norm C.

    Returns:
        ``(M,)``.
    """
    if not clip > 0:
        raise ValueError(f"clip must be positive, not {clip!r}")
    total = np.zeros(len(candidates))
    for t, rest in enumerate(
        np.asarray(left, np.float64)
    ):  # one step at a time: (M, T, P) is large
        total += clipped(candidates[:, t], clip) @ rest
    return total


def guess(candidates: np.ndarray, left: np.ndarray, clip: float) -> int:
    """Position of the candidate with the highest of `scores`; the first of several."""
    return int(np.argmax(scores(candidates, left, clip)))


class InformedAdversary(Attack):
    r"""Names the candidate whose gradient is most like what the known records leave of the messages.

    .. math:: \hat z = \arg\max_z \sum_t \langle \mathrm{clip}_C(\nabla \ell(\theta_t, z)),\;
        b\, u_t - \sum_{i \ne z} \mathrm{clip}_C(\nabla \ell(\theta_t, x_i)) \rangle

    over the messages :math:`u_t` of the record's clients, with b the expected batch; the same for sums
    over clients. As in the paper, the adversary does not know in which other messages the record took part.
    Without clipping, messages are means over the records, and candidates are compared by the angle.

    Compare it with the upper bound of reconstruction robustness (ReRo) at a prior success of one in the
    number of candidates. It says nothing about adversaries that know less.

    Raises:
        NotApplicable: clients took several steps, so that the known records' gradients depend on the
            unknown one.
    """

    version = 1
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("architecture", "labels", "defense", "all_but_one"),
        adversary="server",
    )
    paper = (
        "Hayes et al. 2023, Bounding Training Data Reconstruction in DP-SGD, NeurIPS; "
        "Balle et al. 2022, Reconstructing Training Data with Informed Adversaries, IEEE S&P"
    )

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        found = one_class("the informed adversary, whose candidates share one label,", problem)
        if problem.max_records > 1:
            found.append("a patient's other records would tell the one that is left out")
        return found

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: ReconstructionChallenge) -> np.ndarray:
        """The chosen candidates' images, ``(T, 1, C, H, W)``, float32 in 0..1."""
        if challenge.insight is None:
            raise NotApplicable("all records but one are not told")
        messages, found = release.view("aggregate"), []
        for done, prior in enumerate(challenge.insight, start=1):
            total = np.zeros(len(prior.candidates))
            for i, others in prior.others.items():
                total += self._scores(messages[i], others, prior)
            found.append(pixels(prior.candidates.x[int(np.argmax(total))]))
            self._knowledge.progress(done / len(challenge))
        return np.stack(found)[:, None]

    def _scores(self, seen: Observation, others: Records, prior: InformedPrior) -> np.ndarray:
        """Of one message, ``(M,)``."""
        if seen.local.steps > 1:
            raise NotApplicable(f"clients took {seen.local.steps} steps between messages, not one")
        if prior.clip is None and seen.n_records == len(others):
            return np.zeros(len(prior.candidates))  # the number of records is known: not in it
        network = self._knowledge.network(seen.sent)
        names = [name for name, _ in network.named_parameters()]

        def rows(grads: Any) -> np.ndarray:
            found = np.concatenate([grads[name].flatten(1).numpy() for name in names], axis=1)
            return found if prior.clip is None else clipped(found, prior.clip)

        expected = seen.local.batch_size * len(seen.clients)
        batch = seen.n_records if prior.clip is None else expected
        noisy = batch * np.concatenate([np.ravel(seen.update[name]) for name in names])
        known = np.zeros_like(noisy)
        if len(others):
            known = _gathered(network, others, lambda g: rows(g).sum(axis=0, keepdims=True)).sum(0)
        left = residuals(noisy, known) * np.concatenate(
            [seen.readable(name).ravel() for name in names]
        )

        def compared(grads: Any) -> np.ndarray:
            found = rows(grads)
            if prior.clip is None:  # all of one length: by the angle
                found /= np.linalg.norm(found, axis=1, keepdims=True).clip(1e-300)
            return scores(found[:, None], left[None], prior.clip or 1.0)

        return _gathered(network, prior.candidates, compared)


def _gathered(network: Any, records: Records, reduce: Callable[[Any], np.ndarray]) -> np.ndarray:
    import torch

    return each_gradient(
        network, records.x, records.y, lambda g: torch.from_numpy(reduce(g)), task=multiclass
    )

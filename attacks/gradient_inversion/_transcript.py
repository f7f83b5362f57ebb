"""Shared parts of attacks on training messages: the loop over a challenge, and the prior guess."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Knowledge,
    NotApplicable,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
)

GREY = 0.5
"""Of every pixel of the prior guess where there are no auxiliary records."""


class TranscriptAttack(Attack):
    """Base of attacks that rebuild the records behind single messages of a training.

    The author writes `rebuild`, for one message; a literal `requires` says which view holds the
    messages ("aggregate" or "updates"). Images that were not recovered, or not finite, become the
    prior guess: the mean auxiliary record. Everything is clipped to 0..1 and padded with zeros.
    """

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        if len(problem.in_shape) == 3:
            return []
        return [f"{type(self).__name__} rebuilds images (C, H, W): in_shape {problem.in_shape}"]

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def run(self, release: Release, challenge: ReconstructionChallenge) -> np.ndarray:
        """Images ``(T, max(n_records), C, H, W)``, float32 in 0..1."""
        observations = release.view(self.requires.access)
        most = max(map(int, challenge.n_records), default=0)
        images = np.zeros((len(challenge), most, *challenge.in_shape), dtype=np.float32)
        prior = prior_guess(self._knowledge.auxiliary, challenge.in_shape)
        for t, (index, n) in enumerate(zip(challenge.indices, challenge.n_records, strict=True)):
            labels = None if challenge.labels is None else challenge.labels[t]
            found = self.rebuild(observations[int(index)], int(n), labels)
            images[t, :n] = completed(found, int(n), prior)
            self._knowledge.progress((t + 1) / len(challenge))
        return images

    @abstractmethod
    def rebuild(self, observation: Observation, n: int, labels: np.ndarray | None) -> np.ndarray:
        """Images behind one message, ``(M, C, H, W)`` or flat, best first; the first `n` count.

        Args:
            observation: the message.
            n: records behind it.
            labels: theirs, sorted, where the adversary is given them.

        Raises:
            NotApplicable: the message has nothing that this attack could read.
        """


def readable_rows(observation: Observation, layer: str) -> np.ndarray:
    """Rows of a linear layer whose weights and bias are fully readable, ``(R,)`` bool.

    Raises:
        NotApplicable: there is none.
    """
    found = observation.readable(f"{layer}.weight").all(axis=1)
    found &= observation.readable(f"{layer}.bias")
    if not found.any():
        raise NotApplicable(f"no row of {layer} is told in full: it is encrypted")
    return found


def pixels(x: np.ndarray) -> np.ndarray:
    """Images as float32 in 0..1, whatever they are stored as."""
    return x.astype(np.float32) / 255 if x.dtype == np.uint8 else x.astype(np.float32)


def prior_guess(auxiliary: Records | None, in_shape: tuple[int, ...]) -> np.ndarray:
    """Guess for a record without any information: the mean auxiliary record, else grey. ``(C, H, W)``."""
    if auxiliary is None or not len(auxiliary):
        return np.full(in_shape, GREY, dtype=np.float32)
    scale = 255 if auxiliary.x.dtype == np.uint8 else 1
    return (auxiliary.x.mean(axis=0, dtype=np.float64) / scale).astype(np.float32)


def completed(found: np.ndarray, n: int, prior: np.ndarray) -> np.ndarray:
    """The first `n` finite images of `found`, clipped, then `prior` as often as needed.

    Shapes: ``(M, C, H, W)`` -> ``(n, C, H, W)``.
    """
    found = np.asarray(found, dtype=np.float32).reshape(len(found), prior.size)
    finite = found[np.isfinite(found).all(axis=1)][:n]
    images = np.repeat(prior[None], n, axis=0)
    images[: len(finite)] = finite.reshape(-1, *prior.shape)
    return np.clip(images, 0, 1)

"""The base of attacks that match gradients: many messages and restarts solved in one batch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import Observation, ProblemSpec, ReconstructionChallenge, Release
from medleak.attacks._arguments import one_class
from medleak.attacks.gradient_inversion._transcript import TranscriptAttack, completed, prior_guess
from medleak.attacks.gradient_inversion._update_constraints import Question, update_constraints

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.gradient_inversion._shared_weights_batching import Stack

TOGETHER = 128
"""Records in one batch: fewer leave the overhead of each step unshared."""
ENTRIES = 2**23
"""Of gradients in one batch: large networks are matched with fewer records at once, to save memory."""


class MatchingAttack(TranscriptAttack):
    """Base of attacks that search for records whose update equals the one that was sent.

    The author writes `solve`. Messages with the same number of records are stacked, for any number of
    restarts. Labels that the adversary is not given are recovered from the last layer: of a single
    record exactly, of several from the mean probabilities of the auxiliary records. Entries that are
    encrypted are not matched, and labels read from what is left of the last layer. Networks answer in
    evaluation mode, and each record has one class.
    """

    iterations: int
    restarts: int
    aware: bool

    def invalid_parameters(self) -> list[str]:
        found = []
        for name in ("iterations", "restarts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                found.append(f"{name} must be a positive integer, not {value!r}")
        if not isinstance(self.aware, bool):
            found.append(f"aware {self.aware!r} must be true or false")
        return found

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        found = super().incompatibilities(problem, knowledge)
        return found + one_class(type(self).__name__, problem)

    @abstractmethod
    def solve(self, stack: Stack) -> tuple[Tensor, Tensor]:
        """Normalised values ``(S, B, C, H, W)`` and how badly they match, ``(S,)``."""

    def run(self, release: Release, challenge: ReconstructionChallenge) -> np.ndarray:
        observations = release.view(self.requires.access)
        seeds = self._knowledge.rng.integers(2**48, size=len(challenge))
        prior = prior_guess(self._knowledge.auxiliary, challenge.in_shape)
        most = max(map(int, challenge.n_records), default=0)
        images = np.zeros((len(challenge), most, *challenge.in_shape), dtype=np.float32)
        waiting: dict[tuple, list[tuple[int, Question]]] = {}
        done = 0

        def settle(group_key: tuple) -> int:
            positions, questions = zip(*waiting.pop(group_key), strict=True)
            for t, found in zip(positions, self.answers(questions), strict=True):
                images[t, : len(found)] = completed(found, len(found), prior)
            self._knowledge.progress((done + len(positions)) / len(challenge))
            return done + len(positions)

        for t, index in enumerate(challenge.indices):
            labels = None if challenge.labels is None else challenge.labels[t]
            n = int(challenge.n_records[t])
            question = self._question(observations[int(index)], n, labels, int(seeds[t]))
            queue = waiting.setdefault(question.group_key, [])
            queue.append((t, question))
            rows = (len(queue) + 1) * self.restarts
            if rows * n > TOGETHER or rows * len(question.constraints.target) > ENTRIES:
                done = settle(question.group_key)
        for group_key in list(waiting):
            done = settle(group_key)
        return images

    def rebuild(self, observation: Observation, n: int, labels: np.ndarray | None) -> np.ndarray:
        seed = int(self._knowledge.rng.integers(2**48))
        return self.answers([self._question(observation, n, labels, seed)])[0]

    def answers(self, questions: Sequence[Question]) -> np.ndarray:
        """The best-matching restart of each of several questions of the same kind: ``(Q, n, C, H, W)`` in 0..1."""
        from medleak.attacks.gradient_inversion import _shared_weights_batching

        stack = _shared_weights_batching.stacked(questions, self._knowledge, self.restarts)
        return _shared_weights_batching.best(*self.solve(stack), len(questions))

    def _question(
        self, observation: Observation, n: int, labels: np.ndarray | None, seed: int
    ) -> Question:
        found = update_constraints(observation.update, self.aware, observation.hidden)
        return Question(observation, n, labels, seed, found)

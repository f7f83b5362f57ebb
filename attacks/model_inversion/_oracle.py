"""The model under attack as the attack may access it, and its query budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medleak.api import Knowledge, NotApplicable, Release

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.model_inversion._decoders import Decoder

SENT = 31
"""Most records in one request: the bench stores the answers to larger ones, for the next attack."""
AT_ONCE = 256
"""Images that a network answers in one batch."""


class Oracle:
    """The target's probabilities, for any kind of access.

    With weights it is a network and costs no queries. With scores or labels each image is a query;
    labels count as probabilities of 0 and 1.

    Args:
        release: of the target.
        knowledge: its `network` rebuilds the target, its `budget` bounds the queries.
        access: as in the attack's `requires`: "weights", "scores" or "labels".

    Attributes:
        network: the ``nn.Module`` in evaluation mode, its parameters frozen; None without weights.
    """

    def __init__(self, release: Release, knowledge: Knowledge, access: str):
        self.access, self._release = access, release
        self._n_outputs = knowledge.problem.n_outputs
        self._last = None if knowledge.budget is None else release.queries + knowledge.budget
        self.network = None
        if access == "weights":
            self.network = knowledge.network(release.weights).requires_grad_(False)

    @property
    def left(self) -> int | None:
        """Queries left (None: no limit)."""
        return None if self._last is None else self._last - self._release.queries

    def probabilities(self, images: Tensor) -> Tensor:
        """Of each class, float32; ``(n, C, H, W)`` in 0..1 -> ``(n, outputs)``. No gradients.

        Raises:
            NotApplicable: there are more queries than the budget leaves. None is sent then.
        """
        import torch

        if self.network is not None:
            with torch.no_grad():
                parts = [self.network(part).softmax(dim=1) for part in images.split(AT_ONCE)]
            return torch.cat(parts)
        if self.left is not None and len(images) > self.left:
            raise NotApplicable(
                f"{len(images)} queries are needed, and {self.left} of the budget are left"
            )
        parts = [self._answers(part.detach().numpy()) for part in images.split(SENT)]
        return torch.from_numpy(np.concatenate(parts))

    def labels(self, images: Tensor) -> Tensor:
        """The most probable class of each image; ``(n, C, H, W)`` in 0..1 -> ``(n,)``."""
        return self.probabilities(images).argmax(dim=1)

    def _answers(self, x: np.ndarray) -> np.ndarray:
        if self.access == "labels":
            return np.eye(self._n_outputs, dtype=np.float32)[self._release.labels(x)]
        return np.exp(self._release.scores(x)).astype(np.float32)


@dataclass(frozen=True)
class AttackState:
    """Shared state of the parts of an inversion attack.

    Attributes:
        decoder: from points to images.
        oracle: the model under attack.
        rng: the attack's own generator.
    """

    decoder: Decoder
    oracle: Oracle
    rng: np.random.Generator

"""What protects, what it promises, and what the adversary then observes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from medleak.api.component import Component
from medleak.api.data import ProblemSpec
from medleak.api.guarantee import Guarantee
from medleak.api.release import Release
from medleak.api.training import Trainer
from medleak.api.types import Slot


class Defense(Component):
    """What fills one slot. A slot maps one type to the same type, so that fillings compose.

    ============  ==========================  =====================================
    slot          type                        example
    ============  ==========================  =====================================
    records       `Records`                   de-identification, synthetic data
    train         `Trainer`                   DP-SGD, federated rounds
    update        one client's update         pruning, noise
    aggregate     list of updates             secure aggregation
    release       `Release`                   quantised weights
    serve         `Release`                   labels only, rounded scores
    ============  ==========================  =====================================

    `hides` and `exposes` say, before anything is trained, how the release's views change.
    """

    slot: ClassVar[Slot]
    hides: ClassVar[Mapping[str, str]] = {}
    exposes: ClassVar[Sequence[str]] = ()

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        """Every reason why this filling is impossible here; `trainer` is what it would receive."""
        return []

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        """What is formally promised; `trainer` is what this filling received."""
        return []

    def apply(self, subject: Any, *, problem: ProblemSpec) -> Any:
        """Map the slot's type to the same type."""
        return subject

    def verify_surrogate(
        self, release: Release, x: np.ndarray, *, problem: ProblemSpec, n: int
    ) -> Any:
        """Evidence that the plain twin, which answers in place of an encrypted service, equals it.

        `n` of the records `x` go through the real one. Returns None where there is no twin, else an object
        with `error` (largest difference of a logit), `agreement` (share of equal classes), `seconds`,
        `bytes_in` and `bytes_out` (of a query), `plain_seconds` and `overhead`.
        """
        return None

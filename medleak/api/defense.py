"""What protects, what it promises, and what the adversary then observes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from medleak.api.artefact import Made
from medleak.api.component import Component
from medleak.api.data import ProblemSpec, Records
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

    `hides` and `exposes` say, before anything is trained, how the release's views change. `makes` names
    kinds of artefact that are released because of this stage: a stage of slot `records` that makes
    "records" releases the set that it returns, one that makes "generator" what it draws that set from.
    """

    slot: ClassVar[Slot]
    makes: ClassVar[Sequence[str]] = ()
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

    def make(
        self,
        records: Records,
        *,
        problem: ProblemSpec,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Made:
        """What a stage of slot `records` makes of the member `records`.

        By default what `apply` returns, released where the stage `makes` "records". A stage that draws,
        trains, or has facts to report overrides this.

        Args:
            seed: of the run, for this stage.
            validation: public records; a stage that reads them says ``reads_validation = True``.
        """
        changed = self.apply(records, problem=problem)
        return Made(changed, {name: changed for name in self.makes})

    def draw(
        self, parameters: Mapping[str, np.ndarray], n: int, seed: int, *, problem: ProblemSpec
    ) -> Records:
        """`n` records from a generator that this stage made, whose patients are -1."""
        raise NotImplementedError(f"{type(self).__name__} makes no generator")

    def verify_surrogate(
        self, release: Release, x: np.ndarray, *, problem: ProblemSpec, n: int
    ) -> Any:
        """Evidence that the plaintext surrogate, which answers in place of an encrypted service, equals it.

        `n` of the records `x` go through the real one. Returns None where there is none, else an object
        with `error` (largest difference of a logit), `agreement` (share of equal classes), `seconds`,
        `bytes_in` and `bytes_out` (of a query), `plain_seconds` and `overhead`.
        """
        return None

"""The pool of training runs that shadow attacks, leave-one-out and audits draw from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medleak.api import Shadow, View
from medleak.core.store import Store
from medleak.release.build import release_of
from medleak.training.pipeline import DefensePipeline
from medleak.training.run_spec import RunSpec

REFERENCE = -1
"""Place of the held-out replica in `shadow_columns`: the last one."""


def shadow_columns(target: int, k: int, *, pool: str) -> list[int]:
    """The `k` columns that shadow the target of column `target`, then one for the reference.

    The first columns that are not the target's: seeds share all shadows but each other's target, and a
    longer pool contains a shorter one.
    """
    if pool == "auxiliary":
        return list(range(k + 1))
    return [c for c in range(k + 2) if c != target][: k + 1]


@dataclass(frozen=True)
class Pool:
    """A re-iterable pool that opens one stored run at a time, with the views of `access`."""

    specs: Sequence[RunSpec]
    slots: DefensePipeline
    store: Store
    access: View
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self.specs)

    def __iter__(self) -> Iterator[Shadow]:
        return (self.open(spec) for spec in self.specs)

    def open(self, spec: RunSpec) -> Shadow:
        """One run as the attacker sees it."""
        experiment = spec.experiment
        nobody = {"audit": len(experiment.auxiliary), "auxiliary": len(experiment.challenge)}[
            spec.base
        ]
        nobody = np.zeros(nobody, dtype=bool)
        inside = (spec.member, nobody) if spec.base == "audit" else (nobody, spec.member)
        release = release_of(spec, self.slots, self.store, device=self.device)
        return Shadow(*inside, release.granting(self.access))

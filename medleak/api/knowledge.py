"""What the adversary has in addition to the release."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from medleak.api.data import ProblemSpec, Records
from medleak.api.release import Release


@dataclass(frozen=True)
class Shadow:
    """One shadow run as the attacker sees it.

    Attributes:
        member: which challenge records it was trained on, ``(N,)`` bool.
        auxiliary_member: which of `Knowledge.auxiliary` it was trained on, ``(M,)`` bool.
        release: the same view as the target's.
    """

    member: np.ndarray
    auxiliary_member: np.ndarray
    release: Release


class Shadows(Protocol):
    """A sized, re-iterable pool that yields one `Shadow` at a time, so that memory stays flat."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Shadow]: ...


@dataclass
class Knowledge:
    """What the adversary has in addition to the release; the row states it.

    Attributes:
        problem: public facts.
        auxiliary: records of patients who are in neither half of the challenge.
        shadows: None unless the attack asked for them.
        pool: "audit" (shadows contain challenge patients: online attacks) or "auxiliary".
        rng: the attack's own generator, seeded by the cell.
        budget: most records that may be queried (None: unlimited).
        reference: a held-out replica of the target, the only model on which an attack may tune
            its own hyper-parameters: a `Shadow` that is not among `shadows`.
        progress: called with the fraction done.
        network: name -> array of a release's weights (None: untrained ones) to an ``nn.Module`` in
            evaluation mode; only for an attack whose threat model knows the "architecture".
        keep: what costs much and serves many cells, such as a generator trained on auxiliary patients:
            ``keep(name, make)`` returns ``make(rng)``, name -> array, computed once for these patients
            and this `name` (plain values that say all that it depends on) with a generator of its own.
    """

    problem: ProblemSpec
    auxiliary: Records | None = None
    shadows: Shadows | None = None
    pool: Literal["audit", "auxiliary"] = "audit"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    budget: int | None = None
    reference: Shadow | None = None
    progress: Callable[[float], None] = lambda fraction: None
    network: Callable[[Mapping[str, np.ndarray] | None], Any] | None = None
    keep: Callable[[Any, Make], Mapping[str, np.ndarray]] = lambda name, make: make(
        np.random.default_rng(0)
    )


Make = Callable[[np.random.Generator], Mapping[str, np.ndarray]]
"""What `Knowledge.keep` calls."""

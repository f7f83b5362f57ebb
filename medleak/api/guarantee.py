"""A formal promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Guarantee:
    """One formal promise.

    Attributes:
        kind: "dp" for differential privacy, else a word of the field ("ind-cpa", "k-anonymity").
        epsilon, delta: of a DP promise (None where the kind has none).
        unit: "record", "patient", or "client" of a federation.
        adjacency: "add/remove", "replace-one", or "zero-out" (a client who sends nothing instead).
        protects_from: who learns no more than is guaranteed ("anyone who sees the model").
        assumptions: what must hold, in words.
        accountant: "PLD", "PRV", "RDP", "nominal (RDP)" ...
        mechanism: parameters that an accountant composes, such as
            ``{"name": "poisson_gaussian", "q": .02, "sigma": 1.1, "steps": 900}``; the name is that of a
            YAML in ``conf/mechanism/``, whose `Mechanism` knows the privacy profile.
        adversaries: whom it binds, as in `ThreatModel.adversary`; noise that the server adds binds
            everybody but the server.
    """

    kind: str
    unit: str
    protects_from: str
    epsilon: float | None = None
    delta: float | None = None
    adjacency: str = "add/remove"
    assumptions: tuple[str, ...] = ()
    accountant: str = ""
    mechanism: Mapping[str, Any] = field(default_factory=dict)
    adversaries: tuple[str, ...] = ("outsider", "client", "server")

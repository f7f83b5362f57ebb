"""What protects, what it promises, and what the adversary then observes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from medleak.api.data import Setting
from medleak.api.training import Trainer
from medleak.api.words import IMPLIED_VIEWS, VIEWS, Component, Hidden, Slot, View


@dataclass(frozen=True)
class Guarantee:
    """One formal promise.

    Attributes:
        kind: "dp" for differential privacy, else a word of the field ("ind-cpa", "k-anonymity").
        epsilon, delta: of a DP promise (None where the kind has none).
        unit: "record", "patient", or "client" of a federation.
        adjacency: "add/remove", "replace-one", or "zero-out" (a client who sends nothing instead).
        protects_from: who learns no more than promised ("anyone who sees the model").
        assumptions: what must hold, in words.
        accountant: "PLD", "PRV", "RDP", "nominal (RDP)" ...
        mechanism: parameters that an accountant composes, such as
            ``{"name": "poisson_gaussian", "q": .02, "sigma": 1.1, "steps": 900}``.
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


class Release:
    """Exactly what the adversary may observe.

    A view that the defense hides does not exist here: touching it raises `Hidden` with the reason.
    Views of a served or published classifier:

    - ``scores(x)``: natural-log probabilities, float64, ``(N, C)``; ``(N, L, 2)`` for multi-label
      tasks (log-probability of absent, present). May hold ``-inf`` where a defense rounds to zero.
    - ``labels(x)``: predicted classes ``(N,)``, or 0/1 ``(N, L)``.
    - ``weights``: name -> array of the released model.

    `queries` counts the records sent through any callable view.
    """

    def __init__(
        self,
        views: Mapping[str, Any],
        *,
        hidden: Mapping[str, str] | None = None,
        twin: bool = False,
    ):
        self.views = dict(views)
        self.hidden = dict(hidden or {})
        self.twin = twin
        self.queries = 0

    def view(self, name: str) -> Any:
        """The view `name`; raises `Hidden` with the reason where there is none."""
        if name not in self.views:
            reason = self.hidden.get(name, "the release does not have it")
            raise Hidden(f"view '{name}': {reason}")
        return self.views[name]

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Log-probabilities of `x`; see the class."""
        return self._query("scores", x)

    def labels(self, x: np.ndarray) -> np.ndarray:
        """Predicted labels of `x`; see the class."""
        return self._query("labels", x)

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The released parameters."""
        return self.view("weights")

    def _query(self, name: str, x: np.ndarray) -> np.ndarray:
        view = self.view(name)
        self.queries += len(x)
        return view(x)

    def replaced(self, **views: Any) -> Release:
        """The same release with some views swapped for others."""
        return Release({**self.views, **views}, hidden=self.hidden, twin=self.twin)

    def granting(self, access: View) -> Release:
        """What an attack that declared `access` is given: that view and those it contains."""
        given = (*IMPLIED_VIEWS.get(access, ()), access)
        reason = f"the attack declared access to '{access}' only"
        return self.without({v: self.hidden.get(v, reason) for v in VIEWS if v not in given})

    def without(self, hidden: Mapping[str, str]) -> Release:
        """The same release less the views in `hidden` (name -> reason)."""
        views = {name: view for name, view in self.views.items() if name not in hidden}
        return Release(views, hidden={**self.hidden, **hidden}, twin=self.twin)


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

    def refusals(self, setting: Setting, trainer: Trainer) -> list[str]:
        """Every reason why this filling is impossible here; `trainer` is what it would receive."""
        return []

    def guarantees(self, setting: Setting, trainer: Trainer) -> list[Guarantee]:
        """What is formally promised; `trainer` is what this filling received."""
        return []

    def apply(self, subject: Any, *, setting: Setting) -> Any:
        """Map the slot's type to the same type."""
        return subject

    def prove(self, release: Release, x: np.ndarray, *, setting: Setting, n: int) -> Any:
        """Evidence that the plain twin, which answers in place of an encrypted service, equals it.

        `n` of the records `x` go through the real one. Returns None where there is no twin, else an object
        with `error` (largest difference of a logit), `agreement` (share of equal classes), `seconds`,
        `bytes_in` and `bytes_out` (of a query), `plain_seconds` and `overhead`.
        """
        return None

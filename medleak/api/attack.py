"""Threat model, base class and output of attacks."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from medleak.api.challenge import GoalChallenge
from medleak.api.component import Component
from medleak.api.data import ProblemSpec
from medleak.api.errors import MedleakError
from medleak.api.knowledge import Knowledge
from medleak.api.membership import Challenge
from medleak.api.release import Release
from medleak.api.types import View


@dataclass(frozen=True)
class ThreatModel:
    """Who attacks, for what, with what.

    Attributes:
        goal: what the adversary wants to learn.
        access: the view of the release that it needs.
        observations: how often it sees that view (None: as often as it likes).
        knowledge: what it has in addition to the release: "auxiliary", "shadows", "architecture",
            "labels", "batch_statistics", "defense", "all_but_one".
        adversary: "outsider", "client" or "server".
        conduct: "honest-but-curious", "malicious", "colluding" or "poisoning".
    """

    goal: str
    access: View
    observations: int | None = None
    knowledge: tuple[str, ...] = ()
    adversary: Literal["outsider", "client", "server"] = "outsider"
    conduct: Literal["honest-but-curious", "malicious", "colluding", "poisoning"] = (
        "honest-but-curious"
    )


@dataclass(frozen=True)
class Output:
    """What an attack returned: `scores` ``(N,)`` float64 (higher: more likely a member) for
    membership, ``(N, V)`` for an attribute of V values, ``(1,)`` for a property, or `reconstructions`
    ``(N, ...)``, with `Attack.prior_samples`; seconds and queries as the base class
    counted."""

    scores: np.ndarray | None = None
    reconstructions: np.ndarray | None = None
    prior_samples: np.ndarray | None = None
    seconds: float = 0.0
    queries: int = 0


class Attack(Component, ABC):
    """Base of every attack: the author writes `run`, and `fit` where there is something to learn.

    An attack never sees the `MembershipTruth` and computes no metric. Class attributes are literals, because
    `medleak list` reads them without importing the module:

    - `requires`: the `ThreatModel`;
    - `paper`: "Author et al. year, title, venue";
    - `kinds`: the kinds of challenge record that it has something to say about; empty: all;
    - `first_layer`: the only first layer that it can read ("linear"); empty: any. Networks say theirs
      in a literal of the same name, and are let pass where they do not.

    Only the order of membership scores counts, so that infinite ones are allowed: the surest, at
    both ends (averaged over a patient's records they count as 1e100). NaN has no order: a failure.
    """

    requires: ClassVar[ThreatModel]
    paper: ClassVar[str] = ""
    kinds: ClassVar[Sequence[str]] = ()
    first_layer: ClassVar[str] = ""

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        """Every reason why the attack cannot be mounted. `knowledge` is its YAML block."""
        return []

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        """Learn from auxiliary data and shadows."""

    @abstractmethod
    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        """Scores ``(N,)``, higher for members; ``(N, V)`` for an attribute; reconstructions ``(N, ...)``."""

    def prior_samples(self, challenge: Any) -> np.ndarray | None:
        """Of an inversion attack: the like of `run`'s answer, drawn from its prior without the model.

        Called after `run`. None where it has no prior.
        """
        return None

    def execute(self, release: Release, challenge: Challenge, knowledge: Knowledge) -> Output:
        """Fit and run, timed, counted and checked; the engine calls it.

        Raises:
            MedleakError: the query budget was overdrawn, or what came back is not ``(N,)`` numbers
                (reconstructions: not ``(N, ...)``), NaN among them.
        """
        before, start = release.queries, time.perf_counter()
        self.fit(release, knowledge)
        result = np.asarray(self.run(release, challenge))
        queries = release.queries - before
        if knowledge.budget is not None and queries > knowledge.budget:
            raise MedleakError(f"{queries} queries overdraw the budget of {knowledge.budget}")
        seconds = time.perf_counter() - start
        self._check(result, challenge)
        if challenge.answer == "scores":
            return Output(scores=result, seconds=seconds, queries=queries)
        prior = self.prior_samples(challenge)
        return Output(reconstructions=result, prior_samples=prior, seconds=seconds, queries=queries)

    def _check(self, result: np.ndarray, challenge: GoalChallenge) -> None:
        who, wanted = type(self).__name__, challenge.shape
        if not np.issubdtype(result.dtype, np.number):
            raise MedleakError(f"{who} returned {result.dtype} values: numbers are needed")
        fits = result.ndim == len(wanted) and all(
            n is None or n == m for n, m in zip(wanted, result.shape, strict=True)
        )
        if not fits:
            shown = str(wanted).replace("None", "any")
            raise MedleakError(f"{who} returned shape {result.shape}: {shown} is needed")
        if np.isnan(result).any():
            count = int(np.isnan(result).sum())
            raise MedleakError(f"{who} returned NaN for {count} value{'s' * (count > 1)}")

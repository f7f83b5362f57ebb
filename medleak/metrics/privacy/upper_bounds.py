"""From formal guarantees to the largest leakage that they allow.

A differential-privacy promise bounds the whole ROC of every attack by a concave roof: the lowest of
straight lines ``TPR <= slope * FPR + intercept``. Pairs (eps, delta) give two lines each; a mechanism
whose privacy loss distribution (PLD) can be had gives a pair for every eps. Where no PLD can be had
the ceiling is None, "vacuous": it is never extrapolated.

Each pair's delta is the larger of the add and the remove direction. With subsampling the two differ,
and the roof then lies a little above what the best attack can reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Guarantee
from medleak.metrics.privacy.profiles import MECHANISMS

MAX_EPSILON = 30.0
"""From here on e^-eps is below 1e-13: a bare (eps, delta) promise allows everything."""

VIOLATION_LEVEL = 0.999
"""Level of the one-sided lower bound that must exceed a ceiling before a violation is called."""


@dataclass(frozen=True)
class Roof:
    """The largest TPR at each FPR: ``T(a) = min(1, min_j slopes[j] a + intercepts[j])``.

    `slopes` and `intercepts` are ``(J,)``. T is concave, so that it also bounds averages over records,
    patients and runs.
    """

    slopes: np.ndarray
    intercepts: np.ndarray

    def tpr(self, fpr: np.ndarray | float) -> np.ndarray:
        """T at `fpr`, same shape."""
        lines = np.multiply.outer(np.asarray(fpr, dtype=float), self.slopes) + self.intercepts
        return np.clip(lines.min(axis=-1), 0.0, 1.0)

    def auc(self) -> float:
        """Integral of T, by the midpoint rule: for a concave T that is never below the integral."""
        edges = np.linspace(0, 1, 5001)
        return float(self.tpr((edges[1:] + edges[:-1]) / 2).mean())

    def balanced_accuracy(self) -> float:
        """``max_a (T(a) + 1 - a) / 2``; the line of slope 1 (eps = 0) attains it."""
        flat = np.isclose(self.slopes, 1.0)
        grid = np.linspace(0, 1, 5001)
        advantage = self.intercepts[flat].min() if flat.any() else (self.tpr(grid) - grid).max()
        return float(min((1 + advantage) / 2, 1.0))

    def precision(self, prior: float) -> float | None:
        """Largest precision at membership prior `prior`; None where TPR > 0 is allowed at FPR 0."""
        if self.tpr(0.0) > 0:
            return None
        ratio = float(self.slopes[self.intercepts <= 0].min())
        return prior * ratio / (prior * ratio + 1 - prior)


def roof(guarantees: Sequence[Guarantee]) -> Roof | None:
    """The roof under all the DP promises among `guarantees`; None where they allow everything."""
    lines = [pair for g in guarantees if g.kind == "dp" and (pair := _lines(g)) is not None]
    if not lines:
        return None
    return Roof(*(np.concatenate(part) for part in zip(*lines, strict=True)))


def _lines(guarantee: Guarantee) -> tuple[np.ndarray, np.ndarray] | None:
    if guarantee.mechanism:
        profile = privacy_profile(guarantee.mechanism)
        if profile is not None:
            return _pairs(*profile)
    epsilon, delta = guarantee.epsilon, guarantee.delta or 0.0
    if epsilon is None or not 0 <= epsilon < MAX_EPSILON or not 0 <= delta < 1:
        return None
    return _pairs(np.array([epsilon]), np.array([delta]))


def _pairs(epsilon: np.ndarray, delta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``TPR <= e^eps FPR + delta`` and ``1 - FPR <= e^eps (1 - TPR) + delta``, as lines."""
    shrink = np.exp(-epsilon)
    slopes = np.concatenate([np.exp(epsilon), shrink])
    return slopes, np.concatenate([delta, 1 - shrink * (1 - delta)])


def tradeoff(mechanism: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """Largest TPR at each FPR that `mechanism` allows, ``(fpr, tpr)``; None is vacuous.

    Args:
        mechanism: its name and parameters; see `medleak.metrics.privacy.profiles`.
    """
    profile = privacy_profile(mechanism)
    if profile is None:
        return None
    fpr = np.unique(np.concatenate([np.geomspace(1e-6, 1, 241), np.linspace(0, 1, 201)]))
    return fpr, Roof(*_pairs(*profile)).tpr(fpr)


def privacy_profile(mechanism: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
    """``(eps, delta)`` pairs that `mechanism` satisfies, both directions; None is vacuous.

    Its "name" is looked up in `medleak.metrics.privacy.profiles`; of an unknown one nothing is known.
    """
    name = mechanism.get("name")
    return MECHANISMS.get(name).profile(mechanism) if name in MECHANISMS else None


def applicable(
    guarantees: Sequence[Guarantee], *, unit: str, max_records: int = 1
) -> list[Guarantee]:
    """The guarantees that bound membership inference: DP, add/remove, of the unit whose membership is drawn.

    Membership is drawn patient by patient, so that all records of a patient are in or out together: a
    guarantee for one record is a bound, by record or by patient, only where nobody has more than
    one. Its conversion to groups is a fact to report, not a protection.
    """
    single = max_records == 1 or unit.startswith("image")
    return [
        g
        for g in guarantees
        if g.kind == "dp" and g.adjacency == "add/remove" and (g.unit == "patient" or single)
    ]

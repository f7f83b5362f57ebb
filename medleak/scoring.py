"""From the scores of an attack, on one target or several, to the figures of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Estimate, Guarantee, Metric, Records, Scored, Secret


@dataclass(frozen=True)
class Bouts:
    """What an attack scored on each of T targets, and the truth.

    Attributes:
        scores: ``(T, N)``.
        member: ``(T, N)`` bool.
        records: the N challenge records, the same for all targets.
    """

    scores: np.ndarray
    member: np.ndarray
    records: Records

    def take(self, index: np.ndarray) -> Bouts:
        """The records at `index` only."""
        return Bouts(self.scores[:, index], self.member[:, index], self.records.take(index))

    def by_patient(self) -> Bouts:
        """A patient's scans scored jointly: one record a patient."""
        from medleak.metrics.roc import per_patient

        patients = self.records.patients
        first = np.unique(patients, return_index=True)[1]
        joint = [per_patient(s, patients, m) for s, m in zip(self.scores, self.member, strict=True)]
        scores, _, member = (np.stack(part) for part in zip(*joint, strict=True))
        return Bouts(scores, member, self.records.take(first))

    def pooled(self) -> tuple[Scored, Secret, dict[str, np.ndarray]]:
        """All targets in one sample, ``(T N,)``: scores with their patients, the truth, the groups."""
        n = len(self.scores)
        groups = {name: np.tile(column, n) for name, column in self.records.groups.items()}
        patients = np.tile(self.records.patients, n)
        return Scored(self.scores.ravel(), patients), Secret(self.member.ravel()), groups


def figures(
    metrics: Mapping[str, Metric], guarantees: Sequence[Guarantee], bouts: Bouts, unit: str
) -> dict[str, Any]:
    """The parts of a row that are measured on scores: leakage, groups, ceilings, violations, spread."""
    from medleak.metrics.ceilings import ceilings, violations
    from medleak.metrics.membership import by_group, evaluate, worst_group

    counts = np.unique(bouts.records.patients, return_counts=True)[1]
    roofs = ceilings(metrics, guarantees, unit=unit, max_records=int(counts.max(initial=1)))
    if unit == "patient":
        bouts = bouts.by_patient()
    scored, secret, groups = bouts.pooled()
    measured = by_group(metrics, scored, secret, groups)
    return {
        "leakage": evaluate(metrics, scored, secret),
        "groups": measured,
        "worst_group": worst_group(metrics, scored, secret, groups, measured=measured),
        "ceilings": roofs,
        "violations": tuple(violations(metrics, scored, secret, roofs)),
        **(_over_targets(metrics, bouts) if len(bouts.scores) > 1 else {}),
    }


def _over_targets(metrics: Mapping[str, Metric], bouts: Bouts) -> dict[str, Any]:
    """How the metrics vary from target to target."""
    found: dict[str, list[float]] = {}
    for scores, member in zip(bouts.scores, bouts.member, strict=True):
        for name, metric in metrics.items():
            estimate = metric(Scored(scores, bouts.records.patients), Secret(member))
            if isinstance(estimate, Estimate) and estimate.value is not None:
                found.setdefault(name, []).append(estimate.value)
    spread = {
        name: {
            "mean": float(np.mean(values)),
            "sd": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "min": min(values),
            "max": max(values),
            "n": len(values),
        }
        for name, values in found.items()
    }
    return {"spread": spread}

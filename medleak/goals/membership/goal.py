"""The membership game: from the scores of an attack, on one target or several, to the figures of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import (
    Challenge,
    Estimate,
    Guarantee,
    MedleakError,
    MembershipScores,
    MembershipTruth,
    Metric,
    Records,
)
from medleak.config.instantiate import build
from medleak.core.store import Store
from medleak.goals.base import AttackOutputs, Game

if TYPE_CHECKING:
    from medleak.engine.cell import Cell, ShadowedTarget
    from medleak.results.row import Row


class Membership(Game):
    """Who was trained on."""

    def asked(self, cell: Cell, shadowed: ShadowedTarget, store: Store) -> Challenge:
        return shadowed.target.challenge

    def rows(self, cell: Cell, store: Store, played: AttackOutputs) -> list[Row]:
        """A row for each kind of challenge record, by patient and, where they differ, by record."""
        if any(output.scores is None for output in played.outputs):
            raise MedleakError(f"{cell.config['attack']['name']} returned no scores")
        experiment, challenge = cell.target_spec.experiment, cell.target_spec.challenge
        target_scores = TargetScores(
            np.stack([output.scores for output in played.outputs]),
            np.stack(
                [
                    experiment.secret(shadowed.target.column).member
                    for shadowed in cell.shadowed_targets
                ]
            ),
            challenge.records,
            independent=not cell.shadow_specs or cell.knowledge["pool"] == "auxiliary",
        )
        if len(cell.shadowed_targets) > 1:
            facts = {"cell": cell.key, "attack": cell.config["attack"]["name"]}
            store.save(
                "scores",
                cell.key,
                facts,
                {"scores": target_scores.scores, "member": target_scores.member},
            )
        return _rows(cell, target_scores, challenge.kind, played.shared)


def _rows(
    cell: Cell, target_scores: TargetScores, kinds: np.ndarray, shared: Mapping[str, Any]
) -> list[Row]:
    """A row for each kind of challenge record, by patient and, where they differ, by record."""
    problem = cell.target_spec.experiment.problem
    units = [problem.unit] if problem.max_records == 1 else ["patient", "record"]
    metrics = {name: build(block) for name, block in cell.metrics.items()}
    guarantees = cell.binding(shared["guarantees"])
    rows = []
    asked = set(kinds.tolist()) & set(cell.attack.kinds or kinds.tolist())
    if not asked:
        wanted = ", ".join(cell.attack.kinds)
        return [cell.row("not_applicable", f"no challenge record is of a kind asked for: {wanted}")]
    for kind in sorted(asked, key=lambda k: (k != "natural", k)):
        chosen = target_scores.take(np.flatnonzero(kinds == kind))
        for unit in units:
            measured = figures(metrics, guarantees, [chosen], unit)
            rows.append(cell.row(**shared, **measured, records=kind, unit=unit))
        if cell.exposed:
            parts = most_exposed(chosen, cell.halves, cell.exposed)
            # What needs whole runs cannot be measured on patients who differ from half to half.
            some = {n: metric for n, metric in metrics.items() if not metric.needs_whole_runs}
            measured = figures(some, guarantees, parts, units[0])
            name = f"{kind}, {cell.exposed:.0%} most exposed"
            rows.append(cell.row(**shared, **measured, records=name, unit=units[0]))
    return rows


@dataclass(frozen=True)
class TargetScores:
    """What an attack scored on each of T targets, and the truth.

    Attributes:
        scores: ``(T, N)``.
        member: ``(T, N)`` bool.
        records: the N challenge records, the same for all targets.
        independent: see `medleak.api.MembershipScores`.
    """

    scores: np.ndarray
    member: np.ndarray
    records: Records
    independent: bool = True

    def take(self, index: np.ndarray) -> TargetScores:
        """The records at `index` only."""
        return replace(
            self,
            scores=self.scores[:, index],
            member=self.member[:, index],
            records=self.records.take(index),
        )

    def by_patient(self) -> TargetScores:
        """A patient's scans scored jointly: one record a patient."""
        from medleak.metrics.statistics.roc import per_patient

        patients = self.records.patients
        first = np.unique(patients, return_index=True)[1]
        joint = [per_patient(s, patients, m) for s, m in zip(self.scores, self.member, strict=True)]
        scores, _, member = (np.stack(part) for part in zip(*joint, strict=True))
        return replace(self, scores=scores, member=member, records=self.records.take(first))

    def of(self, targets: np.ndarray) -> TargetScores:
        """Some of the targets only."""
        return replace(self, scores=self.scores[targets], member=self.member[targets])


def pooled(
    parts: Sequence[TargetScores],
) -> tuple[MembershipScores, MembershipTruth, dict[str, np.ndarray]]:
    """All targets of all parts in one sample: scores with their patients, the truth, the groups."""

    def tiled(column: Callable[[TargetScores], np.ndarray]) -> np.ndarray:
        return np.concatenate([np.tile(column(part), len(part.scores)) for part in parts])

    groups = {
        name: tiled(lambda b, n=name: b.records.groups[n]) for name in parts[0].records.groups
    }
    scores = np.concatenate([part.scores.ravel() for part in parts])
    member = np.concatenate([part.member.ravel() for part in parts])
    sizes = [len(part.records) for part in parts for _ in part.scores]
    run = np.repeat(np.arange(len(sizes)), sizes)
    independent = all(part.independent for part in parts)
    scored = MembershipScores(scores, tiled(lambda b: b.records.patients), run, independent)
    return scored, MembershipTruth(member), groups


def most_exposed(target_scores: TargetScores, half: np.ndarray, share: float) -> list[TargetScores]:
    """The `share` of patients that each half of the targets exposes most, judged on the other half.

    Sound only where a half's scores depend on its own runs alone (see `medleak.metrics.exposure`).

    Args:
        half: which half each target is in, ``(T,)`` bool.
    """
    from medleak.metrics.exposure import ranks, vulnerability

    parts = []
    for judged in (half, ~half):
        others = target_scores.of(~judged).by_patient()
        gaps = vulnerability(ranks(others.scores), others.member)
        worst = np.argsort(-gaps, kind="stable")[: max(1, round(share * len(gaps)))]
        among = np.isin(target_scores.records.patients, others.records.patients[worst])
        parts.append(target_scores.of(judged).take(np.flatnonzero(among)))
    return parts


def figures(
    metrics: Mapping[str, Metric],
    guarantees: Sequence[Guarantee],
    parts: Sequence[TargetScores],
    unit: str,
) -> dict[str, Any]:
    """The parts of a row that are measured on scores: leakage, groups, ceilings, violations, spread."""
    from medleak.metrics.membership import by_group, evaluate, worst_group
    from medleak.metrics.privacy.upper_bounds import ceilings, violations

    counts = [np.unique(part.records.patients, return_counts=True)[1] for part in parts]
    most = int(np.concatenate(counts).max(initial=1))
    roofs = ceilings(metrics, guarantees, unit=unit, max_records=most)
    if unit == "patient":
        parts = [part.by_patient() for part in parts]
    scored, secret, groups = pooled(parts)
    measured = by_group(metrics, scored, secret, groups)
    return {
        "leakage": evaluate(metrics, scored, secret),
        "groups": measured,
        "worst_group": worst_group(metrics, scored, secret, groups, measured=measured),
        "ceilings": roofs,
        "violations": tuple(violations(metrics, scored, secret, roofs)),
        **(_over_targets(metrics, parts) if sum(len(part.scores) for part in parts) > 1 else {}),
    }


def _over_targets(metrics: Mapping[str, Metric], parts: Sequence[TargetScores]) -> dict[str, Any]:
    """How the metrics vary from target to target."""
    found: dict[str, list[float]] = {}
    targets = [
        (MembershipScores(scores, part.records.patients), MembershipTruth(member))
        for part in parts
        for scores, member in zip(part.scores, part.member, strict=True)
    ]
    for target in targets:
        for name, metric in metrics.items():
            estimate = metric(*target)
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

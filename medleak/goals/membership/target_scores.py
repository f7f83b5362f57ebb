"""What an attack scored on several targets, pooled into one sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medleak.api import MembershipScores, MembershipTruth, Records


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

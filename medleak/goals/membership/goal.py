"""Membership inference: from the scores of an attack, on one target or several, to the samples of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Guarantee,
    MembershipScores,
    MembershipTruth,
    NotApplicable,
    Output,
    multiclass,
    multilabel,
    segmentation,
)
from medleak.api.goal import AttackOutputs, Example, Goal, Outcome, Question, Sample
from medleak.goals.membership.report import REPORT
from medleak.goals.membership.target_scores import TargetScores, most_exposed, pooled


class Membership(Goal):
    """Who was trained on."""

    name = "membership"
    report = REPORT
    artefacts = ("classifier", "messages", "records", "generator")
    example_settings = (
        {"task": multiclass.name, "in_shape": (1, 8, 8)},
        {"task": multiclass.name, "in_shape": (12,)},
        {"task": multilabel.name, "in_shape": (1, 8, 8)},
        {"task": segmentation.name, "in_shape": (1, 8, 8)},
    )

    def question(self, case: Any, shadowed: Any, runs: Any) -> Question:
        run = shadowed.target
        return Question(run.challenge, run.experiment.secret(run.column))

    def samples(self, case: Any, outputs: AttackOutputs, runs: Any) -> list[Sample]:
        """One for each kind of challenge record, by patient and, where they differ, by record."""
        challenge = outputs.targets[0].question.challenge
        asked = set(challenge.kind.tolist()) & set(case.attack.kinds or challenge.kind.tolist())
        if not asked:
            wanted = ", ".join(case.attack.kinds)
            raise NotApplicable(f"no challenge record is of a kind asked for: {wanted}")
        everybody = TargetScores(
            np.stack([one.output.scores for one in outputs.targets]),
            np.stack([one.question.truth.member for one in outputs.targets]),
            challenge.records,
            independent=not case.shadow_specs or case.knowledge["pool"] == "auxiliary",
        )
        found: list[Sample] = []
        for kind in sorted(asked, key=lambda k: (k != "natural", k)):
            chosen = everybody.take(np.flatnonzero(challenge.kind == kind))
            found += _samples(case, chosen, kind, outputs.guarantees)
        return found

    def example(
        self, attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0
    ) -> Example:
        from medleak.goals.membership.example import example

        return example(attack, knowledge, leak=leak, seed=seed)

    def outcome(self, question: Question, output: Output) -> Outcome:
        """AUC, against the exact standard deviation of the rank statistic where nothing leaks."""
        from medleak.goals.membership.example import outcome

        return outcome(question, output)


def _samples(
    case: Any, chosen: TargetScores, kind: str, guarantees: Sequence[Guarantee]
) -> Iterator[Sample]:
    problem = case.experiment.problem
    units = [problem.unit] if problem.max_records == 1 else ["patient", "record"]
    for unit in units:
        yield sample(guarantees, [chosen], records=kind, unit=unit)
    share = case.most_vulnerable_fraction
    if share:
        # What needs whole runs cannot be measured on patients who differ from half to half.
        parts = most_exposed(chosen, case.target_half, share)
        name = f"{kind}, {share:.0%} most exposed"
        yield sample(guarantees, parts, records=name, unit=units[0], whole_runs=False)


def sample(
    guarantees: Sequence[Guarantee],
    parts: Sequence[TargetScores],
    *,
    records: str,
    unit: str,
    whole_runs: bool = True,
) -> Sample:
    """The targets of all `parts` in one sample, scored by `unit`."""
    from medleak.metrics.membership import subgroups
    from medleak.metrics.privacy.upper_bounds import applicable

    counts = [np.unique(part.records.patients, return_counts=True)[1] for part in parts]
    most = int(np.concatenate(counts).max(initial=1))
    if unit == "patient":
        parts = [part.by_patient() for part in parts]
    scores, truth, groups = pooled(parts)
    return Sample(
        records=records,
        unit=unit,
        answer=scores,
        truth=truth,
        guarantees=applicable(guarantees, unit=unit, max_records=most),
        subgroups=subgroups(scores, truth, groups),
        worst=True,
        targets=[
            (MembershipScores(one, part.records.patients), MembershipTruth(member))
            for part in parts
            for one, member in zip(part.scores, part.member, strict=True)
        ],
        whole_runs=whole_runs,
    )

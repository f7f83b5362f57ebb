"""Property inference: is the share of a value in the training set the higher or the lower of two?

Each target is drawn with one of the two shares, by its own coin and at the same expected size; the attack's
shadows are drawn in the same way from auxiliary patients. The unit is a training set, not a patient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import Attack, Output, PropertyChallenge, PropertyScores, PropertyTruth
from medleak.api.goal import AttackOutputs, Example, Goal, Outcome, Question, Sample
from medleak.core.suggestions import unknown
from medleak.data import proportions as proportions
from medleak.data.experiment import ExperimentData
from medleak.data.proportions import PropertyDraw
from medleak.goals.property.report import REPORT

LEAST_TARGETS = 12
"""With fewer, not even a perfect order of shares like 30% and 70% could be distinguished from chance."""
LEAST_SHADOWS = 12
UNIT = "training set"


class Property(Goal):
    """A property of the training set as a whole."""

    name = "property"
    report = REPORT
    options = {"attribute": None, "value": None, "shares": (0.3, 0.7)}
    model_free_control = False

    def pool(self, case: Any, pool: str) -> str:
        draw_spec = _draw_spec(case)
        return draw_spec.pool(pool) if isinstance(draw_spec, PropertyDraw) else pool

    def reasons(self, case: Any) -> list[str]:
        draw_spec, known = _draw_spec(case), case.knowledge
        found = [] if isinstance(draw_spec, PropertyDraw) else list(draw_spec)
        n = len(case.shadowed_targets)
        if n < LEAST_TARGETS:
            found.append(f"n_targets={n}: shares are told of {LEAST_TARGETS} targets or more")
        if known["n_shadows"] < LEAST_SHADOWS:
            found.append(
                f"n_shadows={known['n_shadows']}: a property is learned on {LEAST_SHADOWS} or more"
            )
        if known["pool"] != "auxiliary":
            found.append("pool=audit: the shadows of a property are drawn from auxiliary patients")
        if case.most_vulnerable_fraction:
            found.append("exposed: no patient is asked about")
        return found

    def question(self, case: Any, shadowed: Any, runs: Any) -> Question:
        draw_spec = _draw_spec(case)
        high = np.array([_higher(spec) for spec in shadowed.shadows])
        challenge = PropertyChallenge(draw_spec.column, draw_spec.value, draw_spec.shares, high)
        return Question(challenge, PropertyTruth(np.array([_higher(shadowed.target)])))

    def samples(self, case: Any, outputs: AttackOutputs, runs: Any) -> list[Sample]:
        """One over all targets."""
        draw_spec, experiment = _draw_spec(case), case.experiment
        answer = PropertyScores(
            np.array([one.output.scores[0] for one in outputs.targets], dtype=np.float64),
            draw_spec.shared(experiment.challenge.records, experiment.problem.n_patients),
        )
        truth = PropertyTruth(np.concatenate([one.question.truth.high for one in outputs.targets]))
        low, high = draw_spec.shares
        records = f"{draw_spec.column}={draw_spec.value}, {low:.3g} or {high:.3g}"
        return [Sample(records, UNIT, answer, truth)]

    def example(
        self, attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0
    ) -> Example:
        from medleak.goals.property.example import example

        return example(attack, knowledge, leak=leak, seed=seed)

    def outcome(self, question: Question, output: Output) -> Outcome:
        from medleak.goals.property.example import outcome

        return outcome(question, output)


def _higher(spec: Any) -> bool:
    return proportions.higher(spec.pool, spec.column, seed=spec.experiment.split_seed)


def _draw_spec(case: Any) -> PropertyDraw | list[str]:
    """What is drawn, or every reason why it cannot be."""
    known, experiment = case.knowledge, case.experiment
    found = _column(experiment, known["attribute"], known["value"]) + _shares(known["shares"])
    if found:
        return found
    low, high = map(float, known["shares"])
    draw_spec = PropertyDraw(known["attribute"], known["value"], (low, high))
    return proportions.incompatibilities(experiment, draw_spec) or draw_spec


def _column(experiment: ExperimentData, attribute: Any, value: Any) -> list[str]:
    groups = experiment.challenge.records.groups
    if not groups:
        return [f"{experiment.dataset.name} has no subgroup columns: there is no share to tell"]
    if not isinstance(attribute, str) or attribute not in groups:
        return [unknown("attack.knowledge.attribute", attribute, groups)]
    if not len(experiment.auxiliary):
        return ["split.n_auxiliary=0: shadows are drawn from auxiliary patients"]
    values = set(np.asarray(groups[attribute]).tolist()) - {""}
    if value not in values:
        return [unknown(f"attack.knowledge.value of {attribute}", value, values)]
    for records in (experiment.challenge.records, experiment.auxiliary):
        pairs = {*zip(records.patients.tolist(), records.groups[attribute].tolist(), strict=True)}
        if len(pairs) > len(np.unique(records.patients)):
            return [
                f"{attribute} differs between records of a patient: no share of patients has it"
            ]
    return []


def _shares(shares: Any) -> list[str]:
    numbers = isinstance(shares, Sequence) and not isinstance(shares, str) and len(shares) == 2
    if numbers and all(isinstance(s, int | float) and not isinstance(s, bool) for s in shares):
        low, high = shares
        if 0 <= low < high <= 1:
            return []
    return [
        f"attack.knowledge.shares is {shares!r}: two shares in 0..1 are needed, the lower first"
    ]

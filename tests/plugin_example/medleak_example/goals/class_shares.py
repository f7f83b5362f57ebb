"""A goal of the plugin's own: how common was each class among those trained on?

The attack answers with C shares. Nobody is asked about: what is told is a property of the hospital.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    AttackOutputs,
    Example,
    Goal,
    GoalChallenge,
    Knowledge,
    NotApplicable,
    Outcome,
    Output,
    ProblemSpec,
    Question,
    Records,
    Release,
    Sample,
)

N, FEATURES, CLASSES = 300, 4, 3
SIGMAS = 3.29


@dataclass(frozen=True)
class SharesChallenge(GoalChallenge):
    """The share of each of `n_classes` among the records trained on: ``(C,)``, any positive numbers."""

    n_classes: int

    def __len__(self) -> int:
        return self.n_classes


class ClassShares(Goal):
    """How common each class was among the records that were trained on."""

    name = "example_shares"
    model_free_control = False

    def reasons(self, case: Any) -> list[str]:
        found = []
        if case.experiment.problem.task != "multiclass":
            found.append("class shares are those of a task with one class a record")
        if len(case.shadowed_targets) > 1:
            found.append("n_targets > 1: class shares are asked of one run")
        return found

    def question(self, case: Any, shadowed: Any, runs: Any) -> Question:
        run = shadowed.target
        experiment = run.experiment
        n_classes = experiment.problem.n_outputs
        inside = experiment.secret(run.column).member
        truth = shares(experiment.challenge.y[inside], n_classes)
        return Question(SharesChallenge(n_classes), truth)

    def samples(self, case: Any, outputs: AttackOutputs, runs: Any) -> list[Sample]:
        """One: the shares of all classes. Those of auxiliary patients are what is known anyway."""
        [one] = outputs.targets
        n_classes = one.question.challenge.n_classes
        baselines = {
            "auxiliary patients": shares(case.experiment.auxiliary.y, n_classes),
            "even shares": np.full(n_classes, 1 / n_classes),
        }
        answer, truth = one.output.scores, one.question.truth
        return [Sample("classes", "class", answer, truth, baselines=baselines)]

    def example(
        self, attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0
    ) -> Example:
        """A model that says each class as often as it met it; without a leak, as often as chance has it."""
        if attack.requires.access not in ("labels", "scores"):
            raise NotApplicable(f"the example has no view '{attack.requires.access}'")
        rng = np.random.default_rng([seed, 0])
        truth, other = rng.dirichlet(np.ones(CLASSES), 2)
        odds = np.log(truth if leak else other)
        weight = 0.1 * rng.normal(size=(FEATURES, CLASSES))

        def scores(x: np.ndarray) -> np.ndarray:
            z = x @ weight + odds
            return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

        release = Release({"scores": scores, "labels": lambda x: scores(x).argmax(1)})
        x = rng.normal(size=(N, FEATURES)).astype(np.float32)
        known = Knowledge(
            ProblemSpec(N, N, 1, (FEATURES,), CLASSES),
            auxiliary=Records(x, rng.integers(0, CLASSES, N), np.arange(N)),
            rng=np.random.default_rng([seed, 1]),
            budget=knowledge.get("budget"),
        )
        return Example(release, Question(SharesChallenge(CLASSES), truth), known)

    def outcome(self, question: Question, output: Output) -> Outcome:
        """Whether the most common class is told: 1 or 0."""
        right = output.scores.argmax() == question.truth.argmax()
        chance = 1 / len(question.truth)
        return Outcome(float(right), chance, SIGMAS * np.sqrt(chance * (1 - chance)))


def shares(y: np.ndarray, n_classes: int) -> np.ndarray:
    """Of each class, ``(C,)``."""
    return np.bincount(y, minlength=n_classes) / max(len(y), 1)

"""Reconstruction: the attacked messages, and the records that reconstructions are compared with.

An attack rebuilds the records behind some of the observed messages of federated training. Only the
scoring knows which records these are. The gallery of possible records is the whole challenge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Guarantee,
    Metric,
    Output,
    Reconstructions,
    ReconstructionTruth,
)
from medleak.api.data import pixels
from medleak.api.goal import AttackOutputs, Example, Goal, Outcome, Question, Sample
from medleak.core.keys import rng_for
from medleak.core.validation import whole
from medleak.data.experiment import ExperimentData
from medleak.goals.observed_messages import AGES, reconstruction_task
from medleak.goals.reconstruction.informed import informed
from medleak.goals.reconstruction.report import REPORT

CANDIDATE = "random candidate"
"""The baseline of an adversary that knows the candidates for a record."""
CERTAIN = 1e-6
"""Chance, left out of account, that a record takes part more often than is assumed."""


class Reconstruction(Goal):
    """The records behind observed messages of federated training."""

    name = "reconstruction"
    report = REPORT
    supports_identity_targets = True
    options = {"n_trials": 16, "n_candidates": 32}

    def reasons(self, case: Any) -> list[str]:
        for name in self.options:
            whole(f"attack.knowledge.{name}", case.knowledge[name], least=1)
        if len(case.shadowed_targets) > 1:
            return ["n_targets > 1: reconstruction asks about the messages of one run"]
        return []

    def question(self, case: Any, shadowed: Any, runs: Any) -> Question:
        run, known = shadowed.target, case.attack.requires.knowledge
        log, experiment = runs.log(run), run.experiment
        n_trials = case.knowledge["n_trials"]
        task = reconstruction_task(log, experiment, n_trials=n_trials, labels="labels" in known)
        if "all_but_one" in known:
            task = informed(
                task,
                log,
                experiment,
                member=experiment.secret(run.column).member,
                n_candidates=case.knowledge["n_candidates"],
                clip=runs.facts(run).get("clip"),
                rng=rng_for("informed", run.lineage),
            )
        notes = {"positions": task.positions}
        return Question(task.challenge, task, notes=notes, facts={"ages": task.age.tolist()})

    def samples(self, case: Any, outputs: AttackOutputs, runs: Any) -> list[Sample]:
        """One for each age of the attacked model."""
        (one,) = outputs.targets
        task, run = one.question.truth, one.shadowed.target
        experiment, n_members = run.experiment, runs.facts(run)["n_members"]
        found = []
        for age in [age for age in AGES if (task.age == age).any()]:
            found.append(
                sample_of(
                    outputs.guarantees,
                    *task.part(one.output.reconstructions, age, experiment),
                    records=age,
                    experiment=experiment,
                    n_members=n_members,
                    labels=task.labels(age),
                    candidates=task.named(age, experiment),
                )
            )
        return found

    def example(
        self, attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0
    ) -> Example:
        from medleak.goals.reconstruction.example import example

        return example(attack, knowledge, leak=leak, seed=seed)

    def outcome(self, question: Question, output: Output) -> Outcome:
        from medleak.goals.reconstruction.example import outcome

        return outcome(question, output)


def sample_of(
    guarantees: Sequence[Guarantee],
    rebuilt: Reconstructions,
    truth: ReconstructionTruth,
    *,
    records: str,
    experiment: ExperimentData,
    n_members: int,
    labels: Sequence[np.ndarray] | None = None,
    candidates: np.ndarray | None = None,
) -> Sample:
    """What a row about the messages of one age is measured on.

    Args:
        n_members: patients of the challenge who were trained on.
        labels: those behind each message, where the adversary is given them.
        candidates: their images, where they were named: ``(T, M, C, H, W)``, in random order.
    """
    named = None if candidates is None else candidates.shape[1]
    return Sample(
        records=records,
        unit=experiment.problem.unit,
        answer=rebuilt,
        truth=truth,
        baselines=_baselines(rebuilt, experiment, labels, candidates),
        guarantees=_after_participation(guarantees, experiment) or None,
        prior=_prior(rebuilt, experiment, n_members, named),
    )


def _baselines(
    rebuilt: Reconstructions,
    experiment: ExperimentData,
    labels: Sequence[np.ndarray] | None,
    candidates: np.ndarray | None,
) -> dict[str, Reconstructions]:
    """What is rebuilt without the message; see `sample_of`."""
    from medleak.metrics import baselines

    auxiliary = experiment.auxiliary
    others = pixels(auxiliary.x)
    priors = {
        "mean image": baselines.mean_image(rebuilt, others, y=auxiliary.y, labels=labels),
        "typical image": baselines.typical_image(rebuilt, others),
    }
    if len(rebuilt.images) > 1:
        priors["other messages"] = baselines.other_observations(rebuilt)
    if candidates is not None:
        priors[CANDIDATE] = replace(rebuilt, images=candidates[:, :1])
    return priors


def _after_participation(
    guarantees: Sequence[Guarantee], experiment: ExperimentData
) -> list[Guarantee]:
    """What the guarantees allow, given that the scored records were in the scored messages.

    Besides the message itself, a record takes part in other steps: by its coins, almost surely in no
    more than the `CERTAIN` quantile of their number.
    """
    from scipy.stats import binom

    from medleak.metrics.privacy.reconstruction_robustness import given_participation
    from medleak.metrics.privacy.upper_bounds import applicable

    problem = experiment.problem
    known: list[Guarantee] = []
    for promise in applicable(guarantees, unit=problem.unit, max_records=problem.max_records):
        if {"q", "steps"} <= promise.mechanism.keys():
            steps, q = int(promise.mechanism["steps"]), float(promise.mechanism["q"])
            times = 1 + int(binom.isf(CERTAIN, max(steps - 1, 1), q))
            known += given_participation([promise], times)
    return known


def _prior(
    rebuilt: Reconstructions, experiment: ExperimentData, n_members: int, named: int | None
) -> Callable[[Metric], float]:
    """A metric's chance of success without the message.

    Args:
        n_members: patients of the challenge who were trained on.
        named: how many candidates an informed adversary was given; None for any other.
    """
    from medleak.metrics.privacy.reconstruction_robustness import uniform_prior

    # Of the gallery's patients, the other members are known to an informed adversary.
    candidates = max(1, len(np.unique(rebuilt.patients)) - n_members + 1)
    most = int(rebuilt.n_records.max(initial=1))

    def prior(metric: Metric) -> float:
        guesses = getattr(metric, "k", 1)
        if named is not None:  # all of one label, each with the same chance
            return uniform_prior(named, guesses=guesses)
        labels = experiment.problem.n_outputs
        return uniform_prior(candidates, guesses=most * guesses, labels=labels)

    return prior

"""Attribute inference: the attack predicts a column of records that it does not hold.

The column is one of the data set's subgroups (sex, age band, site ...), or, of a table, a feature
("feature:3"). The adversary holds auxiliary patients with their attribute. Of each challenge
record it has the label and the model's answers. Members and non-members are scored separately: what the
attack predicts for both correlates with the label and the image in everybody; the difference was added by
training. An attack on messages of federated training predicts the value of most records behind a message
(`medleak.goals.attribute.messages`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    AttributeChallenge,
    MedleakError,
    NotApplicable,
    Output,
    Records,
    Release,
    task_of,
)
from medleak.api.goal import AttackOutputs, Example, Goal, Outcome, Question, Sample
from medleak.data.experiment import ExperimentData
from medleak.goals.attribute import messages
from medleak.goals.attribute.column import Column, column_of
from medleak.goals.attribute.report import REPORT
from medleak.goals.attribute.sample import IMAGE, AskedRecords, added, sample_of
from medleak.training.run_spec import RunSpec, with_weights

PARTS = ("members", "non-members")
MOST_PIXELS = 4096
"""Of an image, beyond which no classifier is fitted to its pixels for comparison."""


class Attribute(Goal):
    """An attribute of records that the adversary does not hold."""

    name = "attribute"
    report = REPORT
    options = {"attribute": None, "n_trials": 16}

    def reasons(self, case: Any) -> list[str]:
        refusal = column_of(case.experiment, case.knowledge["attribute"])
        found = [refusal] if isinstance(refusal, str) else []
        if case.most_vulnerable_fraction:
            found.append(
                "exposed: rows of the most exposed patients are those of membership attacks"
            )
        if _of_messages(case) and len(case.shadowed_targets) > 1:
            found.append("n_targets > 1: the messages of one run are asked about")
        return found

    def question(self, case: Any, shadowed: Any, runs: Any) -> Question:
        column = _column(case)
        if _of_messages(case):
            return messages.question(case, shadowed, runs, column)
        run = shadowed.target
        experiment = run.experiment
        release = runs.release(run).granting(case.attack.requires.access)
        hidden = experiment.challenge.records.take(column.asked)
        own = column.feature is not None
        challenge = AttributeChallenge(
            attribute=column.name,
            values=column.values,
            known=replace(experiment.auxiliary.take(column.known), groups={}),
            known_value=column.known_value,
            y=hidden.y,
            labels=release.labels(hidden.x),
            scores=release.scores(hidden.x) if "scores" in release.views else None,
            features=_features(run, release, hidden, runs.device)
            if "weights" in release.views
            else None,
            x=_without_feature(hidden.x, column.feature) if hidden.x.ndim == 2 else None,
            column=column.feature,
            centres=column.centres(experiment.auxiliary) if own else None,
        )
        return Question(challenge, experiment.secret(run.column).member[column.asked])

    def samples(self, case: Any, outputs: AttackOutputs, runs: Any) -> list[Sample]:
        """Members and non-members, over all targets; of messages, one for each age."""
        column = _column(case)
        if _of_messages(case):
            return messages.samples(case, outputs.targets[0], runs, column)
        experiment = case.experiment
        hidden = experiment.challenge.records.take(column.asked)
        unit = experiment.problem.unit if column.of_patients(hidden.patients) else "record"
        asked = AskedRecords(column.asked_value, hidden.patients, joint=unit != "record")
        inside = np.concatenate([one.question.truth[asked.first] for one in outputs.targets])
        answers = asked.of([one.output.scores for one in outputs.targets])
        guesses = {
            name: asked.of([guess] * len(outputs.targets))
            for name, guess in baselines(experiment, column).items()
        }
        parts = dict(zip(PARTS, (inside, ~inside), strict=True))
        scored = {part: answers.take(side) for part, side in parts.items()}
        found = []
        for part, side in parts.items():
            known = {name: one.take(side) for name, one in guesses.items()}
            found.append(
                sample_of(
                    scored[part],
                    known,
                    records=part,
                    unit=unit,
                    asked=column.described(),
                    more=partial(added, members=scored[PARTS[0]], others=scored[PARTS[1]])
                    if part == PARTS[0]
                    else None,
                )
            )
        return found

    def example(
        self, attack: Attack, knowledge: Mapping[str, Any], *, leak: bool, seed: int = 0
    ) -> Example:
        from medleak.goals.attribute.example import example

        return example(attack, knowledge, leak=leak, seed=seed)

    def outcome(self, question: Question, output: Output) -> Outcome:
        from medleak.goals.attribute.example import outcome

        return outcome(question, output)


def _of_messages(case: Any) -> bool:
    """Whether the challenge consists of messages of federated training, not of records."""
    return case.attack.requires.access in ("updates", "aggregate")


def _column(case: Any) -> Column:
    column = column_of(case.experiment, case.knowledge["attribute"])
    if isinstance(column, str):
        raise NotApplicable(column)
    return column


def _without_feature(x: np.ndarray, place: int | None) -> np.ndarray:
    """A table without a column's values."""
    hidden = x.copy()
    if place is not None:
        hidden[:, place] = np.nan
    return hidden


def _features(run: RunSpec, release: Release, hidden: Records, device: str) -> np.ndarray:
    from medleak.api.networks import last_layer

    network = with_weights(run.target, run.experiment, release.weights)
    try:
        return last_layer(network, hidden.x, run.experiment.problem.n_outputs, device=device)[0]
    except MedleakError as error:
        raise NotApplicable(str(error)) from None


# --------------------------------------------------------------------------- what is known without the model


def baselines(experiment: ExperimentData, column: Column) -> dict[str, np.ndarray]:
    """What is guessed without the model, ``(N, V)`` each, learned on the same auxiliary patients.

    By chance; from the label alone; on a table, from the other features as well. Those of images are not the
    adversary's, so that "the image itself" is no baseline but shows what could be seen in it.
    """
    from medleak.metrics.guessing import learned

    known = experiment.auxiliary.take(column.known)
    hidden = experiment.challenge.records.take(column.asked)
    n_outputs = experiment.problem.n_outputs
    task = task_of(experiment.problem.task)
    labels = [task.one_hot(records.y, n_outputs) for records in (known, hidden)]

    def guess(own: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        classifier = learned(own, column.known_value, known.patients, n_values=len(column.values))
        return classifier(theirs)

    found = {"guessing": np.zeros((len(hidden), len(column.values))), "label": guess(*labels)}
    if known.x.ndim == 2:
        rest = [i for i in range(known.x.shape[1]) if i != column.feature]
        both = zip((known, hidden), labels, strict=True)
        found["label and other features"] = guess(
            *(np.concatenate([records.x[:, rest], y], axis=1) for records, y in both)
        )
    elif known.x[0].size <= MOST_PIXELS:
        found[IMAGE] = guess(*(records.x.reshape(len(records), -1) for records in (known, hidden)))
    return found

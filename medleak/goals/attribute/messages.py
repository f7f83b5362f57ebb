"""Who is behind a message of federated training: which value of an attribute most of its records have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medleak.api import (
    AttributeScores,
    AttributeTruth,
    MessageAttributeChallenge,
    NotApplicable,
    task_of,
)
from medleak.api.goal import Answered, Question, Sample
from medleak.core.keys import rng_for
from medleak.data.experiment import ExperimentData
from medleak.goals.attribute.column import Column, values_of
from medleak.goals.attribute.sample import AttributeSample, sample_of
from medleak.goals.observed_messages import AGES, ReconstructionTask, reconstruction_task
from medleak.metrics.batches import drawn, majority


@dataclass(frozen=True)
class MessageTruth:
    """Observed messages, and the value that most records of each have, ``(T,)``; -1 where there is none."""

    task: ReconstructionTask
    value: np.ndarray


def question(case: Any, shadowed: Any, runs: Any, column: Column) -> Question:
    """Messages of which one value has the most records; where two have as many, nothing is asked."""
    truth = _truth(case, shadowed, runs, column)
    auxiliary, asked = shadowed.target.experiment.auxiliary, truth.value >= 0
    challenge = MessageAttributeChallenge(
        column.name,
        column.values,
        replace(auxiliary.take(column.known), groups={}),
        column.known_value,
        truth.task.challenge.indices[asked],
        truth.task.challenge.n_records[asked],
    )
    return Question(challenge, truth)


def samples(case: Any, one: Answered, runs: Any, column: Column) -> list[Sample]:
    """One for each age of the observed model; a client's messages are no evidence of their own."""
    run, truth = one.shadowed.target, one.question.truth
    task, value = truth.task, truth.value
    seen, asked = runs.log(run).messages, value >= 0
    clients = np.array([min(seen[int(i)].clients) for i in task.challenge.indices])
    scores = np.zeros((len(value), len(column.values)))
    scores[asked] = one.output.scores
    guesses = {
        "guessing": np.zeros_like(scores),
        "labels behind the message": _from_labels(run.experiment, column, task.positions),
    }
    found = []
    for age in [age for age in AGES if (asked & (task.age == age)).any()]:
        mine = asked & (task.age == age)

        def part(scores: np.ndarray, mine: np.ndarray = mine) -> AttributeSample:
            return AttributeSample(
                AttributeScores(scores[mine], clients[mine]), AttributeTruth(value[mine])
            )

        left_out = int(((task.age == age) & ~asked).sum())
        found.append(
            sample_of(
                part(scores),
                {name: part(guess) for name, guess in guesses.items()},
                records=age,
                unit="message",
                asked={**column.described(), "left_out": left_out},
            )
        )
    return found


def _truth(case: Any, shadowed: Any, runs: Any, column: Column) -> MessageTruth:
    experiment, log = shadowed.target.experiment, runs.log(shadowed.target)
    if not log.contents:
        raise NotApplicable("no message was observed: federated training with observe > 0")
    n_trials = case.knowledge["n_trials"]
    task = reconstruction_task(log, experiment, n_trials=n_trials, labels=False)
    names = values_of(experiment, column.name)(experiment.challenge.records)
    place = {name: v for v, name in enumerate(column.values)}
    value = np.array([place.get(name, -1) for name in names.tolist()])
    truth = [majority(value[row[row >= 0]], len(column.values)) for row in task.positions]
    if max(truth) < 0:
        raise NotApplicable(
            f"no observed message has more records of one {column.name} than of any"
        )
    return MessageTruth(task, np.array(truth))


def _from_labels(experiment: ExperimentData, column: Column, positions: np.ndarray) -> np.ndarray:
    """What the labels behind each message tell of its majority, ``(T, V)``: more than nothing, less than it.

    Learned on batches of auxiliary records of the same size.
    """
    from medleak.metrics.guessing import learned

    known, n_values = experiment.auxiliary.take(column.known), len(column.values)
    task, n_outputs = task_of(experiment.problem.task), experiment.problem.n_outputs
    labels, theirs = (task.one_hot(y, n_outputs) for y in (known.y, experiment.challenge.y))
    found = np.zeros((len(positions), n_values))
    sizes = (positions >= 0).sum(axis=1)
    for size in np.unique(sizes):
        rng = rng_for("batches", experiment.split_seed, int(size))
        batches, value, group = drawn(column.known_value, known.patients, int(size), rng)
        classifier = learned(labels[batches].mean(axis=1), value, group, n_values=n_values)
        mine = sizes == size
        found[mine] = classifier(
            np.stack([theirs[row[row >= 0]].mean(0) for row in positions[mine]])
        )
    return found

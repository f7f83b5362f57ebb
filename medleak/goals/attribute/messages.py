"""Who is behind a message of federated training: which value of an attribute most of its records have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import AttributeScores, AttributeTruth, MessageAttributeChallenge, NotApplicable
from medleak.config.instantiate import build
from medleak.core.keys import rng_for
from medleak.core.store import Store
from medleak.data.experiment import ExperimentData
from medleak.goals.attribute.column import Column, values_of
from medleak.goals.attribute.sample import AttributeSample, figures
from medleak.goals.reconstruction.goal import AGES, ReconstructionTask, reconstruction_task
from medleak.metrics.batches import drawn, majority
from medleak.training.observations import ObservationLog

if TYPE_CHECKING:
    from medleak.engine.cell import Cell, ShadowedTarget
    from medleak.results.row import Row


def asked(
    cell: Cell, shadowed: ShadowedTarget, store: Store, column: Column
) -> MessageAttributeChallenge:
    """Messages of which one value has the most records; where two have as many, nothing is asked."""
    kept, truth = _kept(cell, shadowed, store, column)
    experiment = shadowed.target.experiment
    return MessageAttributeChallenge(
        column.name,
        column.values,
        replace(experiment.auxiliary.take(column.known), groups={}),
        column.known_value,
        kept.challenge.indices[truth >= 0],
        kept.challenge.n_records[truth >= 0],
    )


def rows(
    cell: Cell, store: Store, scores: np.ndarray, column: Column, shared: Mapping[str, Any]
) -> list[Row]:
    """A row for each age of the observed model; a client's messages are no evidence of their own."""
    shadowed = cell.shadowed_targets[0]
    kept, truth = _kept(cell, shadowed, store, column)
    seen, experiment = (
        ObservationLog(store, shadowed.target.key).messages,
        shadowed.target.experiment,
    )
    who = np.array([min(seen[int(i)].clients) for i in kept.challenge.indices])
    metrics = {name: build(block) for name, block in cell.metrics.items()}
    told, asked_about = np.full((len(truth), len(column.values)), 0.0), truth >= 0
    told[asked_about] = scores
    blind = {
        "guessing": np.zeros_like(told),
        "labels behind the message": _from_labels(experiment, column, kept.positions),
    }
    made = []
    for age in [age for age in AGES if (asked_about & (kept.age == age)).any()]:
        mine = asked_about & (kept.age == age)

        def judged(guess: np.ndarray, mine: np.ndarray = mine) -> AttributeSample:
            return AttributeSample(
                AttributeScores(guess[mine], who[mine]), AttributeTruth(truth[mine])
            )

        measured = figures(
            metrics, judged(told), {name: judged(guess) for name, guess in blind.items()}
        )
        controls = {**shared["controls"], "asked": column.described()}
        controls["asked"]["left_out"] = int(((kept.age == age) & ~asked_about).sum())
        kept_parts = {**shared, "controls": controls}
        made.append(cell.row(**kept_parts, **measured, records=age, unit="message"))
    return made


def _kept(
    cell: Cell, shadowed: ShadowedTarget, store: Store, column: Column
) -> tuple[ReconstructionTask, np.ndarray]:
    """The messages that may be asked about, and the value of most records of each; -1 where there is none."""
    experiment = shadowed.target.experiment
    transcript = ObservationLog(store, shadowed.target.key)
    if not transcript.contents:
        raise NotApplicable("no message was observed: federated training with observe > 0")
    found = reconstruction_task(
        transcript, experiment, n_trials=cell.knowledge["n_trials"], labels=False
    )
    names = values_of(experiment, column.name)(experiment.challenge.records)
    place = {name: v for v, name in enumerate(column.values)}
    value = np.array([place.get(name, -1) for name in names.tolist()])
    truth = [majority(value[row[row >= 0]], len(column.values)) for row in found.positions]
    if max(truth) < 0:
        raise NotApplicable(
            f"no observed message has more records of one {column.name} than of any"
        )
    return found, np.array(truth)


def _from_labels(experiment: ExperimentData, column: Column, positions: np.ndarray) -> np.ndarray:
    """What the labels behind each message tell of its majority, ``(T, V)``: more than nothing, less than it.

    Learned on batches of auxiliary records of the same size.
    """
    from medleak.metrics.guessing import learned, one_hot

    known, n_values = experiment.auxiliary.take(column.known), len(column.values)
    labels = one_hot(known.y, experiment.problem.n_outputs)
    theirs = one_hot(experiment.challenge.y, experiment.problem.n_outputs)
    found = np.zeros((len(positions), n_values))
    sizes = (positions >= 0).sum(axis=1)
    for size in np.unique(sizes):
        rng = rng_for("batches", experiment.split_seed, int(size))
        batches, value, group = drawn(column.known_value, known.patients, int(size), rng)
        told = learned(labels[batches].mean(axis=1), value, group, n_values=n_values)
        mine = sizes == size
        found[mine] = told(np.stack([theirs[row[row >= 0]].mean(0) for row in positions[mine]]))
    return found

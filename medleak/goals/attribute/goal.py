"""The attribute game: a column of hidden records, from what the model says of them.

The column is one of the data set's subgroups (sex, age band, site ...), or, of a table, a feature
("feature:3"). The adversary holds auxiliary patients with their attribute; of the
records asked about it has the label and the model's answers. It is judged on members and on non-members
apart: what it tells of both is what goes with the label and the picture in everybody; the difference is
what training added. An attack on messages of federated training is asked who is behind them instead
(`medleak.goals.attribute.messages`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from medleak.api import (
    AttributeChallenge,
    MedleakError,
    MessageAttributeChallenge,
    NotApplicable,
    Records,
    Release,
)
from medleak.config.instantiate import build
from medleak.core.store import Store
from medleak.data.experiment import ExperimentData
from medleak.goals.attribute import messages as compositions
from medleak.goals.attribute.column import Column, column_of
from medleak.goals.attribute.sample import IMAGE, Sample, added, figures
from medleak.goals.base import AttackOutputs, Game
from medleak.release.build import release_of
from medleak.training.run_spec import with_weights

if TYPE_CHECKING:
    from medleak.engine.cell import Cell, ShadowedTarget
    from medleak.results.row import Row

PARTS = ("members", "non-members")
MOST_PIXELS = 4096
"""Of an image, beyond which no classifier is fitted to its pixels for comparison."""


class Attribute(Game):
    """An attribute of records that the adversary does not hold."""

    options = {"attribute": None, "n_trials": 16}

    def reasons(self, cell: Cell) -> list[str]:
        refusal = column_of(cell.target_spec.experiment, cell.knowledge["attribute"])
        found = [refusal] if isinstance(refusal, str) else []
        if cell.exposed:
            found.append(
                "exposed: rows of the most exposed patients are those of membership attacks"
            )
        if _messages(cell) and len(cell.shadowed_targets) > 1:
            found.append("n_targets > 1: the messages of one run are asked about")
        return found

    def asked(
        self, cell: Cell, shadowed: ShadowedTarget, store: Store
    ) -> AttributeChallenge | MessageAttributeChallenge:
        if _messages(cell):
            return compositions.asked(cell, shadowed, store, _column(cell))
        experiment = shadowed.target.experiment
        column = _column(cell)
        release = release_of(shadowed.target, cell.slots, store)
        release = release.granting(cell.attack.requires.access)
        hidden = experiment.challenge.records.take(column.asked)
        own = column.feature is not None
        return AttributeChallenge(
            attribute=column.name,
            values=column.values,
            known=replace(experiment.auxiliary.take(column.known), groups={}),
            known_value=column.known_value,
            y=hidden.y,
            labels=release.labels(hidden.x),
            scores=release.scores(hidden.x) if "scores" in release.views else None,
            features=_features(cell, release, hidden) if "weights" in release.views else None,
            x=_less(hidden.x, column.feature) if hidden.x.ndim == 2 else None,
            column=column.feature,
            centres=column.centres(experiment.auxiliary) if own else None,
        )

    def rows(self, cell: Cell, store: Store, played: AttackOutputs) -> list[Row]:
        """A row for members and one for non-members, over all targets; of messages, one for each age."""
        if any(output.scores is None for output in played.outputs):
            raise MedleakError(f"{cell.config['attack']['name']} returned no scores")
        if _messages(cell):
            scores = played.outputs[0].scores
            return compositions.rows(cell, store, scores, _column(cell), played.shared)
        experiment, column = cell.target_spec.experiment, _column(cell)
        metrics = {name: build(block) for name, block in cell.metrics.items()}
        hidden = experiment.challenge.records.take(column.asked)
        unit = experiment.problem.unit if column.of_patients(hidden.patients) else "record"
        member = [
            experiment.secret(shadowed.target.column).member[column.asked]
            for shadowed in cell.shadowed_targets
        ]
        sample = Sample(column.asked_value, hidden.patients, joint=unit != "record")
        inside = np.concatenate([one[sample.first] for one in member])
        sides = inside, ~inside
        told = sample.of([output.scores for output in played.outputs])
        blind = {
            name: sample.of([guess] * len(cell.shadowed_targets))
            for name, guess in baselines(experiment, column).items()
        }
        judged = {part: told.take(side) for part, side in zip(PARTS, sides, strict=True)}
        rows = []
        for part, side in zip(PARTS, sides, strict=True):
            known = {name: one.take(side) for name, one in blind.items()}
            measured = figures(metrics, judged[part], known)
            controls = {**played.shared["controls"], "asked": column.described()}
            if part == PARTS[0]:
                measured["leakage"] |= added(metrics, *judged.values())
            kept = {**played.shared, "controls": controls}
            rows.append(cell.row(**kept, **measured, records=part, unit=unit))
        return rows


def _messages(cell: Cell) -> bool:
    """Whether messages of federated training are asked about, and not records."""
    return cell.attack.requires.access in ("updates", "aggregate")


def _column(cell: Cell) -> Column:
    column = column_of(cell.target_spec.experiment, cell.knowledge["attribute"])
    if isinstance(column, str):
        raise NotApplicable(column)
    return column


def _less(x: np.ndarray, place: int | None) -> np.ndarray:
    """A table without a column's values."""
    hidden = x.copy()
    if place is not None:
        hidden[:, place] = np.nan
    return hidden


def _features(cell: Cell, release: Release, hidden: Records) -> np.ndarray:
    from medleak.api.networks import last_layer

    spec = cell.target_spec
    network = with_weights(spec.target, spec.experiment, release.weights)
    try:
        return last_layer(network, hidden.x, spec.experiment.problem.n_outputs)[0]
    except MedleakError as error:
        raise NotApplicable(str(error)) from None


# --------------------------------------------------------------------------- what is known without the model


def baselines(experiment: ExperimentData, column: Column) -> dict[str, np.ndarray]:
    """What is guessed without the model, ``(N, V)`` each, learned on the same auxiliary patients.

    By chance; from the label alone; on a table, from the other features as well. Those of images are not the
    adversary's, so that "the image itself" is no baseline but shows what could be seen in it.
    """
    from medleak.metrics.guessing import learned, one_hot

    known = experiment.auxiliary.take(column.known)
    hidden = experiment.challenge.records.take(column.asked)
    n_outputs = experiment.problem.n_outputs
    labels = [one_hot(records.y, n_outputs) for records in (known, hidden)]

    def guess(own: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        told = learned(own, column.known_value, known.patients, n_values=len(column.values))
        return told(theirs)

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

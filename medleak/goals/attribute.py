"""The attribute game: a column of hidden records, from what the model says of them.

The column is one of the data set's subgroups (sex, age band, site ...), or, of a table, a feature cut at
its auxiliary median ("feature:3"). The adversary holds auxiliary patients with their attribute; of the
records asked about it has the label and the model's answers. It is judged on members and on non-members
apart: what it tells of both is what goes with the label and the picture in everybody; the difference is
what training added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import (
    Attributes,
    Guesses,
    Inquiry,
    MedleakError,
    NotApplicable,
    Records,
    Release,
)
from medleak.components import build
from medleak.games import World
from medleak.goals.base import Game, Played, gain
from medleak.messages import unknown
from medleak.runs import release_of, with_weights
from medleak.store import Store

if TYPE_CHECKING:
    from medleak.api import Metric
    from medleak.cells import Cell, Duel
    from medleak.rows import Row

FEATURE = "feature:"
LEAST = 10
"""Auxiliary patients of a value, below which it can neither be learned nor asked about."""
PARTS = ("members", "non-members")
IMAGE = "the image itself"
MOST_PIXELS = 4096
"""Of an image, beyond which no classifier is fitted to its pixels for comparison."""
HUGE = 1e100
"""Stands for infinity in a mean."""


class Attribute(Game):
    """An attribute of records that the adversary does not hold."""

    options = {"attribute": None}

    def reasons(self, cell: Cell) -> list[str]:
        refusal = column_of(cell.target_spec.world, cell.knowledge["attribute"])
        found = [refusal] if isinstance(refusal, str) else []
        if cell.exposed:
            found.append(
                "exposed: rows of the most exposed patients are those of membership attacks"
            )
        return found

    def asked(self, cell: Cell, duel: Duel, store: Store) -> Inquiry:
        world = duel.target.world
        column = _column(cell)
        release = release_of(duel.target, cell.slots, store)
        release = release.granting(cell.attack.requires.access)
        hidden = world.challenge.records.take(column.asked)
        own = column.feature is not None
        return Inquiry(
            attribute=column.name,
            values=column.values,
            known=replace(world.auxiliary.take(column.known), groups={}),
            known_value=column.known_value,
            y=hidden.y,
            labels=release.labels(hidden.x),
            scores=release.scores(hidden.x) if "scores" in release.views else None,
            features=_features(cell, release, hidden) if "weights" in release.views else None,
            x=_less(hidden.x, column.feature) if hidden.x.ndim == 2 else None,
            column=column.feature,
            centres=column.centres(world.auxiliary) if own else None,
        )

    def rows(self, cell: Cell, store: Store, played: Played) -> list[Row]:
        """A row for members and one for non-members, over all targets."""
        if any(output.scores is None for output in played.outputs):
            raise MedleakError(f"{cell.config['attack']['name']} returned no scores")
        world, column = cell.target_spec.world, _column(cell)
        metrics = {name: build(block) for name, block in cell.metrics.items()}
        hidden = world.challenge.records.take(column.asked)
        unit = world.setting.unit if column.of_patients(hidden.patients) else "record"
        member = [world.secret(duel.target.column).member[column.asked] for duel in cell.duels]
        sample = Sample(column.asked_value, hidden.patients, joint=unit != "record")
        inside = np.concatenate([one[sample.first] for one in member])
        sides = inside, ~inside
        told = sample.of([output.scores for output in played.outputs])
        blind = {
            name: sample.of([guess] * len(cell.duels))
            for name, guess in baselines(world, column).items()
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


# --------------------------------------------------------------------------- the column


@dataclass(frozen=True)
class Column:
    """A column of a world, as it is asked about.

    Attributes:
        name: as in the attack's YAML.
        values: those that at least `LEAST` auxiliary patients have.
        known: positions of the auxiliary records with one of them; `known_value` ``(M,)``: which.
        asked: positions of the natural challenge records with one of them; `asked_value` ``(N,)``.
        left_out: natural challenge records with no value, or a rarer one.
        feature: the place of a table's own column; None for a subgroup.
    """

    name: str
    values: tuple[str, ...]
    known: np.ndarray
    known_value: np.ndarray
    asked: np.ndarray
    asked_value: np.ndarray
    left_out: int
    feature: int | None = None

    def centres(self, auxiliary: Records) -> np.ndarray:
        """The auxiliary mean of the feature under each value, ``(V,)``."""
        x = auxiliary.x[self.known, self.feature]
        return np.array([x[self.known_value == v].mean() for v in range(len(self.values))])

    def of_patients(self, patients: np.ndarray) -> bool:
        """Whether all records of a patient have the same value."""
        pairs = np.unique(np.stack([patients, self.asked_value]), axis=1)
        return pairs.shape[1] == len(np.unique(patients))

    def described(self) -> dict[str, Any]:
        """What a row says of it."""
        return {"attribute": self.name, "values": list(self.values), "left_out": self.left_out}


def column_of(world: World, name: Any) -> Column | str:
    """The column `name` of a world, or why it cannot be asked about."""
    auxiliary, challenge = world.auxiliary, world.challenge
    values = _values(world, name)
    if isinstance(values, str):
        return values
    if not len(auxiliary):
        return "split.n_auxiliary=0: the adversary learns from auxiliary patients"
    known, natural = values(auxiliary), values(challenge.records)
    natural[challenge.kind != "natural"] = ""
    patients = auxiliary.patients
    counts = {v: len(np.unique(patients[known == v])) for v in np.unique(known) if v}
    common = tuple(v for v, n in counts.items() if n >= LEAST)
    if len(common) < 2:
        told = ", ".join(f"{v} {n}" for v, n in counts.items()) or "nobody's value is known"
        return (
            f"attribute '{name}' needs two values with {LEAST} auxiliary patients each, has: {told}"
        )
    place = {v: i for i, v in enumerate(common)}
    inside, asked = (np.flatnonzero(np.isin(v, common)) for v in (known, natural))
    return Column(
        name,
        common,
        inside,
        np.array([place[v] for v in known[inside]]),
        asked,
        np.array([place[v] for v in natural[asked]]),
        int((challenge.kind == "natural").sum()) - len(asked),
        _place(world, name) if name.startswith(FEATURE) else None,
    )


def _values(world: World, name: Any) -> Any:
    """Records -> their values, ``(N,)`` strings; or why there is no such column."""
    groups = world.auxiliary.groups
    width = world.setting.in_shape[0] if len(world.setting.in_shape) == 1 else 0
    choices = [*groups, *([f"{FEATURE}0 to {FEATURE}{width - 1}"] if width else [])]
    if not choices:
        return f"{world.dataset.name} has no subgroup columns: there is no attribute to infer"
    if isinstance(name, str) and name in groups:
        return lambda records: np.asarray(records.groups[name]).astype(str)
    place = _place(world, name)
    if place is None:
        return unknown("attack.knowledge.attribute", name, choices)
    cut = _cut(world.auxiliary.x[:, place])
    return lambda records: np.where(records.x[:, place] > cut, "high", "low").astype(object)


def _place(world: World, name: Any) -> int | None:
    """The column of a table that "feature:3" names; None where there is none."""
    digits = str(name).removeprefix(FEATURE)
    table = len(world.setting.in_shape) == 1 and str(name).startswith(FEATURE)
    inside = table and digits.isdecimal() and int(digits) < world.setting.in_shape[0]
    return int(digits) if inside else None


def _cut(x: np.ndarray) -> float:
    """The median; below the largest value, so that a column of noughts and ones falls into two."""
    if not len(x):
        return 0.0
    lower = x[x < x.max()]
    return float(min(np.median(x), lower.max(initial=-np.inf)))


def _column(cell: Cell) -> Column:
    column = column_of(cell.target_spec.world, cell.knowledge["attribute"])
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
    from medleak.features import last_layer

    spec = cell.target_spec
    network = with_weights(spec.target, spec.world, release.weights)
    try:
        return last_layer(network, hidden.x, spec.world.setting.n_outputs)[0]
    except MedleakError as error:
        raise NotApplicable(str(error)) from None


# --------------------------------------------------------------------------- what is known without the model


def baselines(world: World, column: Column) -> dict[str, np.ndarray]:
    """What is guessed without the model, ``(N, V)`` each, learned on the same auxiliary patients.

    By chance; from the label alone; on a table, from the other features as well. Those of images are not the
    adversary's, so that "the image itself" is no baseline but shows what could be seen in it.
    """
    from medleak.metrics.guessing import learned, one_hot

    known = world.auxiliary.take(column.known)
    hidden = world.challenge.records.take(column.asked)
    n_outputs = world.setting.n_outputs
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


# --------------------------------------------------------------------------- figures


@dataclass(frozen=True)
class Judged:
    """Guesses, one for each record or patient and target, and their truth."""

    guesses: Guesses
    truth: Attributes

    def take(self, index: np.ndarray) -> Judged:
        """Those at `index`."""
        guesses = Guesses(self.guesses.scores[index], self.guesses.patients[index])
        return Judged(guesses, Attributes(self.truth.value[index]))


@dataclass(frozen=True)
class Sample:
    """Who is asked about: the truth and the patient of each record, ``(N,)``.

    With `joint` a patient's records, which all have one value, are scored by the mean over them: one
    guess a patient.
    """

    value: np.ndarray
    patients: np.ndarray
    joint: bool

    @property
    def first(self) -> np.ndarray:
        """Positions of the records that stand for what is guessed."""
        if not self.joint:
            return np.arange(len(self.value))
        return np.unique(self.patients, return_index=True)[1]

    def of(self, scores: Sequence[np.ndarray]) -> Judged:
        """The guesses for each target, under one another."""
        n, first = len(scores), self.first
        told = np.concatenate([self._joined(one) for one in scores])
        truth = Attributes(np.tile(self.value[first], n))
        return Judged(Guesses(told, np.tile(self.patients[first], n)), truth)

    def _joined(self, scores: np.ndarray) -> np.ndarray:
        if not self.joint:
            return scores
        inverse, counts = np.unique(self.patients, return_inverse=True, return_counts=True)[1:]
        total = np.zeros((len(counts), scores.shape[1]))
        np.add.at(total, inverse, np.clip(scores, -HUGE, HUGE))
        return total / counts[:, None]


def figures(
    metrics: Mapping[str, Metric], judged: Judged, blind: Mapping[str, Judged]
) -> dict[str, Any]:
    """The parts of a row that are measured on guesses: leakage, baselines, excess.

    The ceilings are vacuous: a promise about who was in training says nothing of what is true of
    everybody.
    """
    guesses, truth = judged.guesses, judged.truth
    fair = [one.guesses for name, one in blind.items() if name != IMAGE]
    return {
        "leakage": {name: metric(guesses, truth) for name, metric in metrics.items()},
        "baselines": {
            prior: {name: metric(one.guesses, truth) for name, metric in metrics.items()}
            for prior, one in blind.items()
        },
        "excess": {
            name: gain(metric, [metric.excess(guesses, one, truth) for one in fair])
            for name, metric in metrics.items()
        },
        "ceilings": dict.fromkeys(metrics),
    }


def added(metrics: Mapping[str, Metric], members: Judged, others: Judged) -> dict[str, Any]:
    """``<metric>_added`` -> how much higher it is on members than on non-members."""
    from medleak.metrics.attribute import training_added

    sides = [(one.guesses, one.truth) for one in (members, others)]
    return {f"{name}_added": training_added(metric, *sides) for name, metric in metrics.items()}

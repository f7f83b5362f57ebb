"""The column of a data set that an attribute attack predicts, and the value of each record.

A column is one of the data set's subgroups, or of a table a feature cut at its auxiliary median.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Records
from medleak.core.suggestions import unknown
from medleak.data.experiment import ExperimentData

FEATURE = "feature:"
LEAST = 10
"""Auxiliary patients of a value, below which the value can neither be learned nor predicted."""


@dataclass(frozen=True)
class Column:
    """A column of the data, as the attack predicts it.

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


def column_of(experiment: ExperimentData, name: Any) -> Column | str:
    """The column `name` of the data, or the reason why it cannot be predicted."""
    auxiliary, challenge = experiment.auxiliary, experiment.challenge
    values = values_of(experiment, name)
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
        counted = ", ".join(f"{v} {n}" for v, n in counts.items()) or "nobody's value is known"
        return f"attribute '{name}' needs two values with {LEAST} auxiliary patients each, has: {counted}"
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
        _place(experiment, name) if name.startswith(FEATURE) else None,
    )


def values_of(experiment: ExperimentData, name: Any) -> Callable[[Records], np.ndarray] | str:
    """Records -> their values, ``(N,)`` strings; or why there is no such column."""
    groups = experiment.auxiliary.groups
    width = experiment.problem.in_shape[0] if len(experiment.problem.in_shape) == 1 else 0
    choices = [*groups, *([f"{FEATURE}0 to {FEATURE}{width - 1}"] if width else [])]
    if not choices:
        return f"{experiment.dataset.name} has no subgroup columns: there is no attribute to infer"
    if isinstance(name, str) and name in groups:
        return lambda records: np.asarray(records.groups[name]).astype(str)
    place = _place(experiment, name)
    if place is None:
        return unknown("attack.knowledge.attribute", name, choices)
    cut = _cut(experiment.auxiliary.x[:, place])
    return lambda records: np.where(records.x[:, place] > cut, "high", "low").astype(object)


def _place(experiment: ExperimentData, name: Any) -> int | None:
    """The column of a table that "feature:3" names; None where there is none."""
    digits = str(name).removeprefix(FEATURE)
    table = len(experiment.problem.in_shape) == 1 and str(name).startswith(FEATURE)
    inside = table and digits.isdecimal() and int(digits) < experiment.problem.in_shape[0]
    return int(digits) if inside else None


def _cut(x: np.ndarray) -> float:
    """The median; below the largest value, so that a column of zeros and ones falls into two."""
    if not len(x):
        return 0.0
    lower = x[x < x.max()]
    return float(min(np.median(x), lower.max(initial=-np.inf)))

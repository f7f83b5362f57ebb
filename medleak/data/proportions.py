"""Pools whose runs hold a value of a column in one of two shares: what property inference tells apart.

The name of such a pool says all that its runs depend on, "audit:[...]" or "auxiliary:[...]", so that other
training sets have other keys.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medleak.core.keys import rng_for

if TYPE_CHECKING:
    from medleak.api import Records
    from medleak.data.experiment import ExperimentData

MOST = 0.95
"""Largest chance of being a member: nearly all patients of a value would be no draw."""


@dataclass(frozen=True)
class PropertyDraw:
    """Which value of which column, and the two shares of it among a run's member patients."""

    column: str
    value: str
    shares: tuple[float, float]

    def pool(self, base: str) -> str:
        """The name of the skewed pool of the patients of `base`, "audit" or "auxiliary"."""
        return f"{base}:{json.dumps([self.column, self.value, *self.shares])}"

    def patients(self, records: Records) -> tuple[np.ndarray, np.ndarray]:
        """Patients in draw order, and whether they have the value, as their first record says."""
        first = np.sort(np.unique(records.patients, return_index=True)[1])
        return records.patients[first], np.asarray(records.groups[self.column])[first] == self.value

    def chances(self, records: Records, expected: int) -> np.ndarray:
        """Of being a member, ``(2, 2)``: at the lower and the higher share, without and with the value.

        Either share has the same `expected` number of member patients.
        """
        own = self.patients(records)[1]
        counts = np.array([(~own).sum(), own.sum()])
        wanted = expected * np.array([[1 - share, share] for share in self.shares])
        return np.divide(wanted, counts, out=np.full((2, 2), np.inf), where=counts > 0)

    def shared(self, records: Records, expected: int) -> float:
        r"""How far the pool's own patients may part the two shares, where the value has nothing to do with it.

        Let each patient add something to what is seen of a run, independent of the value and of one
        variance. Then the mean difference of the two shares has the variance
        :math:`\sum_i (p_i^+ - p_i^-)^2`, and a run :math:`\sum_i p_i (1 - p_i)`; their ratio is returned. It
        would be 0 if every run had patients of its own.
        """
        own = self.patients(records)[1].astype(int)
        low, high = self.chances(records, expected)[:, own]
        spread = (low * (1 - low) + high * (1 - high)).sum() / 2
        return float(((high - low) ** 2).sum() / spread)


def read(pool: str) -> tuple[str, PropertyDraw | None]:
    """A pool's base, and its skew; None of a plain one."""
    base, _, text = pool.partition(":")
    if not text:
        return base, None
    column, value, low, high = json.loads(text)
    return base, PropertyDraw(column, value, (low, high))


def higher(pool: str, column: int, *, seed: int) -> bool:
    """Whether column `column` of a skewed pool has the higher share.

    A fair coin for each pair of neighbours decides which of them has the higher share. So any even
    number of runs from an even column on has equally many of both.
    """
    coin = rng_for("share", pool, seed, column // 2).random() < 0.5
    return bool(coin) != bool(column % 2)


def member(experiment: ExperimentData, pool: str, column: int) -> np.ndarray:
    """Column `column` of the membership matrix of any pool, over the records of its base, ``(N,)`` bool.

    In a skewed pool each patient's coin has the chance that belongs to their value and the column's share.
    """
    base, draw_spec = read(pool)
    if draw_spec is None:
        return experiment.member(pool, column)
    records, seed = experiment.pool(base), experiment.split_seed
    chances = draw_spec.chances(records, experiment.problem.n_patients)[
        int(higher(pool, column, seed=seed))
    ]
    names, own = draw_spec.patients(records)
    inside = rng_for("membership", pool, seed, column).random(len(names)) < chances[own.astype(int)]
    truth = dict(zip(names.tolist(), inside.tolist(), strict=True))
    return np.array([truth[int(q)] for q in records.patients], dtype=bool)


def incompatibilities(experiment: ExperimentData, draw_spec: PropertyDraw) -> list[str]:
    """Every reason why the shares cannot be drawn among these patients."""
    found = []
    for base, name in (("audit", "challenge"), ("auxiliary", "auxiliary")):
        records = experiment.pool(base)
        n, own = len(np.unique(records.patients)), int(draw_spec.patients(records)[1].sum())
        chances = draw_spec.chances(records, experiment.problem.n_patients)
        if chances.max() > MOST:
            found.append(
                f"shares {draw_spec.shares[0]:g} and {draw_spec.shares[1]:g} of {draw_spec.column}={draw_spec.value} among "
                f"{experiment.problem.n_patients} members cannot be drawn from the {n} {name} patients, of "
                f"whom {own} have it"
            )
    return found

"""Membership scores measured in a script: the figures of every grid, without a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import ConfigError, Curve, DataError, Estimate
from medleak.audit import given_scores
from medleak.core.suggestions import unknown
from medleak.results.row import Row

if TYPE_CHECKING:
    import pandas as pd

WHERE = "medleak.score"
"""What errors name in the place of a file."""


@dataclass(frozen=True, repr=False)
class Score:
    """What scores tell about membership; printed, it is a small table.

    Attributes:
        row: all figures, with upper bounds and violations where an epsilon is claimed.
        bounds: one-run lower bounds on epsilon, as `medleak audit` prints them.
    """

    row: Row
    bounds: tuple[Mapping[str, Any], ...]

    def __getitem__(self, name: str) -> Estimate | Curve:
        """The figure of a metric, by the patient; ``score["auc"]``.

        Raises:
            ConfigError: it was not measured.
        """
        if name not in self.row.leakage:
            raise ConfigError(unknown("metric", name, self.row.leakage))
        return self.row.leakage[name]

    @property
    def frame(self) -> pd.DataFrame:
        """One line for each figure; see `medleak.results.frame.tidy`."""
        from medleak.results.frame import tidy

        return tidy([self.row])

    def __repr__(self) -> str:
        from medleak.audit.page import terminal

        return terminal(given_scores.Audit(self.row.target, WHERE, (self.row,), self.bounds))


def score(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    patients: np.ndarray | None = None,
    groups: Mapping[str, np.ndarray] | None = None,
    metrics: Iterable[str] | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    unit: str | None = None,
) -> Score:
    """Measure membership scores against the truth, by patient, next to what is claimed.

    Args:
        scores: ``(N,)``, higher for members.
        member: ``(N,)`` bool.
        patients: patient of each record, ``(N,)``; None: each record counts as its own.
        groups: subgroup columns (sex, site ...), name -> ``(N,)``.
        metrics: names of membership metrics; None: all of them.
        epsilon, delta: of a claimed guarantee of differential privacy, for upper bounds.
        unit: what the claim protects, "record" or "patient"; to be said where patients have several
            records.

    Raises:
        DataError: arrays that do not fit together, NaN, or members (non-members) only.
        ConfigError: an unknown metric, an impossible claim, or one that does not say its unit.
    """
    found = given_scores.numbers(WHERE, "scores", np.asarray(scores))
    if not len(found):
        raise DataError(f"'{WHERE}': there are no records")
    truth = given_scores.truths(WHERE, "member", member, len(found))
    given_scores.both(WHERE, truth)
    columns = {} if patients is None else {"patients": np.asarray(patients)}
    columns |= {given_scores.GROUP + name: np.asarray(g) for name, g in (groups or {}).items()}
    who = given_scores.people(WHERE, columns, len(found))
    sample = given_scores.Sample("given scores", found, truth, **who)
    guarantees = given_scores.claimed([sample], epsilon, delta, unit)
    chosen = given_scores.membership_metrics(delta)
    wanted = list(chosen if metrics is None else metrics)
    for name in wanted:
        if name not in chosen:
            raise ConfigError(unknown("metric", name, chosen))
    chosen = {name: chosen[name] for name in wanted}
    row = given_scores.measured(sample, name="scores", metrics=chosen, guarantees=guarantees)
    return Score(row, tuple(given_scores.bounds(sample, chosen)))

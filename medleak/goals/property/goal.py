"""The property game: is the share of a value among those trained on the higher or the lower of two?

Each target is drawn with one of the two shares, by its own coin and at the same expected size; the attack's
shadows are drawn alike from auxiliary patients. Nobody is asked about: the unit is a training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import MedleakError, PropertyChallenge, PropertyScores, PropertyTruth
from medleak.config.instantiate import build
from medleak.core.store import Store
from medleak.core.suggestions import unknown
from medleak.data import proportions as proportions
from medleak.data.experiment import ExperimentData, load_experiment_data
from medleak.data.proportions import PropertyDraw
from medleak.goals.base import AttackOutputs, Game

if TYPE_CHECKING:
    from medleak.engine.cell import Cell, ShadowedTarget
    from medleak.results.row import Row

LEAST_TARGETS = 12
"""With fewer, not even a perfect order of shares like 30% and 70% could be told from chance."""
LEAST_SHADOWS = 12
UNIT = "training set"


class Property(Game):
    """A property of the training set as a whole."""

    options = {"attribute": None, "value": None, "shares": (0.3, 0.7)}
    blind = False

    def pool(self, cell: Cell, pool: str) -> str:
        draw_spec = _draw_spec(cell)
        return draw_spec.pool(pool) if isinstance(draw_spec, PropertyDraw) else pool

    def reasons(self, cell: Cell) -> list[str]:
        draw_spec, known = _draw_spec(cell), cell.knowledge
        found = [] if isinstance(draw_spec, PropertyDraw) else list(draw_spec)
        n = len(cell.shadowed_targets)
        if n < LEAST_TARGETS:
            found.append(f"n_targets={n}: shares are told of {LEAST_TARGETS} targets or more")
        if known["n_shadows"] < LEAST_SHADOWS:
            found.append(
                f"n_shadows={known['n_shadows']}: a property is learned on {LEAST_SHADOWS} or more"
            )
        if known["pool"] != "auxiliary":
            found.append("pool=audit: the shadows of a property are drawn from auxiliary patients")
        if cell.exposed:
            found.append("exposed: no patient is asked about")
        return found

    def asked(self, cell: Cell, shadowed: ShadowedTarget, store: Store) -> PropertyChallenge:
        draw_spec = _draw_spec(cell)
        high = [_higher(spec) for spec in shadowed.shadows]
        return PropertyChallenge(
            draw_spec.column, draw_spec.value, draw_spec.shares, np.array(high)
        )

    def rows(self, cell: Cell, store: Store, played: AttackOutputs) -> list[Row]:
        """One row over all targets."""
        if any(output.scores is None for output in played.outputs):
            raise MedleakError(f"{cell.config['attack']['name']} returned no scores")
        draw_spec = _draw_spec(cell)
        metrics = {name: build(block) for name, block in cell.metrics.items()}
        experiment = cell.target_spec.experiment
        told = PropertyScores(
            np.array([output.scores[0] for output in played.outputs], dtype=np.float64),
            draw_spec.shared(experiment.challenge.records, experiment.problem.n_patients),
        )
        truth = PropertyTruth(
            np.array([_higher(shadowed.target) for shadowed in cell.shadowed_targets])
        )
        low, high = draw_spec.shares
        return [
            cell.row(
                **played.shared,
                leakage={name: metric(told, truth) for name, metric in metrics.items()},
                ceilings=dict.fromkeys(metrics),
                records=f"{draw_spec.column}={draw_spec.value}, {low:.3g} or {high:.3g}",
                unit=UNIT,
            )
        ]


def _higher(spec: Any) -> bool:
    return proportions.higher(spec.pool, spec.column, seed=spec.experiment.split_seed)


def _draw_spec(cell: Cell) -> PropertyDraw | list[str]:
    """What is drawn, or every reason why it cannot be."""
    known = cell.knowledge
    # Not through the cell's specs: their pools depend on what is found here.
    experiment = load_experiment_data(cell.config["target"], cell.config.get("n_members"))
    found = _column(experiment, known["attribute"], known["value"]) + _shares(known["shares"])
    if found:
        return found
    low, high = map(float, known["shares"])
    draw_spec = PropertyDraw(known["attribute"], known["value"], (low, high))
    return proportions.incompatibilities(experiment, draw_spec) or draw_spec


def _column(experiment: ExperimentData, attribute: Any, value: Any) -> list[str]:
    groups = experiment.challenge.records.groups
    if not groups:
        return [f"{experiment.dataset.name} has no subgroup columns: there is no share to tell"]
    if not isinstance(attribute, str) or attribute not in groups:
        return [unknown("attack.knowledge.attribute", attribute, groups)]
    if not len(experiment.auxiliary):
        return ["split.n_auxiliary=0: shadows are drawn from auxiliary patients"]
    values = set(np.asarray(groups[attribute]).tolist()) - {""}
    if value not in values:
        return [unknown(f"attack.knowledge.value of {attribute}", value, values)]
    for records in (experiment.challenge.records, experiment.auxiliary):
        pairs = {*zip(records.patients.tolist(), records.groups[attribute].tolist(), strict=True)}
        if len(pairs) > len(np.unique(records.patients)):
            return [
                f"{attribute} differs between records of a patient: no share of patients has it"
            ]
    return []


def _shares(shares: Any) -> list[str]:
    numbers = isinstance(shares, Sequence) and not isinstance(shares, str) and len(shares) == 2
    if numbers and all(isinstance(s, int | float) and not isinstance(s, bool) for s in shares):
        low, high = shares
        if 0 <= low < high <= 1:
            return []
    return [
        f"attack.knowledge.shares is {shares!r}: two shares in 0..1 are needed, the lower first"
    ]

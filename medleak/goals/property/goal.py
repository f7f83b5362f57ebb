"""The property game: is the share of a value among those trained on the higher or the lower of two?

Each target is drawn with one of the two shares, by its own coin and at the same expected size; the attack's
shadows are drawn alike from auxiliary patients. Nobody is asked about: the unit is a training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import MedleakError, Shares, Suspicion, Verdicts
from medleak.config.instantiate import build
from medleak.core.store import Store
from medleak.core.suggestions import unknown
from medleak.data import proportions as skews
from medleak.data.experiment import World, load_world
from medleak.data.proportions import Skew
from medleak.goals.base import Game, Played

if TYPE_CHECKING:
    from medleak.engine.cell import Cell, Duel
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
        skew = _skew(cell)
        return skew.pool(pool) if isinstance(skew, Skew) else pool

    def reasons(self, cell: Cell) -> list[str]:
        skew, known = _skew(cell), cell.knowledge
        found = [] if isinstance(skew, Skew) else list(skew)
        n = len(cell.duels)
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

    def asked(self, cell: Cell, duel: Duel, store: Store) -> Suspicion:
        skew = _skew(cell)
        high = [_higher(spec) for spec in duel.shadows]
        return Suspicion(skew.column, skew.value, skew.shares, np.array(high))

    def rows(self, cell: Cell, store: Store, played: Played) -> list[Row]:
        """One row over all targets."""
        if any(output.scores is None for output in played.outputs):
            raise MedleakError(f"{cell.config['attack']['name']} returned no scores")
        skew = _skew(cell)
        metrics = {name: build(block) for name, block in cell.metrics.items()}
        world = cell.target_spec.world
        told = Verdicts(
            np.array([output.scores[0] for output in played.outputs], dtype=np.float64),
            skew.shared(world.challenge.records, world.setting.n_patients),
        )
        truth = Shares(np.array([_higher(duel.target) for duel in cell.duels]))
        low, high = skew.shares
        return [
            cell.row(
                **played.shared,
                leakage={name: metric(told, truth) for name, metric in metrics.items()},
                ceilings=dict.fromkeys(metrics),
                records=f"{skew.column}={skew.value}, {low:.3g} or {high:.3g}",
                unit=UNIT,
            )
        ]


def _higher(spec: Any) -> bool:
    return skews.higher(spec.pool, spec.column, seed=spec.world.split_seed)


def _skew(cell: Cell) -> Skew | list[str]:
    """What is drawn, or every reason why it cannot be."""
    known = cell.knowledge
    # Not through the cell's specs: their pools depend on what is found here.
    world = load_world(cell.config["target"], cell.config.get("n_members"))
    found = _column(world, known["attribute"], known["value"]) + _shares(known["shares"])
    if found:
        return found
    low, high = map(float, known["shares"])
    skew = Skew(known["attribute"], known["value"], (low, high))
    return skews.refusals(world, skew) or skew


def _column(world: World, attribute: Any, value: Any) -> list[str]:
    groups = world.challenge.records.groups
    if not groups:
        return [f"{world.dataset.name} has no subgroup columns: there is no share to tell"]
    if not isinstance(attribute, str) or attribute not in groups:
        return [unknown("attack.knowledge.attribute", attribute, groups)]
    if not len(world.auxiliary):
        return ["split.n_auxiliary=0: shadows are drawn from auxiliary patients"]
    values = set(np.asarray(groups[attribute]).tolist()) - {""}
    if value not in values:
        return [unknown(f"attack.knowledge.value of {attribute}", value, values)]
    for records in (world.challenge.records, world.auxiliary):
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

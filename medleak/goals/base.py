"""What every game says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from medleak.api import Estimate, Metric, Output
from medleak.core.store import Store

if TYPE_CHECKING:
    from medleak.engine.cell import Cell, ShadowedTarget
    from medleak.results.row import Row
    from medleak.training.run_spec import RunSpec


@dataclass(frozen=True)
class AttackOutputs:
    """What an attack answered in one cell.

    Attributes:
        outputs: for each duel.
        shared: what all rows have in common, as keyword arguments of `Cell.row`.
        controls: for each duel that it was to lose, by name.
        device: where models are asked.
    """

    outputs: Sequence[Output]
    shared: Mapping[str, Any]
    controls: Mapping[str, Output] = field(default_factory=dict)
    device: str = "cpu"


class Game(ABC):
    """How one goal is pursued and judged. It has no state: the bench asks one object about every cell.

    `options` are the keys of ``attack.knowledge`` that only this game reads, with their defaults; `blind` says
    whether members and non-members are drawn alike, so that nothing may tell them apart without the model;
    `persons` whether it can be played where the classes are the patients, all of whom are members.
    """

    options: ClassVar[Mapping[str, Any]] = {}
    blind: ClassVar[bool] = True
    persons: ClassVar[bool] = False

    def pool(self, cell: Cell, pool: str) -> str:
        """The pool that runs of "audit" or "auxiliary" patients are drawn from in this cell."""
        return pool

    def reasons(self, cell: Cell) -> list[str]:
        """Every reason why the game cannot be played in this cell.

        Raises:
            ConfigError: an option out of its range.
        """
        return []

    def controls(self, cell: Cell) -> Mapping[str, ShadowedTarget]:
        """Name -> a duel that has nothing to be found out."""
        return {}

    def judges(self, cell: Cell) -> list[RunSpec]:
        """Runs that nobody attacks, on which the answers are judged."""
        return []

    @abstractmethod
    def asked(self, cell: Cell, shadowed: ShadowedTarget, store: Store) -> Any:
        """What the attack is asked about the duel's target."""

    @abstractmethod
    def rows(self, cell: Cell, store: Store, played: AttackOutputs) -> list[Row]:
        """The rows of a cell."""


def gain(metric: Metric, excesses: Sequence[Estimate]) -> Estimate:
    """The excess over the best of the baselines; negative is a gain where lower is leakier."""
    known = [one for one in excesses if one.value is not None]
    best = min if metric.higher_is_leakier else max
    return best(known, key=lambda one: one.value) if known else excesses[0]

"""What every game says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from medleak.api import Estimate, Metric, Output
from medleak.store import Store

if TYPE_CHECKING:
    from medleak.cells import Cell, Duel
    from medleak.rows import Row
    from medleak.runs import RunSpec


class Game(ABC):
    """How one goal is pursued and judged. It has no state: the bench asks one object about every cell.

    `options` are the keys of ``attack.knowledge`` that only this game reads, with their defaults; `blind` says
    whether members and non-members are drawn alike, so that nothing may tell them apart without the model.
    """

    options: ClassVar[Mapping[str, Any]] = {}
    blind: ClassVar[bool] = True

    def pool(self, cell: Cell, pool: str) -> str:
        """The pool that runs of "audit" or "auxiliary" patients are drawn from in this cell."""
        return pool

    def reasons(self, cell: Cell) -> list[str]:
        """Every reason why the game cannot be played in this cell."""
        return []

    def further(self, cell: Cell) -> list[RunSpec]:
        """Runs that are needed beside targets, shadows and references."""
        return []

    def known(self, cell: Cell, duel: Duel, store: Store) -> Mapping[str, Any]:
        """Fields of `Knowledge` that only this game grants."""
        return {}

    @abstractmethod
    def asked(self, cell: Cell, duel: Duel, store: Store) -> Any:
        """What the attack is asked about the duel's target."""

    @abstractmethod
    def rows(
        self,
        cell: Cell,
        store: Store,
        outputs: Sequence[Output],
        *,
        shared: Mapping[str, Any],
        device: str,
    ) -> list[Row]:
        """The rows of a cell.

        Args:
            outputs: of the attack, for each duel.
            shared: what all rows have in common, as keyword arguments of `Cell.row`.
            device: where models are asked.
        """


def gain(metric: Metric, excesses: Sequence[Estimate]) -> Estimate:
    """The excess over the best of the baselines; negative is a gain where lower is leakier."""
    known = [one for one in excesses if one.value is not None]
    best = min if metric.higher_is_leakier else max
    return best(known, key=lambda one: one.value) if known else excesses[0]

"""What every game says of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medleak.api import Output
from medleak.store import Store

if TYPE_CHECKING:
    from medleak.cells import Cell, Duel
    from medleak.rows import Row
    from medleak.runs import RunSpec


class Game(ABC):
    """How one goal is pursued and judged. It has no state: the bench asks one object about every cell."""

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

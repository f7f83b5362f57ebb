"""What an adversary may be after, one module a goal: what it is asked, and what its answer comes to."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medleak.goals.base import Game

GAMES = {
    "membership": "Membership",
    "reconstruction": "Reconstruction",
    "inversion": "Inversion",
    "attribute": "Attribute",
    "property": "Property",
}
"""Goal -> the class that plays it, in the module of the goal's name."""


@functools.cache
def game_of(goal: str) -> Game:
    """The game of `goal`, one of `GAMES`."""
    return getattr(importlib.import_module(f"medleak.goals.{goal}.goal"), GAMES[goal])()

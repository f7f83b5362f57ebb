"""The words that are literals."""

from __future__ import annotations

from typing import Literal

View = str
"""A name in the registry `medleak.api.VIEWS`."""
Slot = Literal["records", "train", "update", "aggregate", "release", "serve"]
SLOTS: tuple[Slot, ...] = ("records", "train", "update", "aggregate", "release", "serve")

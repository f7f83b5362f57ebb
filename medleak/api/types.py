"""The words that are literals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

View = Literal[
    "labels", "scores", "weights", "updates", "aggregate", "ciphertext", "records", "synthetic"
]
Slot = Literal["records", "train", "update", "aggregate", "release", "serve"]
SLOTS: tuple[Slot, ...] = ("records", "train", "update", "aggregate", "release", "serve")
VIEWS: tuple[View, ...] = (
    "labels",
    "scores",
    "weights",
    "updates",
    "aggregate",
    "ciphertext",
    "records",
    "synthetic",
)

IMPLIED_VIEWS: Mapping[View, tuple[View, ...]] = {
    "scores": ("labels",),
    "weights": ("labels", "scores"),
}
"""View -> the views that can be computed from it."""

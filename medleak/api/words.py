"""The words that are literals, the errors, and the base of everything that a YAML names."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import ClassVar, Literal

Goal = Literal[
    "membership", "reconstruction", "inversion", "attribute", "property", "re-identification"
]
View = Literal[
    "labels", "scores", "weights", "updates", "aggregate", "ciphertext", "records", "synthetic"
]
Slot = Literal["records", "train", "update", "aggregate", "release", "serve"]
Task = Literal["multiclass", "multilabel"]
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


class MedleakError(Exception):
    """A fault that one line explains; the command line prints it without a traceback."""


class ConfigError(MedleakError):
    """The request cannot be met as it stands (exit status 2): nothing was run or written."""


class DataError(ConfigError):
    """The data are missing, malformed or too few for what was asked (exit status 2)."""


class NotApplicable(MedleakError):
    """A cell that makes no sense; `reasons` says why, all of them at once."""

    def __init__(self, *reasons: str):
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Hidden(NotApplicable):
    """An attack asked for a view that the release does not have."""


class Component:
    """Base of everything that a YAML names by `_target_`.

    `__init__` only stores its keyword arguments under their own names, so that `repr` rebuilds the
    object. Built-in components carry an explicit `version`, raised whenever their numbers change.
    """

    version: ClassVar[int] = 1

    def faults(self) -> list[str]:
        """What is wrong with the arguments, whatever they meet: the request is then refused.

        What only rules out some settings is for `refusals`: such a cell is not applicable.
        """
        return []

    def __repr__(self) -> str:
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = inspect.signature(type(self)).parameters.values()
        names = [p.name for p in parameters if p.kind not in variadic]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in names)})"

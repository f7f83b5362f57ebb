"""The base of everything that a YAML names."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from medleak.api.deprecated import adopt_methods


class Component:
    """Base of everything that a YAML names by `_target_`.

    `__init__` only stores its keyword arguments under their own names, so that `repr` rebuilds the
    object. Built-in components carry an explicit `version`, raised whenever their numbers change.
    """

    version: ClassVar[int] = 1

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        adopt_methods(cls)

    def invalid_parameters(self) -> list[str]:
        """What is wrong with the arguments, whatever they meet: the request is then refused.

        What only rules out some settings is for `incompatibilities`: such a cell is not applicable.
        """
        return []

    @classmethod
    def arguments(cls) -> list[str]:
        """Names of the constructor's keyword arguments."""
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return [name for name, p in parameters_of(cls).items() if p.kind not in variadic]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.arguments())
        return f"{type(self).__name__}({shown})"


@functools.cache
def parameters_of(cls: type) -> Mapping[str, inspect.Parameter]:
    """The constructor's parameters by name; worked out once for each class."""
    return inspect.signature(cls).parameters

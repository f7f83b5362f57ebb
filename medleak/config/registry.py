"""Open registries: every YAML of a group, medleak's own and those of plugins, names one component."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import Any, Generic, TypeVar

from medleak.api import Component, ConfigError
from medleak.config.instantiate import build
from medleak.config.plugins import VARIABLE, enable, options
from medleak.core.suggestions import unknown

T = TypeVar("T", bound=Component)


class Registry(Generic[T]):
    """Components by the names of their YAMLs in ``conf/<group>/``; each is built once.

    Args:
        group: the folder, and what an error calls them.
        of: what each has to be. Its class attribute `name` is that of the file.
    """

    def __init__(self, group: str, of: type[T]):
        self.group = group
        self.of = of

    def names(self) -> list[str]:
        """All of them, sorted."""
        return list(self._files())

    def __contains__(self, name: str) -> bool:
        return name in self._files()

    def get(self, name: str) -> T:
        """The component `name`.

        Raises:
            ConfigError: there is none, or its YAML and its class do not agree.
        """
        known = self._files()
        if name not in known:
            raise ConfigError(unknown(self.group, name, known))
        return _component(self.group, self.of, name, known[name])

    def all(self) -> list[T]:
        """All components, by name."""
        return [self.get(name) for name in self.names()]

    def block(self, name: str) -> dict[str, Any]:
        """The YAML of `name`, for keys that depend on its version."""
        return _block(self._files()[name])

    def _files(self) -> dict[str, Path]:
        # Asked for every cell of a plan: the folders are read once for each set of plugins.
        return _files(self.group, os.environ.get(VARIABLE, ""), tuple(sys.path))


@functools.lru_cache(maxsize=32)
def _files(group: str, folders: str, path: tuple[str, ...]) -> dict[str, Path]:
    return {name: option.file for name, option in options(group).items()}


@functools.cache
def _component(group: str, of: type, name: str, file: Path) -> Any:
    enable()
    component = build(_block(file), of=of)
    if component.name != name:
        raise ConfigError(f"{file}: the {group} is named '{component.name}', its file '{name}'")
    return component


@functools.cache
def _block(file: Path) -> dict[str, Any]:
    import yaml

    block = yaml.safe_load(file.read_text())
    if not isinstance(block, dict) or "_target_" not in block:
        raise ConfigError(f"{file} names no _target_")
    return block

"""Goals by name: every YAML in ``conf/goal/``, medleak's own and those of plugins."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

from medleak.api import ConfigError
from medleak.api.goal import Goal
from medleak.config.instantiate import build
from medleak.config.plugins import VARIABLE, enable, options
from medleak.core.suggestions import unknown


def known_goals() -> list[str]:
    """Names of all goals, sorted."""
    return list(_files())


def goal_of(name: str) -> Goal:
    """The goal `name`.

    Raises:
        ConfigError: no such goal, or a YAML that names none.
    """
    known = _files()
    if name not in known:
        raise ConfigError(unknown("goal", name, known))
    return _goal(name, known[name])


def _files() -> dict[str, Path]:
    # Asked for every cell of a plan: the folders are read once for each set of plugins.
    return _files_of(os.environ.get(VARIABLE, ""), tuple(sys.path))


@functools.lru_cache(maxsize=8)
def _files_of(folders: str, path: tuple[str, ...]) -> dict[str, Path]:
    return {name: option.file for name, option in options("goal").items()}


@functools.cache
def _goal(name: str, file: Path) -> Goal:
    import yaml

    enable()
    block = yaml.safe_load(file.read_text())
    if not isinstance(block, dict) or "_target_" not in block:
        raise ConfigError(f"{file} names no _target_")
    goal = build(block, of=Goal)
    if goal.name != name:
        raise ConfigError(f"{file}: the goal is named '{goal.name}', its file '{name}'")
    return goal

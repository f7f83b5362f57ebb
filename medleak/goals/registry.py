"""Goals by name: every YAML in ``conf/goal/``, medleak's own and those of plugins."""

from __future__ import annotations

from medleak.api.goal import Goal
from medleak.config.registry import Registry

GOALS = Registry("goal", Goal)


def known_goals() -> list[str]:
    """Names of all goals, sorted."""
    return GOALS.names()


def goal_of(name: str) -> Goal:
    """The goal `name`.

    Raises:
        ConfigError: no such goal, or a YAML that names none.
    """
    return GOALS.get(name)

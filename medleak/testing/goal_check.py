"""The contract of goals: `check_goal`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medleak.api import ConfigError
from medleak.api.goal import Goal
from medleak.config.instantiate import static
from medleak.config.plugins import options
from medleak.testing.components import check_attack, not_exercised
from medleak.testing.contract import generic, made_from

LITERALS = ("name", "options", "artefacts", "model_free_control", "supports_identity_targets")


def check_goal(goal: Goal | Mapping[str, Any]) -> list[str]:
    """What keeps a goal from being one; empty where it passes.

    Literals, docstring and constructor; then its example, with a planted leak and without, is put to the
    simplest attack that names this goal. A goal that no attack can be tried on does not pass.
    """
    problems: list[str] = []
    made = made_from(goal, Goal, problems)
    if made is None:
        return problems
    problems += generic(made, goal, LITERALS, Goal)
    attacks = [block for block in _attacks(made.name) if not not_exercised(block)]
    if not attacks:
        return [*problems, f"no attack names the goal '{made.name}' and suits its example"]
    return problems + [f"attack={attacks[0]['name']}: {one}" for one in check_attack(attacks[0])]


def _attacks(goal: str) -> list[dict[str, Any]]:
    """The YAML of every attack that is after `goal`, those with the fewest shadows and settings first."""
    import yaml

    found = []
    for name, option in options("attack").items():
        block = {"name": name, **(yaml.safe_load(option.file.read_text()) or {})}
        try:
            requires = static(block.get("_target_", "")).requires
        except ConfigError:
            continue  # checking that attack says so
        if requires is not None and requires.goal == goal:
            found.append(block)
    return sorted(found, key=lambda b: ((b.get("knowledge") or {}).get("n_shadows") or 0, len(b)))

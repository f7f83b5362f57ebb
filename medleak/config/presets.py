"""A target is a preset: it says which data set, which network and which recipe, by name.

``model: cnn`` in conf/target/ means the option conf/model/cnn.yaml, and ``model: {base: cnn, width: 32}`` that
option with another width. A block with a ``_target_`` stands for itself. Plain data: knows no Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

PARTS = ("dataset", "model", "recipe")
"""Groups that a target chooses from, and its blocks of the same names."""
JUDGED_BY = "evaluator"
BASE = "base"
DESCRIPTION = ("name", "summary")
_SHORT = re.compile(rf"^(\+\+|\+|~)?(?=(?:{'|'.join(PARTS)})\.)")

Read = Callable[[str, str], Mapping[str, Any]]
"""From group and name to the option's YAML."""


def expanded(
    target: Mapping[str, Any], read: Read, *, chosen: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """`target` with a whole block for each part, those of its evaluator included.

    Args:
        target: the YAML of a target.
        read: finds options; what it raises for an unknown name is passed on.
        chosen: part -> option that replaces the target's own.
    """
    found = {**target, **(chosen or {})}
    found |= {part: _block(part, found[part], read) for part in PARTS if part in found}
    judge = found.get(JUDGED_BY)
    if isinstance(judge, Mapping):
        blocks = {part: _block(part, judge[part], read) for part in PARTS if part in judge}
        found[JUDGED_BY] = {**judge, **blocks}
    return found


def _block(group: str, value: Any, read: Read) -> Any:
    if isinstance(value, str):
        return _described(read(group, value))
    if isinstance(value, Mapping) and BASE in value and "_target_" not in value:
        differences = {key: inner for key, inner in value.items() if key != BASE}
        return {**_described(read(group, str(value[BASE]))), **differences}
    return value


def _described(option: Mapping[str, Any]) -> dict[str, Any]:
    """What the option says of its component, less what it says of itself."""
    return {key: value for key, value in option.items() if key not in DESCRIPTION}


def named(target: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Every option (group, name) that `target` names."""
    found: list[tuple[str, str]] = []

    def noting(group: str, name: str) -> Mapping[str, Any]:
        found.append((group, name))
        return {}

    expanded(target, noting)
    return found


def full_key(override: str) -> str:
    """``recipe.epochs=5`` as ``target.recipe.epochs=5``: one setting has one name."""
    return _SHORT.sub(lambda match: f"{match[0]}target.", override)

"""Does a value given on the command line fit the place that it is meant for?

The kind of value is taken from the annotation in the component's ``__init__`` where there is one
(read with `ast`, nothing is imported), else from the value in the YAML.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medleak.api import ConfigError, MedleakError
from medleak.config.instantiate import static
from medleak.core.suggestions import unknown
from medleak.core.validation import _is, _shown

_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def annotations(target: str) -> dict[str, str]:
    """Parameter -> annotation of the class that `target` names, parents of the same file included."""
    try:
        found = static(target)
    except MedleakError:
        return {}
    return _annotations(found.file, target.rpartition(".")[2]) if found.file else {}


@functools.cache
def _annotations(file: Path, name: str) -> dict[str, str]:
    classes = {n.name: n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef)}
    if name not in classes:
        return {}
    for node in classes[name].body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            arguments = [*node.args.args[1:], *node.args.kwonlyargs]
            return {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in arguments}
    parents = (ast.unparse(base).rpartition(".")[2] for base in classes[name].bases)
    return next((found for parent in parents if (found := _annotations(file, parent))), {})


def put(block: dict[str, Any], key: str, value: Any, chosen: str) -> None:
    """Set `value` at the dotted `key`, which must exist, in the `block` of its first part.

    Args:
        chosen: the option that the block came from ("attack=lira"), for messages.

    Raises:
        ConfigError: no such key, named with the near match, or another kind of value is needed.
    """
    node, member, annotation = _place(block, key, chosen)
    if key == f"{key.split('.')[0]}.name":
        raise ConfigError(f"{key} is the name of its file: choose with {key[:-5]}=NAME")
    node[member] = fitted(key, value, node[member], annotation)


def refit(block: dict[str, Any], key: str, chosen: str) -> None:
    """As `put`, of the value that is there already: an interpolation, once it is resolved."""
    node, member, annotation = _place(block, key, chosen)
    node[member] = fitted(key, node[member], node[member], annotation)


def _place(block: dict[str, Any], key: str, chosen: str) -> tuple[Any, Any, str]:
    """What holds the value at `key`, under which name or position, and its annotation."""
    where, *path, last = key.split(".")
    node: Any = block
    for part in path:
        node, where = node[_member(node, part, where, chosen)], f"{where}.{part}"
    member = _member(node, last, where, chosen)
    kinds = annotations(node["_target_"]) if isinstance(node, dict) and "_target_" in node else {}
    return node, member, kinds.get(last, "")


def _member(node: Any, part: str, where: str, chosen: str) -> Any:
    if isinstance(node, list) and part.isdigit() and int(part) < len(node):
        return int(part)
    if isinstance(node, dict) and part in node:
        return part
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    if isinstance(node, dict) and part in annotations(node.get("_target_", "")):
        raise ConfigError(f"{chosen} leaves {where}.{part} unset: write +{where}.{part}=VALUE")
    inside = "" if where == chosen.partition("=")[0] else f"{where} in "
    raise ConfigError(unknown(f"key of {inside}{chosen}", part, keys))


def fitted(path: str, value: Any, current: Any, annotation: str = "") -> Any:
    """`value` for the place `path`, which holds `current`, as a number of the same type where equal.

    Raises:
        ConfigError: another kind of value is needed there.
    """
    if isinstance(current, Mapping) and value is not None and not isinstance(value, Mapping):
        inner = ", ".join(f"{path}.{key}" for key in current)
        raise ConfigError(f"{path} is a block, not a value: set one of {inner or 'its keys'}")
    kinds = _kinds(annotation) if annotation else _kinds_like(current)
    if isinstance(value, str) and "${" in value:  # an interpolation: known only once resolved
        return value
    if kinds and not any(_is(value, kind) for kind in kinds):
        wanted = " or ".join(_NAMES.get(kind, kind) for kind in kinds)
        now = "" if value is current else f" (now {_shown(current)})"
        raise ConfigError(f"{path}={_shown(value)}: {wanted} is needed{now}")
    return _same_type(value, current, kinds)


def _kinds(annotation: str) -> list[str]:
    """The kinds that an annotation allows; empty (anything) where its text does not tell."""
    try:
        return _parse_kinds(ast.parse(annotation.strip("'\""), mode="eval").body)
    except (SyntaxError, ValueError):
        return []


def _parse_kinds(node: ast.expr) -> list[str]:
    if isinstance(node, ast.BinOp):
        return _parse_kinds(node.left) + _parse_kinds(node.right)
    if isinstance(node, ast.Constant) and node.value is None:
        return ["null"]
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return [node.id]
    if isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal"):
        return [str(value) for value in _literals(node.slice)]
    if isinstance(node, ast.Subscript | ast.Name):
        name = ast.unparse(node.value if isinstance(node, ast.Subscript) else node)
        if name.rpartition(".")[2].lower() in ("list", "tuple", "sequence", "iterable"):
            return ["a list"]
        if name.rpartition(".")[2].lower() in ("dict", "mapping"):
            return ["a block"]
    raise ValueError("not a plain kind")


def _literals(node: ast.expr) -> list[Any]:
    value = ast.literal_eval(node)
    return list(value) if isinstance(value, tuple) else [value]


def _kinds_like(current: Any) -> list[str]:
    if isinstance(current, bool):
        return ["bool"]
    if isinstance(current, int | float):
        return ["float"]
    if isinstance(current, list | tuple):
        return ["a list"]
    return []


def _same_type(value: Any, current: Any, kinds: list[str]) -> Any:
    """8 and 8.0 are one setting: they must not lead to two keys."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return value
    if "int" in kinds and "float" not in kinds:
        return int(value)
    if isinstance(current, float):
        return float(value)
    if isinstance(current, int) and value == int(value):
        return int(value)
    return value

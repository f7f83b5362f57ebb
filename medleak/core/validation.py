"""Numbers of a configuration, checked: what is wrong is said with the key, the value and what is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from medleak.api import ConfigError


def _is(value: Any, kind: str) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    tests = {
        "int": number and math.isfinite(value) and value == int(value),
        "float": number,
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
        "null": value is None,
        "a list": isinstance(value, list | tuple),
        "a block": isinstance(value, Mapping),
    }
    return tests[kind] if kind in tests else str(value) == kind


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def whole(
    path: str, value: Any, *, least: int = 0, most: float = math.inf, null: bool = False
) -> int | None:
    """`value` as a whole number from `least` to `most` (or None where `null` is allowed).

    Raises:
        ConfigError: it is not.
    """
    if value is None and null:
        return None
    if not _is(value, "int") or not least <= value <= most:
        limit = f"{least} to {most}" if most < math.inf else f"{least}"
        or_null = ", or null," if null else ""
        message = f"{path}={_shown(value)}: a whole number from {limit}{or_null} is needed"
        raise ConfigError(message)
    return int(value)


def share(path: str, value: Any) -> float | None:
    """`value` as a number above 0 and below 1, or None.

    Raises:
        ConfigError: it is not.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(
            f"{path}={_shown(value)}: a number above 0 and below 1, or null, is needed"
        )
    return float(value)

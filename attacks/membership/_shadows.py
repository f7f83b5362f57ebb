"""What attacks do with shadows: walk them once, say when there are too few."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from medleak.api import ConfigError, Knowledge, Shadow
from medleak.core.suggestions import unknown


def each(knowledge: Knowledge, *, most: int | None = None) -> Iterator[Shadow]:
    """Every shadow once, or the first `most`, reporting progress."""
    shadows = knowledge.shadows or ()
    n = len(shadows) if most is None else min(most, len(shadows))
    for done, shadow in enumerate(itertools.islice(shadows, n), start=1):
        yield shadow
        knowledge.progress(done / n)


def one_of(what: str, value: object, choices: Iterable[str]) -> None:
    """Refuse an option that is not among `choices`."""
    if value not in choices:
        raise ConfigError(unknown(what, value, choices))


def positive(what: str, value: object) -> None:
    """Refuse an option that is not a number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{what} is {value!r}: a number above 0 is needed")


def n_shadows(knowledge: Mapping[str, Any]) -> int:
    """How many shadows the YAML block asks for."""
    return int(knowledge.get("n_shadows") or 0)


def too_few(knowledge: Mapping[str, Any], least: int, why: str) -> list[str]:
    """The reason why the shadows of the YAML block do not suffice, if so."""
    k = n_shadows(knowledge)
    return [f"{k} shadows: {why} needs at least {least}"] if k < least else []


def is_auxiliary(knowledge: Mapping[str, Any]) -> bool:
    """Whether the YAML block asks for shadows without challenge patients."""
    return knowledge.get("pool", "audit") == "auxiliary"

"""Saved grids of conf/grid/: sums of products of overrides."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from medleak.api import ConfigError
from medleak.config.presets import full_key
from medleak.core.suggestions import unknown

_ASIDE = ("executor", "runtime")


@dataclass(frozen=True)
class Part:
    """A product of axes. Where `not_run` gives a reason, its cells stand in the tables and that is all."""

    overrides: tuple[str, ...]
    not_run: str = ""


@dataclass(frozen=True)
class Request:
    """What was asked for: the parts that a grid is the sum of, those of a saved grid included, and the
    grid's `name` and `budget` (seconds) where it has them."""

    parts: tuple[Part, ...]
    name: str | None = None
    budget: float | None = None


@dataclass(frozen=True)
class Saved:
    """A grid of conf/grid/: `overrides` hold in every one of its `parts`."""

    overrides: tuple[str, ...]
    parts: tuple[Part, ...] = (Part(()),)
    summary: str = ""
    budget: float | None = None


def gather(words: Sequence[str]) -> Request:
    """Overrides, with ``NAME`` or ``grid=NAME`` replaced by the overrides of conf/grid/NAME.yaml.

    An override of the same key replaces the saved one. A grid that was changed in what it measures
    does not keep its name.

    Raises:
        ConfigError: unknown grid, two grids, a YAML that is not a grid, or an override with a space in it.
    """
    _refuse_spaces(words)
    names = [word.removeprefix("grid=") for word in words if _names_grid(word)]
    given = [word for word in words if not _names_grid(word)]
    if not names:
        return Request((Part(tuple(given)),))
    if len(names) > 1:
        raise ConfigError(f"one saved grid at a time: {', '.join(names)}")
    saved = read_grid(names[0])
    parts = (
        Part(_replace((*saved.overrides, *p.overrides), given), p.not_run) for p in saved.parts
    )
    changed = any(_key(word).split(".")[0] not in _ASIDE for word in given)
    return Request(tuple(parts), None if changed else names[0], saved.budget)


def _refuse_spaces(words: Sequence[str]) -> None:
    """Refuse an override that the shell has cut at a space, with what was meant."""
    for i, (word, *rest) in enumerate(itertools.pairwise(words)):
        cut = [word, *rest]
        if rest == ["="] or (word.endswith("=") and "=" not in rest[0]) or rest[0].startswith("="):
            cut += words[i + 2 : i + 3] if rest == ["="] else []
            raise ConfigError(f"'{' '.join(cut)}': no space around '=': write {''.join(cut)}")
        if "=" in word and word.endswith(",") and "=" not in rest[0]:
            cut += itertools.takewhile(lambda later: "=" not in later, words[i + 2 :])
            raise ConfigError(f"'{' '.join(cut)}': no space after a comma: write {''.join(cut)}")


def _replace(words: Iterable[str], given: Iterable[str]) -> tuple[str, ...]:
    """`words`, those of a key in `given` replaced; what is new comes last."""
    replaced = {_key(word): word for word in given}
    kept = [replaced.pop(_key(word), word) for word in words]
    return (*kept, *replaced.values())


def read_grid(name: str) -> Saved:
    """The saved grid `name`.

    Raises:
        ConfigError: unknown, or not a grid.
    """
    import yaml

    from medleak.config.plugins import options

    known = options("grid")
    if name not in known:
        raise ConfigError(f"{unknown('saved grid', name, known)}; an override reads key=value")
    file = known[name].file
    try:
        content = yaml.safe_load(file.read_text())
        overrides = tuple(str(word) for word in content["overrides"])
        parts = tuple(_part(part) for part in content.get("parts") or [[]])
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is no grid: it needs a list 'overrides' ({error!r})") from None
    budget = content.get("budget")
    seconds = None if budget is None else duration(str(budget))
    return Saved(overrides, parts, content.get("summary", ""), seconds)


def _part(content: Any) -> Part:
    """A list of overrides, or one with the reason why its cells are not run."""
    if not isinstance(content, dict):
        return Part(tuple(str(word) for word in content))
    return Part(tuple(str(word) for word in content["overrides"]), str(content["not_run"]))


def _names_grid(word: str) -> bool:
    return word.startswith("grid=") or ("=" not in word and not word.startswith("~"))


def _key(word: str) -> str:
    return full_key(word).lstrip("+~").partition("=")[0]


def duration(text: str) -> float:
    """Seconds of "90", "90s", "30m", "1h30m" or "1.5h".

    Raises:
        ConfigError: anything else, or nothing above zero.
    """
    import re

    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms]?)", text)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != text:
        raise ConfigError(f"budget '{text}' is no time: write 90s, 30m or 1h30m")
    seconds = sum(float(number) * units[unit] for number, unit in parts)
    if not seconds:
        raise ConfigError(f"budget '{text}' leaves no time")
    return seconds

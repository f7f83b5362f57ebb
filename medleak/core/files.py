"""Files that a configuration names: what they hold counts, and not where they lie."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

VARIABLE = "MEDLEAK_DATA"


def contents(config: Any) -> list[str]:
    """SHA-256 of every file that a value anywhere inside `config` names, sorted.

    A value names a file where one exists at that path, from the working folder or from MEDLEAK_DATA.
    """
    paths = {path for path in _named(config) if path.is_file()}
    return sorted(_digest(path, *_stamp(path)) for path in paths)


def stamps(config: Any) -> tuple[Any, ...]:
    """Path, time and size of every file and folder that `config` names; another where one is replaced.

    Of a folder, those of what lies directly in it: to look at every image would take as long as to
    load them.
    """
    found = []
    for path in sorted(set(_named(config))):
        found.append((str(path), *_stamp(path)))
        for inner in sorted(path.iterdir()) if path.is_dir() else ():
            found.append((str(inner), *_stamp(inner)))
    return tuple(found)


def _named(config: Any) -> Iterator[Path]:
    if isinstance(config, Mapping):
        for name, value in config.items():
            if name != "_target_":
                yield from _named(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _named(value)
    elif isinstance(config, str):
        # `os.path` rather than `Path`: asked for every text of every cell, nearly all of which name nothing.
        places = [os.path.expanduser(config)]
        if os.environ.get(VARIABLE):
            places.append(os.path.join(os.environ[VARIABLE], config))
        yield from (Path(place) for place in places if os.path.exists(place))


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # gone meanwhile, or a link to nowhere
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=256)
def _digest(path: Path, changed: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Where data lie: the folder that MEDLEAK_DATA names, and paths that stay inside a folder."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

from medleak.api import DataError

VARIABLE = "MEDLEAK_DATA"


def data_root() -> Path | None:
    """The folder that MEDLEAK_DATA names; None where it is not set.

    Raises:
        DataError: it is set, but is not a folder.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    root = Path(value).expanduser()
    if not root.is_dir():
        raise DataError(f"{VARIABLE}={value} is not a folder")
    return root


def inside(base: Path, relative: str, what: str) -> Path:
    """`relative` under `base`, links followed; DataError where it leads outside."""
    root = base.resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise DataError(f"{what} '{relative}' leads out of {base}")
    return path


def locate(name: str, what: str, *, folder: bool = False) -> Path:
    """An absolute path as it is; a relative one inside MEDLEAK_DATA.

    Raises:
        DataError: no such file (or folder), MEDLEAK_DATA not set, or the path leads out of it.
    """
    if not isinstance(name, str | os.PathLike):
        raise DataError(f"{what} {name!r} is not a path")
    path = Path(name).expanduser()
    if not path.is_absolute():
        root = data_root()
        if root is None:
            raise DataError(
                f"{what} '{name}' is relative to {VARIABLE}, which is not set: "
                f"set {VARIABLE} to the folder that holds it"
            )
        path = inside(root, name, what)
    if not (path.is_dir() if folder else path.is_file()):
        raise DataError(f"{what} '{name}' not found: no {'folder' if folder else 'file'} {path}")
    return path


def file_digest(path: Path, algorithm: str) -> str:
    """Hexadecimal digest of a file, read in blocks; DataError where it cannot be read."""
    try:
        with path.open("rb") as stream:
            make = partial(hashlib.new, algorithm, usedforsecurity=False)
            return hashlib.file_digest(stream, make).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None

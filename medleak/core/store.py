"""The store: content-addressed artefacts, atomic, locked and checksummed; never pickle.

An artefact is a folder ``<root>/<kind>/<key[:2]>/<key>`` with an optional ``arrays.safetensors``
and a ``manifest.json`` of plain facts and the checksum of the arrays. It is written into a temporary
folder and renamed, so that a reader sees all of it or nothing. Whoever makes an artefact
holds its lock; locks are the operating system's and vanish with their process.

A marker file says that a folder is a store. It is written before the first artefact, into a folder
that is empty or holds nothing but what a store holds. Nothing is deleted in a folder without it, and
in a store nothing but what has the names that this module gives.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medleak.api import ConfigError, MedleakError
from medleak.core.suggestions import unknown

log = logging.getLogger("medleak")
ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"
MARKER, FORMAT = ".medleak-store", 1
"""The file that makes a folder a store, and the version of the layout that it names."""

KINDS = (
    "runs", "messages", "signals", "answers", "cells", "utility", "controls", "kept", "costs",
    "scores", "rebuilt", "pictured",
)  # fmt: skip
"""What a store holds; the last three are those of earlier versions, which kept answers in parts. Folders of
other names are left alone, whatever is asked."""

_ASIDE = ("tmp", "locks", "corrupt")
_UNFINISHED = re.compile(r"[0-9a-f]{32}")
_DAMAGED = re.compile(rf"(?:{'|'.join(KINDS)})-.+-[0-9a-f]{{8}}")


class Corrupt(MedleakError):
    """A stored file does not match its checksum."""


@dataclass(frozen=True)
class Artefact:
    """What was stored: `facts`, and `arrays` by name."""

    facts: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]


def write_atomically(path: Path, data: str | bytes, *, private: bool = False) -> None:
    """Write a file so that it appears whole or not at all.

    Args:
        private: nobody but the owner may read it, from the first byte on, whatever an earlier file of
            the same name allowed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        mode = 0o600 if private else 0o666
        _write(temporary, data.encode() if isinstance(data, str) else data, mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write(path: Path, data: bytes, mode: int = 0o666) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


class Store:
    """Artefacts under `root`, by kind ("runs", "signals", "cells" ...) and key.

    Raises:
        ConfigError: `root` exists and is not a folder, or cannot be written.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"store '{self.root}' is not a folder")
        self._is_ready = False

    def ready(self) -> None:
        """Make the folder and mark it as a store; one of an earlier version, without a mark, gets it.

        Raises:
            ConfigError: it cannot be made or written, or holds anything that is not a store's.
        """
        if not self.marked() and (strange := self._strange()):
            raise ConfigError(
                f"folder '{self.root}' is no store: it holds '{strange}'; name an empty folder"
            )
        try:
            (self.root / "tmp").mkdir(parents=True, exist_ok=True)
            writable = os.access(self.root / "tmp", os.W_OK)
        except OSError as error:
            raise ConfigError(f"store '{self.root}': {error.strerror}") from None
        if not writable:
            raise ConfigError(f"store '{self.root}' cannot be written")
        if not self.marked():
            write_atomically(self.root / MARKER, json.dumps({"format": FORMAT}))

    def marked(self) -> bool:
        """Whether the folder carries a store's marker.

        Raises:
            ConfigError: the marker is damaged, or of a layout that this version does not know.
        """
        try:
            found = json.loads((self.root / MARKER).read_bytes())["format"]
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"'{self.root / MARKER}' is damaged: name another store") from None
        if found != FORMAT:
            raise ConfigError(f"store '{self.root}' has format {found!r}, not {FORMAT}")
        return True

    def _strange(self) -> str | None:
        """Something in the folder that no store holds; hidden files are anybody's."""
        for path in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            known = path.name in (*KINDS, *_ASIDE) and path.is_dir()
            if not known and not path.name.startswith("."):
                return path.name
        return None

    def folder(self, kind: str, key: str) -> Path:
        """Where an artefact lies; names with anything but letters, digits, - and _ are refused."""
        for part in (kind, key):
            if not part.replace("-", "").replace("_", "").isalnum():
                raise MedleakError(f"'{part}' cannot name an artefact")
        return self.root / kind / key[:2] / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the artefact is there (its checksum is looked at when it is read)."""
        return (self.folder(kind, key) / MANIFEST).is_file()

    def save(
        self,
        kind: str,
        key: str,
        facts: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Store an artefact; one that is there already is left as it is.

        Raises:
            MedleakError: `kind` is not among `KINDS`.
            ConfigError: see `ready`.
        """
        final = self.folder(kind, key)
        if kind not in KINDS:
            raise MedleakError(unknown("kind", kind, KINDS))
        if not self._is_ready:
            self.ready()
            self._is_ready = True
        work = self.root / "tmp" / uuid.uuid4().hex
        work.mkdir(parents=True)
        try:
            checksum = None
            if arrays:
                from safetensors.numpy import save

                contiguous = {n: np.ascontiguousarray(a) for n, a in arrays.items()}
                payload = save(contiguous)
                checksum = hashlib.sha256(payload).hexdigest()
                _write(work / ARRAYS, payload)
            names = list(arrays or ())
            manifest = {"facts": dict(facts), "sha256": checksum, "created": time.time()}
            manifest |= {"names": names} if names else {}
            _write(work / MANIFEST, json.dumps(manifest).encode())
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.exists() and not self.has(kind, key):
                shutil.rmtree(final)  # left by a process that died while it pruned
            try:
                os.rename(work, final)
            except OSError:
                if not self.has(kind, key):  # else another process was first, with the same content
                    raise
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def facts(self, kind: str, key: str) -> tuple[Mapping[str, Any], str | None]:
        """Facts of an artefact and the checksum of its arrays, without reading these.

        Raises:
            KeyError: it is not there.
            Corrupt: the manifest is damaged.
        """
        manifest = self._manifest(kind, key)
        return manifest["facts"], manifest["sha256"]

    def _manifest(self, kind: str, key: str) -> Mapping[str, Any]:
        path = self.folder(kind, key) / MANIFEST
        try:
            manifest = json.loads(path.read_bytes())
            return {"facts": manifest["facts"], "sha256": manifest["sha256"], **manifest}
        except FileNotFoundError:
            raise KeyError(f"{kind}/{key}") from None
        except (ValueError, KeyError, TypeError):
            raise Corrupt(f"{path} is damaged") from None

    def load(self, kind: str, key: str) -> Artefact:
        """Read and check an artefact; its arrays come in the order in which they were saved.

        Raises:
            KeyError: it is not there.
            Corrupt: a file is damaged, named in the message.
        """
        folder = self.folder(kind, key)
        manifest = self._manifest(kind, key)
        facts, checksum = manifest["facts"], manifest["sha256"]
        if checksum is None:
            return Artefact(facts, {})
        try:
            payload = (folder / ARRAYS).read_bytes()
        except FileNotFoundError:
            raise Corrupt(f"{folder / ARRAYS} is missing") from None
        if hashlib.sha256(payload).hexdigest() != checksum:
            raise Corrupt(f"{folder / ARRAYS} does not match its checksum")
        from safetensors.numpy import load

        arrays = load(payload)  # in no order: that of a network's layers is in the manifest
        names = manifest.get("names", sorted(arrays))
        if not isinstance(names, list) or sorted(map(str, names)) != sorted(arrays):
            raise Corrupt(f"{folder / MANIFEST} names other arrays than there are")
        return Artefact(facts, {name: arrays[name] for name in names})

    def get(self, kind: str, key: str) -> Artefact | None:
        """The artefact, or None where it is absent; a damaged one is set aside, and said so."""
        try:
            return self.load(kind, key)
        except KeyError:
            return None
        except Corrupt as error:
            aside = self.root / "corrupt" / f"{kind}-{key}-{uuid.uuid4().hex[:8]}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.folder(kind, key), aside)
            log.warning("%s: set aside in %s and made again", error, aside.parent)
            return None

    @contextlib.contextmanager
    def claim(self, kind: str, key: str) -> Iterator[bool]:
        """Hold the artefact's lock for the block; False where another process holds it."""
        import filelock

        path = self.root / "locks" / f"{kind}-{key}"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def keys(self, kind: str) -> list[str]:
        """Every stored key of `kind`."""
        return sorted(p.parent.name for p in (self.root / kind).glob(f"*/*/{MANIFEST}"))

    def kinds(self) -> list[str]:
        """Those of `KINDS` that the folder has."""
        return sorted(kind for kind in KINDS if (self.root / kind).is_dir())

    def size(self) -> dict[str, tuple[int, int]]:
        """Kind -> (artefacts, bytes)."""
        return {kind: _measure(self.root / kind) for kind in [*self.kinds(), "corrupt"]}

    def verify(self) -> list[str]:
        """Read everything; the damage found, one line each."""
        problems = []
        for kind in self.kinds():
            for key in self.keys(kind):
                try:
                    self.load(kind, key)
                except Corrupt as error:
                    problems.append(str(error))
        return problems

    def prune(self, *, kind: str | None = None, days: float = 0.0) -> tuple[int, int]:
        """Delete artefacts older than `days` (of one `kind`, or all) and everything set aside.

        Returns:
            How many artefacts, and how many bytes.

        Raises:
            ConfigError: the folder is not marked as a store, or has no such kind.
        """
        if not self.marked():
            raise ConfigError(
                f"folder '{self.root}' has no {MARKER}, so that nothing is deleted in it: a grid that "
                "works on an earlier version's store marks it"
            )
        if kind is not None and kind not in self.kinds():
            raise ConfigError(unknown("kind", kind, self.kinds()))
        before = sum(size for _, size in self.size().values())
        limit, count = time.time() - days * 86400, 0
        for name in [kind] if kind else self.kinds():
            for manifest in (self.root / name).glob(f"*/*/{MANIFEST}"):
                if manifest.stat().st_mtime < limit:
                    self._remove(manifest.parent)
                    count += 1
        live = min(limit, time.time() - 3600)  # a younger folder may be one being written
        for name, ours, until in (("tmp", _UNFINISHED, live), ("corrupt", _DAMAGED, limit)):
            for path in (self.root / name).glob("*"):
                if ours.fullmatch(path.name) and path.stat().st_mtime < until:
                    shutil.rmtree(path, ignore_errors=True)
        return count, before - sum(size for _, size in self.size().values())

    def _remove(self, folder: Path) -> None:
        """Delete whole: renamed away first, so that nobody finds half of it."""
        aside = self.root / "tmp" / uuid.uuid4().hex
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


def _measure(folder: Path) -> tuple[int, int]:
    files = [p for p in folder.rglob("*") if p.is_file()] if folder.is_dir() else []
    return sum(p.name == MANIFEST for p in files), sum(p.stat().st_size for p in files)

"""What must never be published: anything per patient, any image, any trace of a machine."""

from __future__ import annotations

import csv
import getpass
import io
import json
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ALLOWED = {".json", ".md", ".tex", ".csv", ".html", ".svg", ".pdf"}
GALLERY = "gallery.html"
"""The one file that may hold images, and only where all rows are simulated."""
LONGEST = 500
LARGEST = 20 * 2**20

_PERSONAL = {
    "patient", "patient_id", "patients", "patient_ids", "score", "scores", "member", "members",
    "membership", "image", "images", "pixels", "logit", "logits", "loss", "losses", "signals",
    "reconstruction", "reconstructions", "per_record", "per_patient",
}  # fmt: skip
_MACHINE = {"host", "hostname", "node", "user", "username", "login", "cwd", "home"}
_PATH = re.compile(
    r"(?<![\w.:/<-])(?:/(?:home|root|work|tmp|Users|mnt|media|scratch|srv|opt|private|var)\b"
    r"|[A-Za-z]:\\Users)[^\s\"'<>,)]*"
)
_RASTER = re.compile(r"data:image/(?!svg)|<(?:img|image|object|embed|iframe|canvas)\b", re.I)
_PICTURE = re.compile(r'<img src="data:image/png;base64,[A-Za-z0-9+/]+=*"')
_NETWORK = re.compile(
    r"""(?:\bsrc|<link[^>]*\bhref)\s*=\s*["']?https?:|@import|url\(\s*["']?https?:""", re.I
)
# One number and what parts it from the next. Nothing is given back once taken (`*+`), and a run is
# read from its first number only: pages hold thousands of curves, and the time stays linear.
_NUMBER = r"\d[\d.eE+-]*+"
_GAP = r"[^\S\n]*+(?:\n\s*+[,;]?|[,;])\s*+"
_RUN = re.compile(rf"(?<![\d.eE+-])[.eE+-]*+{_NUMBER}{_GAP}(?:-?{_NUMBER}{_GAP})*+")
_PARTED = re.compile(_NUMBER + _GAP)
# Names that everybody's machine has would flag every page.
_COMMON = {
    "root", "user", "users", "admin", "runner", "ubuntu", "debian", "docker", "localhost", "guest",
    "medleak", "main", "build", "builder", "test", "tester", "attack", "none", "node", "data",
}  # fmt: skip


def redacted(value: Any) -> Any:
    """`value` without absolute machine paths (the last part stays) and without machine keys."""
    if isinstance(value, str):
        return _PATH.sub(lambda found: re.split(r"[/\\]", found[0].rstrip("/\\"))[-1], value)
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if str(k).lower() not in _MACHINE}
        return {redacted(str(k)): redacted(v) for k, v in kept.items()}
    if isinstance(value, list | tuple):
        return [redacted(item) for item in value]
    return value


def scan(folder: str | Path, *, names: Iterable[str] | None = None) -> list[str]:
    """Problems in a published folder, one line each; none is an empty list.

    Args:
        folder: looked through with everything below it.
        names: words that must not occur; this machine's host and user name unless given.
    """
    folder = Path(folder)
    names = _machine_names() if names is None else list(names)
    problems = []
    for path in sorted(folder.rglob("*")):
        where = path.relative_to(folder).as_posix()
        if path.is_symlink():
            problems.append(f"{where}: a link")
        elif path.is_file() and path.name != ".gitkeep":
            problems += [f"{where}: {problem}" for problem in _file(path, names)]
    return problems


def _machine_names() -> list[str]:
    try:
        found = {socket.gethostname(), socket.gethostname().split(".")[0], getpass.getuser()}
    except (OSError, KeyError, ImportError):
        found = {socket.gethostname()}
    return sorted(name for name in found if len(name) > 3 and name.lower() not in _COMMON)


def _file(path: Path, names: Iterable[str]) -> Iterator[str]:
    if path.suffix.lower() not in ALLOWED:
        yield f"file type '{path.suffix or path.name}' is not for publishing"
        return
    if path.stat().st_size > LARGEST:
        yield f"{path.stat().st_size} bytes: too large for tables and plots"
        return
    raw = path.read_bytes()
    if path.suffix == ".pdf":
        yield from ["holds a raster image"] if re.search(rb"/Subtype\s*/Image", raw) else []
        return
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        yield "is not UTF-8 text"
        return
    if path.name == GALLERY and _simulated(path.parent):
        text = _PICTURE.sub("<", text)
    yield from _text(text, names)
    if path.suffix == ".json":
        yield from _json(text)
    elif path.suffix == ".csv":
        yield from _csv(text)


def _simulated(folder: Path) -> bool:
    """Whether no row of a published folder is about a real patient."""
    try:
        rows = json.loads((folder / "rows.json").read_text())
        return bool(rows) and all(row["simulated"] is True for row in rows)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _text(text: str, names: Iterable[str]) -> Iterator[str]:
    for found in dict.fromkeys(match[0] for match in _PATH.finditer(text)):
        yield f"machine path '{found}'"
    for name in names:
        if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
            yield f"machine or user name '{name}'"
    if _RASTER.search(text):
        yield "holds a raster image or an embedded object"
    if _NETWORK.search(text):
        yield "loads something from the network"
    if any(_is_long(run[0]) for run in _RUN.finditer(text)):
        yield f"a run of more than {LONGEST} numbers"


def _is_long(run: str) -> bool:
    """Whether a run holds `LONGEST` numbers; a number and its separator take two characters."""
    return len(run) >= 2 * LONGEST and sum(1 for _ in _PARTED.finditer(run)) >= LONGEST


def _csv(text: str) -> Iterator[str]:
    header = next(csv.reader(io.StringIO(text)), [])
    for name in header:
        if name.strip().lower() in _PERSONAL:
            yield f"column '{name}' looks like one value per patient or record"


def _json(text: str) -> Iterator[str]:
    try:
        value = json.loads(text)
    except ValueError:
        yield "is not JSON"
        return
    yield from _walk(value, "")


def _walk(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{where}.{key}".lstrip(".")
            if key.lower() in _PERSONAL and _per_record(key, item):
                yield f"'{at}' looks like one value per patient or record"
            elif key.lower() in _MACHINE and isinstance(item, str) and item:
                yield f"'{at}' names a machine or a user"
            yield from _walk(item, at)
    elif isinstance(value, list):
        if len(value) > LONGEST and not (_are_rows(value) or _are_overrides(value)):
            yield f"'{where or 'the file'}' is a list of {len(value)} values"
        for i, item in enumerate(value):
            yield from _walk(item, f"{where}[{i}]")


def _per_record(key: str, item: Any) -> bool:
    """Counts ("patients": 1000) and column names ("patient": "subject") are not per record."""
    if isinstance(item, str) or item is None:
        return False
    count = isinstance(item, int) and not isinstance(item, bool)
    return not (count and key.lower().endswith("s"))


def _are_rows(value: list) -> bool:
    return all(
        isinstance(item, dict) and {"cell", "status", "attack"} <= set(item) for item in value
    )


def _are_overrides(value: list) -> bool:
    return all(
        isinstance(item, list) and all(isinstance(one, str) and "=" in one for one in item)
        for item in value
    )

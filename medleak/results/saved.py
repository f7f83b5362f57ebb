"""Rows of the grids that were run before."""

from __future__ import annotations

import json
from pathlib import Path

from medleak.api import ConfigError
from medleak.core.suggestions import unknown
from medleak.results.row import Row

MANIFEST, FAILURES = "grid.json", "failures"


OUT = Path("results/grids")


def load(name: str | Path, out: Path | None = None) -> tuple[list[Row], Path]:
    """Rows and folder of a grid that was run before, by name or folder.

    Raises:
        ConfigError: no such grid, named with the choices.
    """

    out = Path(out or OUT)
    folder = Path(name) if (Path(name) / MANIFEST).is_file() else out / str(name)
    if not (folder / MANIFEST).is_file():
        known = [p.parent.name for p in out.glob(f"*/{MANIFEST}")]
        raise ConfigError(unknown(f"grid in {out}", name, known))
    path = folder / "rows.json"
    if not path.is_file():
        raise ConfigError(f"grid '{folder.name}' has no rows yet: issue its command again")
    return _read_rows(path), folder


def _read_rows(path: Path) -> list[Row]:
    try:
        return [Row.from_json(row) for row in json.loads(path.read_text())]
    except (ValueError, TypeError, AttributeError):
        raise ConfigError(f"'{path}' is damaged: issue the grid's command again") from None


def find_row(key: str, out: Path | None = None) -> Row:
    """The row whose key begins with `key`, in any grid under `out`.

    Raises:
        ConfigError: none, or more than one.
    """

    rows: dict[str, Row] = {}
    for path in sorted(Path(out or OUT).glob("*/rows.json")):
        try:
            rows |= {row.key: row for row in _read_rows(path)}
        except ConfigError:
            continue  # another grid's damage; reporting on that grid says so
    found = [row for name, row in rows.items() if name.startswith(key)]
    if len(found) == 1 or key in rows:
        return rows.get(key, found[0])
    if found:
        raise ConfigError(f"row '{key}' is one of several: {', '.join(r.key for r in found[:12])}")
    raise ConfigError(unknown("row", key, rows))

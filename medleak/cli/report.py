"""``medleak report``: write the report of a grid again, or publish it."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any


def main(arguments: Namespace) -> int:
    from medleak import report
    from medleak.api import ConfigError
    from medleak.config.compose import default_store
    from medleak.core.store import Store
    from medleak.results import saved

    if arguments.overwrite and not arguments.publish:
        raise ConfigError("--overwrite replaces what is published: write --publish NAME beside it")
    rows, folder = saved.load(arguments.grid or latest(arguments.out), arguments.out)
    manifest, store = manifest_of(folder), Store(default_store())
    if arguments.publish:
        name, overwrite = arguments.publish, arguments.overwrite
        place = report.publish(rows, name, manifest=manifest, overwrite=overwrite, store=store)
        print(f"published {place}")
        return 0
    print(report.terminal(rows))
    print(f"\nreport: {report.write(rows, folder, manifest=manifest, store=store)}")
    return 0


def latest(out: str | None) -> Path:
    """The folder of the grid that was run last.

    Raises:
        ConfigError: there is none.
    """
    from medleak.api import ConfigError
    from medleak.results.saved import OUT

    found = list(Path(out or OUT).glob("*/rows.json"))
    if not found:
        raise ConfigError(f"no grid in {Path(out or OUT)}: run medleak grid first")
    return max(found, key=lambda path: path.stat().st_mtime).parent


def manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest in the folder of a grid."""
    from medleak.api import ConfigError
    from medleak.results.saved import MANIFEST

    try:
        return json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"'{folder / MANIFEST}' cannot be read: {error}") from None

"""``medleak list``: what there is to choose from."""

from __future__ import annotations

import shutil
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator

from medleak.api import ConfigError
from medleak.config.catalogue import BUILT_IN, GROUPS, Entry, entries
from medleak.config.plugins import enable
from medleak.core.suggestions import unknown


def main(arguments: Namespace) -> int:
    enable()
    chosen = [_group(kind) for kind in arguments.kinds] or GROUPS
    width = max(60, shutil.get_terminal_size((100, 24)).columns) if sys.stdout.isatty() else 100
    sections = [section(group, entries(group), width) for group in chosen]
    print("\n\n".join(sections))
    return 0


def _group(kind: str) -> str:
    plural = {f"{group}s": group for group in GROUPS}
    if kind not in plural and kind not in GROUPS:
        raise ConfigError(unknown("kind", kind, plural))
    return plural.get(kind, kind)


def section(group: str, found: list[Entry], width: int) -> str:
    """The entries of a group as text."""
    left = max((len(entry.name) for entry in found), default=0) + 4
    lines = [f"{group}s" + ("" if found else ": none")]
    for entry in found:
        texts = list(_texts(entry))
        for text in texts or [""]:
            name = f"  {entry.name}" if text is (texts or [""])[0] else ""
            wrapped = textwrap.wrap(text, width - left, break_on_hyphens=False) or [""]
            lines += [f"{name if i == 0 else '':{left}}{line}" for i, line in enumerate(wrapped)]
    return "\n".join(line.rstrip() for line in lines)


def _texts(entry: Entry) -> Iterator[str]:
    if entry.problem:
        yield f"cannot be used: {entry.problem}"
        return
    yield entry.summary
    if entry.access:
        yield entry.access
    if entry.slots:
        yield "; ".join(f"{slot}: {' then '.join(names)}" for slot, names in entry.slots.items())
    if entry.paper:
        yield entry.paper
    if entry.source != BUILT_IN:
        yield f"plugin {entry.source}"

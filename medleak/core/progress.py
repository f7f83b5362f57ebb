"""A progress bar on standard error, and nothing where that is not a terminal or not wanted."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Report = Callable[[int, int, str], None]


@contextlib.contextmanager
def bar(wanted: bool = True) -> Iterator[Report]:
    """A callback (done, total, what) that draws; plain lines every tenth where there is no terminal."""
    if not wanted:
        yield lambda done, total, what: None
    elif sys.stderr.isatty():
        with _rich() as report:
            yield report
    else:
        yield _Lines()


class _Lines:
    """One line at each tenth, for logs."""

    def __init__(self) -> None:
        self.last = -1

    def __call__(self, done: int, total: int, what: str) -> None:
        tenth = 10 * done // total if total else 10
        if total and tenth > self.last:
            self.last = tenth
            print(f"medleak: {done} of {total} tasks", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _rich() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None)

        def report(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what or None)

        yield report

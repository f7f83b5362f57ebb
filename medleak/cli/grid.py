"""``medleak grid``: plan, run what is missing, print the table and write the report."""

from __future__ import annotations

import os
import sys
import threading
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medleak.engine.plan import Plan, Result

ROWS, PAGE, PATIENTS = "rows.json", "report.html", "risk.html"


def main(arguments: Namespace) -> int:
    from medleak import report
    from medleak.config.saved_grids import duration
    from medleak.engine import session

    budget = duration(arguments.budget) if arguments.budget else None
    prepared = session.prepare(
        arguments.overrides, name=arguments.name, out=arguments.out, store=arguments.store
    )
    if arguments.dry_run:
        print(prepared.plan.describe())
        return 0
    before = reported_rows(prepared.plan.folder)
    if before is None:
        # The workers' first seconds are imports too; afterwards every second leaves them idle.
        threading.Thread(target=report.prepare, daemon=True).start()
    result = session.execute(
        prepared,
        jobs=arguments.jobs,
        budget=budget,
        retry_failed=arguments.retry_failed,
        fail_fast=arguments.fail_fast,
        progress=True,
    )
    return finish(result, prepared.plan, before)


def reported_rows(folder: Path) -> bytes | None:
    """The rows that the report in `folder` shows; None where it has none, or an older one."""
    rows, page = folder / ROWS, folder / PAGE
    if not rows.is_file() or not page.is_file() or page.stat().st_mtime < rows.stat().st_mtime:
        return None
    return rows.read_bytes()


def finish(result: Result, plan: Plan, before: bytes | None) -> int:
    """Print the table, write the report, say what is left, and return the exit status.

    Drawing takes seconds, so that a report of the same rows (`before`) is left as it is.
    """
    from medleak import report
    from medleak.cli.report import manifest_of

    print(report.terminal(result.rows))
    page = result.folder / PAGE
    if before is None or before != (result.folder / ROWS).read_bytes():
        manifest = manifest_of(result.folder)
        page = report.write(result.rows, result.folder, manifest=manifest, store=plan.store)
        report.risk(plan)
    else:
        os.utime(page)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(result.counts.items()))
    print(f"\n{plan.name}: {counts}; report: {page}")
    if (patients := result.folder / PATIENTS).is_file():
        print(f"most exposed patients, not for publication: {patients}")
    if result.worked:
        print(f"medleak: {took(result)}", file=sys.stderr)
    return status_of(result)


def took(result: Result) -> str:
    """How long the work took, and for what share of it the workers were training or attacking."""
    from medleak.engine.cost import duration

    return f"{duration(result.seconds)}, workers busy {result.worked / result.seconds:.0%} of it"


def status_of(result: Result) -> int:
    """0 where nothing failed; what failed is printed, once for each reason."""
    bad = [row for row in result.rows if row.status in ("failed", "invalid")]
    reasons = dict.fromkeys(f"{row.status}: {row.reason}" for row in bad)
    for reason in reasons:
        print(f"medleak: {reason}", file=sys.stderr)
    if any(row.status == "failed" for row in bad):
        print("medleak: --retry-failed tries again", file=sys.stderr)
    if result.interrupted:
        print("medleak: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 1 if bad else 0

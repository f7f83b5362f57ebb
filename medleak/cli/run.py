"""``medleak run``: one cell."""

from __future__ import annotations

from argparse import Namespace


def main(arguments: Namespace) -> int:
    from medleak import report
    from medleak.cli.grid import finish, reported_rows, status_of
    from medleak.engine import session

    places = {"out": arguments.out, "store": arguments.store}
    prepared = session.prepare(arguments.overrides, single=not arguments.multirun, **places)
    if arguments.dry_run:
        print(prepared.plan.describe())
        return 0
    before = reported_rows(prepared.plan.folder)
    result = session.execute(
        prepared, jobs=arguments.jobs, retry_failed=arguments.retry_failed, progress=True
    )
    if arguments.multirun:
        return finish(result, prepared.plan, before)
    print(report.terminal(result.rows))
    for row in result.rows:
        what = ", ".join(part for part in (row.records, row.unit) if part)
        print(f"medleak explain {row.key}" + (f"   # {what}" if what else ""))
    return status_of(result)

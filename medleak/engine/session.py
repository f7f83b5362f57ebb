"""Plan a grid and run it: what the command line and the Python API share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medleak.api import ConfigError
from medleak.config.saved_grids import gather

if TYPE_CHECKING:
    from medleak.engine.plan import Plan, Result


@dataclass(frozen=True)
class Prepared:
    """A plan, the executor block that its configuration names, and the saved grid's budget."""

    plan: Plan
    executor: Mapping[str, Any]
    budget: float | None = None


def prepare(
    overrides: Sequence[str],
    *,
    name: str | None = None,
    plugins: Iterable[str | os.PathLike] = (),
    out: str | os.PathLike | None = None,
    store: str | os.PathLike | None = None,
    single: bool = False,
) -> Prepared:
    """Compose and plan; `single` refuses more than one cell. Otherwise as `plan`."""
    from medleak.config import compose
    from medleak.engine import plan as grid

    compose.initialise(plugins)
    request = gather(overrides)
    products = compose.expand_all([part.overrides for part in request.parts])
    jobs = [
        replace(job, not_run=part.not_run)
        for part, product in zip(request.parts, products, strict=True)
        for job in product
    ]
    if single and len(jobs) > 1:
        raise ConfigError(f"these are {len(jobs)} cells, and run measures one: use medleak grid")
    made = grid.plan(
        jobs,
        metrics=compose.metrics(),
        name=request.name if name is None else name,
        out=Path(out) if out else None,
        store=Path(store) if store else None,
    )
    return Prepared(made, jobs[0].config["executor"], request.budget)


def plan(*overrides: str, **places: Any) -> Plan:
    """Plan a grid; nothing is trained.

    Args:
        overrides: as on the command line (``"attack=yeom,lira"``), or the name of a saved grid.
        places: ``name`` of the grid and its folder, ``plugins`` (folders), ``out`` (folder of
            grids), ``store`` (folder of trained runs and measured cells).

    Raises:
        ConfigError: in one line, whatever is wrong with the request.
    """
    return prepare(overrides, **places).plan


def execute(
    prepared: Prepared, *, jobs: int | None = None, budget: float | None = None, **options: Any
) -> Result:
    """Run what is missing of a prepared grid, on its executor with `jobs` at once where given."""
    from medleak.config.instantiate import build
    from medleak.engine import scheduler
    from medleak.engine.executors import Executor

    block = prepared.executor if jobs is None else {**prepared.executor, "jobs": jobs}
    seconds = prepared.budget if budget is None else budget
    return scheduler.execute(
        prepared.plan, executor=build(block, of=Executor), budget=seconds, **options
    )


def run(
    *overrides: str,
    jobs: int | None = None,
    budget: float | None = None,
    retry_failed: bool = False,
    fail_fast: bool = False,
    progress: bool = False,
    **places: Any,
) -> Result:
    """Plan a grid, run what is missing of it, and gather the rows.

    Args:
        overrides, places: see `plan`.
        jobs: how many at once.
        budget: seconds after which nothing new is started.
        retry_failed: try failed cells again.
        fail_fast: start nothing new after the first failure.
        progress: draw a bar on standard error.

    Returns:
        `rows`, and the same as a pandas DataFrame in `frame`.

    Raises:
        ConfigError: in one line, whatever is wrong with the request.
    """
    return execute(
        prepare(overrides, **places),
        jobs=jobs,
        budget=budget,
        retry_failed=retry_failed,
        fail_fast=fail_fast,
        progress=progress,
    )

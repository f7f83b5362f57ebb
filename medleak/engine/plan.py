"""A grid: planned, run so that nothing is done twice, and gathered into rows."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medleak.api import ConfigError
from medleak.core.devices import pick_device
from medleak.core.keys import digest
from medleak.core.store import Store, write_atomically
from medleak.core.suggestions import unknown
from medleak.engine.cell import Cell, load_rows
from medleak.engine.compatibility import reasons
from medleak.results.frame import to_frame
from medleak.results.row import Row
from medleak.results.saved import FAILURES, MANIFEST, OUT
from medleak.training.run_spec import RunSpec

if TYPE_CHECKING:
    import pandas as pd

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


@dataclass
class Plan:
    """What a grid comes to, before anything is trained.

    Attributes:
        name: of the grid and of its folder.
        device: "auto" is settled when work starts, because that takes torch.
        folder: where failures, the manifest and the report go.
        cells: every cell; `refused` holds the reasons of those that make no sense, by key, and
            `left_out` the reason of those that the grid lists and does not measure.
    """

    name: str
    folder: Path
    store: Store
    cells: list[Cell]
    device: str = "auto"
    refused: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Digest of all cells: a folder belongs to one grid."""
        return digest([cell.key for cell in self.cells])

    def wanted(self) -> list[Cell]:
        """Applicable cells without stored rows, but for those left out."""
        aside = self.refused.keys() | self.left_out.keys()
        possible = [cell for cell in self.cells if cell.key not in aside]
        return [cell for cell in possible if self.store.get("cells", cell.key) is None]

    def missing_runs(self, cells: Iterable[Cell] | None = None) -> dict[str, RunSpec]:
        """Runs that `cells` (default: those wanted) need and the store lacks; targets first."""
        cells = self.wanted() if cells is None else list(cells)
        specs = [s for cell in cells for s in [cell.target_spec]]
        specs += [s for cell in cells for s in cell.specs[1:]]
        return {s.key: s for s in specs if not self.store.has("runs", s.key)}

    def rows(self, unmeasured: str = "not measured yet") -> list[Row]:
        """A row or more for every cell: measured, refused, failed, or not run."""
        rows: list[Row] = []
        for cell in self.cells:
            if cell.key in self.refused:
                rows.append(cell.row("not_applicable", "; ".join(self.refused[cell.key])))
                continue
            measured = load_rows(cell, self.store)
            failure = self.folder / FAILURES / f"{cell.key}.json"
            if measured is not None:
                rows += measured
            elif failure.is_file():
                rows.append(cell.row("failed", json.loads(failure.read_text())["reason"]))
            else:
                rows.append(cell.row("not_run", self.left_out.get(cell.key, unmeasured)))
        return rows

    def describe(self) -> str:
        """The dry run, in words."""
        from medleak.engine.cost import describe

        return describe(self)


@dataclass
class Result:
    """What a grid gave, and how it ended.

    Attributes:
        folder: where its report goes.
        seconds: from the first look at the store to the last row.
        worked: seconds of training and measuring, averaged over the workers.
        trained, measured: runs and cells that were made now.
    """

    rows: list[Row]
    folder: Path
    interrupted: bool = False
    seconds: float = 0.0
    worked: float = 0.0
    trained: int = 0
    measured: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Status -> rows."""
        return dict(Counter(row.status for row in self.rows))

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a flat table."""
        return to_frame(self.rows)


def plan(
    jobs: Sequence[Any],
    *,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
    name: str | None = None,
    out: Path | None = None,
    store: Path | None = None,
) -> Plan:
    """Turn composed jobs (`medleak.config.compose.Job`) into cells, and find out which make sense.

    Args:
        metrics: metric name -> YAML block; by default every one in the search path.
        name: of the grid; by default a digest of its cells.
        out: folder of grids.
        store: folder of the store.

    Raises:
        ConfigError: an invalid name, a folder that holds another grid, or nothing applicable.
        DataError: data missing or too few.
    """
    if not jobs:
        raise ConfigError("the grid has no cells")
    if metrics is None:
        from medleak.config.compose import metrics as shipped

        metrics = shipped()
    runtime = jobs[0].config.get("runtime") or {}
    kept = Store(store or runtime.get("store") or "results/store")
    cells, refused, left_out, seen = [], {}, {}, set()
    for job in jobs:
        cell = Cell(job.config, _fitting(job.config, metrics), _extra(job.axes), job.overrides)
        if (name_of := digest([cell.key, cell.coordinates])) not in seen:
            seen.add(name_of)
            cells.append(cell)
            if kept.has("cells", cell.key):
                continue  # applicable, then; asking again may mean to calibrate its noise again
            if found := reasons(cell):
                refused[cell.key] = found
            elif job.not_run:
                left_out[cell.key] = job.not_run
    if len(refused) == len(cells):
        first = refused[cells[0].key]
        raise ConfigError(f"nothing in this grid is applicable: {'; '.join(first)}")
    if name is None:
        name = "grid-" + digest([cell.key for cell in cells])[:10]
    if not NAME.fullmatch(name):
        raise ConfigError(f"'{name}' cannot name a grid: letters, digits, '.', '_' and '-' only")
    folder = Path(out or runtime.get("out") or OUT) / name
    device = str(runtime.get("device", "auto"))
    if device != "auto":
        device = pick_device(device)
    made = Plan(name, folder, kept, cells, device, refused, left_out)
    _check_folder(made)
    return made


def _extra(axes: Mapping[str, Any]) -> dict[str, Any]:
    usual = ("target", "defense", "attack", "seed", "n_members", "executor", "runtime", "grid")
    return {k: v for k, v in axes.items() if k not in usual and not k.startswith("runtime.")}


def _fitting(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    from medleak.config.instantiate import static

    chosen = config.get("metrics") or list(metrics)
    for name in chosen:
        if name not in metrics:
            raise ConfigError(unknown("metric", name, metrics))
    requires = static(config["attack"]["_target_"]).requires
    goal = requires.goal if requires else "membership"
    fits = {n: static(metrics[n]["_target_"]).literals.get("goal", "membership") for n in chosen}
    return {name: metrics[name] for name in chosen if fits[name] == goal}


def _check_folder(plan: Plan) -> None:
    path = plan.folder / MANIFEST
    if not path.exists():
        # Hidden files are another process's that are being written: it issued the same grid.
        found = plan.folder.iterdir() if plan.folder.exists() else ()
        if any(not path.name.startswith(".") for path in found):
            raise ConfigError(
                f"folder '{plan.folder}' is not a grid's: choose another --name or --out"
            )
        return
    try:
        known = json.loads(path.read_text())["identity"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"'{path}' is damaged: choose another --name, or delete it") from None
    if known != plan.identity:
        raise ConfigError(
            f"folder '{plan.folder}' holds another grid: choose another --name or --out "
            "(the store is shared, so nothing is trained twice)"
        )


def save_manifest(plan: Plan, device: str) -> dict[str, Any]:
    """Write what the grid is made of: configuration, versions, data, hardware, git state."""
    from medleak.core.provenance import environment

    data = {
        c.target_spec.experiment.dataset.name: c.target_spec.experiment.dataset for c in plan.cells
    }
    manifest = {
        "name": plan.name,
        "identity": plan.identity,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "overrides": [list(cell.overrides) for cell in plan.cells],
        "config": _configs(plan.cells),
        "data": {
            name: {
                "fingerprint": d.fingerprint,
                "citation": d.citation,
                "note": d.note,
                "simulated": d.simulated,
                "records": len(d.records),
            }
            for name, d in data.items()
        },
        **environment(device),
    }
    write_atomically(plan.folder / MANIFEST, json.dumps(manifest, indent=1))
    return manifest


def _configs(cells: Sequence[Cell]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {"target": {}, "defense": {}, "attack": {}, "metric": {}}
    for cell in cells:
        for group in ("target", "defense", "attack"):
            block = cell.config[group]
            name = block["name"]
            while found[group].setdefault(name, block) != block:
                name += "'"
        found["metric"] |= {name: dict(block) for name, block in cell.metrics.items()}
    return found

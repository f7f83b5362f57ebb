"""Rows as data frames: one line for each row, or one for each row and measure (tidy)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medleak.api import ConfigError, Estimate
from medleak.results.aggregate import Aggregate
from medleak.results.row import SCHEMA, Row

if TYPE_CHECKING:
    import pandas as pd

COORDINATES = ("target", "n_members", "defense", "attack", "records", "unit", "seed")
PLACE = ("goal", "target", "n_members", "defense", "attack", "records", "unit", "access",
         "adversary", "pool", "n_shadows", "n_targets", "data", "simulated")  # fmt: skip
MEASURE = ("kind", "name", "group", "baseline", "value", "low", "high", "n", "level", "method",
           "flag", "points", "bound", "bound_status", "violated")  # fmt: skip
COLUMNS = ("schema", "row", *PLACE, "axes", "status", "reason", "seeds", "seeds_asked", *MEASURE)


def tidy(results: Iterable[Row | Aggregate]) -> pd.DataFrame:
    """One line for each result and measure, with the columns `COLUMNS`.

    Results are rows, or aggregates over seeds. One without any figure has one line that says why; its
    measure is empty. `axes` holds the further coordinates as JSON. The frame's ``attrs["schema"]`` is
    the version of the rows.
    """
    import pandas as pd

    lines = [line for one in results for line in _tidy(Aggregate.of(one))]
    frame = pd.DataFrame(lines, columns=list(COLUMNS)).rename(columns={"name": "measure"})
    frame.attrs["schema"] = SCHEMA
    return frame


def _tidy(one: Aggregate) -> list[dict[str, Any]]:
    row = one.row
    place = {"schema": SCHEMA, "row": row.key, **{name: getattr(row, name) for name in PLACE}}
    place |= {"axes": json.dumps(dict(row.extra), sort_keys=True, default=str)}
    place |= {"status": one.status, "reason": one.note}
    place |= {"seeds": " ".join(map(str, one.seeds)), "seeds_asked": " ".join(map(str, one.asked))}
    return [place | asdict(measure) for measure in one.measures] or [place]


def save(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a frame as CSV or Parquet, as the name's ending says.

    Raises:
        ConfigError: another ending, or Parquet without pyarrow.
    """
    path = Path(path)
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        try:
            frame.to_parquet(path, engine="pyarrow", index=False)
        except ImportError:
            raise ConfigError(
                f"'{path.name}' needs pyarrow: pip install 'medleak[parquet]', or write .csv"
            ) from None
    else:
        raise ConfigError(f"'{path.name}' is no name of a table: end it in .csv or .parquet")
    return path


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a flat table: coordinates, status, then ``<metric>``, ``<metric>_low``, ``_high``,
    ``_n``, ``<metric>_upper_bound`` and ``<metric>_worst_group`` for every estimate, and utility."""
    import pandas as pd

    return pd.DataFrame([_flat(row) for row in rows])


def _flat(row: Row) -> dict[str, Any]:
    flat: dict[str, Any] = {"row": row.key, **{name: getattr(row, name) for name in COORDINATES}}
    flat |= {"status": row.status, "reason": row.reason, "simulated": row.simulated}
    flat |= {"pool": row.pool, "n_shadows": row.n_shadows, "n_targets": row.n_targets}
    flat |= row.extra
    for block in (row.leakage, row.utility):
        for name, estimate in block.items():
            if isinstance(estimate, Estimate):
                flat[name] = estimate.value
                flat |= {f"{name}_{part}": getattr(estimate, part) for part in ("low", "high", "n")}
    flat |= {f"{name}_ceiling": value for name, value in row.upper_bounds.items()}
    flat |= {f"{name}_worst_group": worst["value"] for name, worst in row.worst_group.items()}
    return flat | gains(row) | {name: value for name, value in row.cost.items()}


def gains(one: Row | Aggregate) -> dict[str, float | None]:
    """``<metric>_without`` (the best baseline), ``<metric>_gain`` and its bounds."""
    line: dict[str, float | None] = {}
    for name, found in one.excess.items():
        line |= {f"{name}_without": without(one, name), f"{name}_gain": found.value}
        line |= {f"{name}_gain_low": found.low, f"{name}_gain_high": found.high}
    return line


def without(one: Row | Aggregate, name: str) -> float | None:
    """The best baseline's figure: what the attack gained is measured from it."""
    ours, gain = one.leakage.get(name), one.excess.get(name)
    if not isinstance(ours, Estimate) or gain is None or None in (ours.value, gain.value):
        return None
    # Over seeds the best baseline may change; the difference of the means stays true. Rounding
    # must not print a negative zero.
    return round(ours.value - gain.value, 12) + 0.0

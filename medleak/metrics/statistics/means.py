"""Means of estimates and curves, over targets or over seeds that share their patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from medleak.api import Curve, Estimate


def names_in(blocks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Every key of `blocks`, in order of appearance."""
    return list(dict.fromkeys(name for block in blocks for name in block))


def mean_block(blocks: Sequence[Mapping[str, Any]]) -> dict[str, Estimate | Curve]:
    """Name -> mean over those blocks that have it."""
    means = {}
    for name in names_in(blocks):
        values = [block[name] for block in blocks if name in block]
        if all(isinstance(value, Estimate) for value in values):
            means[name] = mean_estimate(values, asked=len(blocks))
        elif all(isinstance(value, Curve) for value in values):
            means[name] = mean_curve(values)
    return means


def mean_nested(blocks: Sequence[Mapping[str, Mapping[str, Estimate]]]) -> dict[str, dict]:
    """Group -> name -> mean, over those blocks that have the group."""
    return {
        name: mean_block([block[name] for block in blocks if name in block])
        for name in names_in(blocks)
    }


def mean_estimate(estimates: Sequence[Estimate], *, asked: int | None = None) -> Estimate:
    """Mean value, mean low and mean high over runs that share their patients.

    A bound that one measured run lacks is not averaged over the others: it stays absent.
    """
    asked = asked or len(estimates)
    good = [e for e in estimates if e.value is not None]
    flags = list(dict.fromkeys(e.flag for e in estimates if e.flag))
    if len(good) < asked:
        flags.append(f"{asked - len(good)} of {asked} not measured")
    like = (good or estimates)[0]

    def mean(part: str) -> float | None:
        values = [getattr(e, part) for e in good]
        return None if not values or None in values else sum(values) / len(values)

    return Estimate(
        mean("value"),
        mean("low"),
        mean("high"),
        min(e.n for e in good or estimates),
        like.level,
        like.method,
        "; ".join(flags),
    )


def mean_curve(curves: Sequence[Curve], most: int = 200) -> Curve:
    """Pointwise mean of y and of both bounds, on at most `most` points of the merged x.

    Points between two measured ones are interpolated linearly: on a ROC that is the randomised
    threshold. Of several points at one x the highest counts.
    """
    import numpy as np

    grid = np.unique(np.concatenate([np.asarray(curve.x, float) for curve in curves]))
    if len(grid) > most:
        # Even in rank, not in x: the left end of a log-log ROC is where the points are needed.
        grid = grid[np.unique(np.linspace(0, len(grid) - 1, most).round().astype(int))]

    def mean(part: str) -> tuple[float, ...]:
        lines = []
        for curve in curves:
            x, y = np.asarray(curve.x, float), np.asarray(getattr(curve, part), float)
            order = np.lexsort((y, x))
            last = np.append(np.diff(x[order]) > 0, True)
            lines.append(np.interp(grid, x[order][last], y[order][last]))
        return tuple(float(value) for value in np.mean(lines, axis=0))

    first = curves[0]
    x = tuple(float(value) for value in grid)
    smallest = min(curve.n for curve in curves)
    return Curve(x, mean("y"), mean("low"), mean("high"), smallest, first.level, first.method)

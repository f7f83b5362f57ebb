"""Figures of subgroups, and of the most exposed one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from medleak.api import Estimate, Metric
from medleak.api.goal import Subgroup


def by_group(
    metrics: Mapping[str, Metric], subgroups: Mapping[str, Subgroup]
) -> dict[str, dict[str, Estimate]]:
    """``{"sex=F": {metric: Estimate}}``; a subgroup that is `too_few` is not measured, and says so.

    Metrics that give a curve are left out.
    """
    return {
        name: {
            metric_name: Estimate(None, None, None, part.n, flag=part.too_few)
            if part.too_few
            else metric(part.answer, part.truth)
            for metric_name, metric in metrics.items()
            if not metric.is_curve
        }
        for name, part in subgroups.items()
    }


def worst_group(
    metrics: Mapping[str, Metric],
    subgroups: Mapping[str, Subgroup],
    measured: Mapping[str, Mapping[str, Estimate]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Metric name -> ``{"group": "sex=F", **Estimate}`` of the most exposed subgroup.

    A maximum over G groups is optimistic for the attacker even where all groups are equal. The interval
    is therefore Bonferroni's: each group's at ``1 - (1 - level) / G``, so that it covers the true value
    of whichever group is picked. Groups too small to measure are counted in `method`: one of them may
    be more exposed. Metrics measured in no group are left out.

    Args:
        measured: what `by_group` gave, where it is known.
    """
    measured = by_group(metrics, subgroups) if measured is None else measured
    worst = {}
    for name, metric in metrics.items():
        values = {
            group: estimates[name].value
            for group, estimates in measured.items()
            if name in estimates and estimates[name].value is not None
        }
        if not values:
            continue
        sign = 1 if metric.higher_is_leakier else -1
        group = max(values, key=lambda g: sign * values[g])
        wide = _corrected(metric, measured[group][name], subgroups[group], len(values))
        few = len(measured) - len(values)  # one of them may be the most exposed
        method = f"{wide.method}; {few} more too small to measure" if few else wide.method
        worst[name] = {"group": group} | asdict(replace(wide, method=method))
    return worst


def _corrected(metric: Metric, estimate: Estimate, part: Subgroup, n_groups: int) -> Estimate:
    if getattr(metric, "level", None) is None:
        note = f"largest of {n_groups} groups measured, interval not corrected"
        return replace(estimate, method=f"{estimate.method}; {note}")
    level = 1 - (1 - metric.level) / n_groups
    wide = at_level(metric, level)(part.answer, part.truth)
    note = f"largest of {n_groups} groups measured, Bonferroni: each at level {level:.4g}"
    return replace(wide, level=metric.level, method=f"{wide.method}; {note}")


def at_level(metric: Metric, level: float) -> Metric:
    """The same metric with another two-sided level."""
    other = copy.copy(metric)
    other.level = level
    return other

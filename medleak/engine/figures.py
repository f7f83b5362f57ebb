"""The figures of a row, computed alike for every goal: leakage, excess, upper bounds, violations, subgroups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import Estimate, Metric
from medleak.api.goal import Sample
from medleak.metrics.groups import by_group, worst_group
from medleak.metrics.privacy.upper_bounds import VIOLATION_LEVEL


def figures(metrics: Mapping[str, Metric], sample: Sample) -> dict[str, Any]:
    """What is measured on `sample`, as keyword arguments of a row.

    A bound is None (vacuous) where no guarantee limits the metric. A violation is a one-sided 99.9% lower
    bound above it, never a point estimate.
    """
    if not sample.whole_runs:
        metrics = {name: one for name, one in metrics.items() if not one.needs_whole_runs}
    answer, truth = sample.answer, sample.truth
    bounds = {name: _upper_bound(metric, sample) for name, metric in metrics.items()}
    others = {**sample.baselines, **sample.shown}
    found: dict[str, Any] = {
        "leakage": {name: metric(answer, truth) for name, metric in metrics.items()},
        "upper_bounds": bounds,
        "violations": violations(metrics, sample, bounds),
        "baselines": {
            prior: {name: metric(guess, truth) for name, metric in metrics.items()}
            for prior, guess in others.items()
        },
        "excess": _excesses(metrics, sample) if sample.baselines else {},
    }
    if sample.subgroups:
        groups = by_group(metrics, sample.subgroups)
        found["groups"] = groups
        if sample.worst:
            found["worst_group"] = worst_group(metrics, sample.subgroups, groups)
    if len(sample.targets) > 1:
        found["spread"] = spread(metrics, sample.targets)
    if sample.more is not None:
        found["leakage"] |= sample.more(metrics)
    return found


def _upper_bound(metric: Metric, sample: Sample) -> float | None:
    if sample.guarantees is None:
        return None
    if sample.prior is None:
        return metric.upper_bound(sample.guarantees)
    return metric.upper_bound(sample.guarantees, sample.prior(metric))


def violations(
    metrics: Mapping[str, Metric], sample: Sample, bounds: Mapping[str, float | None]
) -> tuple[str, ...]:
    """Metrics whose one-sided 99.9% lower bound lies above their upper bound; never a point estimate."""
    found = []
    for name, metric in metrics.items():
        if (bound := bounds[name]) is not None:
            low = metric.lower_bound(sample.answer, sample.truth, VIOLATION_LEVEL)
            found += [name] if low is not None and low > bound else []
    return tuple(found)


def _excesses(metrics: Mapping[str, Metric], sample: Sample) -> dict[str, Estimate]:
    """Metric name -> its gain over the best of the baselines."""
    found = {}
    for name, metric in metrics.items():
        each = [
            metric.excess(sample.answer, guess, sample.truth) for guess in sample.baselines.values()
        ]
        found[name] = gain(metric, each)
    return found


def gain(metric: Metric, excesses: Sequence[Estimate]) -> Estimate:
    """The excess over the best of the baselines; negative is a gain where lower is leakier."""
    known = [one for one in excesses if one.value is not None]
    best = min if metric.higher_is_leakier else max
    return best(known, key=lambda one: one.value) if known else excesses[0]


def spread(
    metrics: Mapping[str, Metric], targets: Sequence[tuple[Any, Any]]
) -> dict[str, dict[str, float]]:
    """How each metric varies from target to target."""
    values: dict[str, list[float]] = {}
    for answer, truth in targets:
        for name, metric in metrics.items():
            estimate = metric(answer, truth)
            if isinstance(estimate, Estimate) and estimate.value is not None:
                values.setdefault(name, []).append(estimate.value)
    return {
        name: {
            "mean": float(np.mean(some)),
            "sd": float(np.std(some, ddof=1)) if len(some) > 1 else 0.0,
            "min": min(some),
            "max": max(some),
            "n": len(some),
        }
        for name, some in values.items()
    }

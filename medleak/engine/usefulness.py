"""What a release is still good for: the utility metrics of the kinds of artefact that a run makes."""

from __future__ import annotations

from typing import Any

from medleak.api import Release, UtilityMetric
from medleak.config.instantiate import identities, static
from medleak.config.registry import Registry
from medleak.training.run_spec import RunSpec

UTILITY: Registry[UtilityMetric] = Registry("utility", UtilityMetric)


def metrics_of(spec: RunSpec) -> list[UtilityMetric]:
    """The metrics for what `spec` makes and for its task."""
    task = spec.experiment.problem.task
    return [
        one
        for one in UTILITY.all()
        if one.artefact in spec.makes and (not one.tasks or task in one.tasks)
    ]


def plugin_metrics(spec: RunSpec) -> list[str]:
    """Identities of plugins' metrics, for keys; those of medleak change with MEASURE_VERSION."""
    blocks = [UTILITY.block(one.name) for one in metrics_of(spec)]
    return identities([block for block in blocks if not static(block["_target_"]).builtin])


def useful(release: Release, spec: RunSpec) -> dict[str, Any]:
    """``{"overall": name -> estimate, "groups": "sex=F" -> the same}``, on evaluation records."""
    found: dict[str, Any] = {"overall": {}, "groups": {}}
    records, task = spec.experiment.evaluation, spec.experiment.problem.task
    for one in metrics_of(spec) if len(records) else ():
        found["overall"] |= one.measure(release, records, task=task)
        for group, estimates in one.by_group(release, records, task=task).items():
            found["groups"].setdefault(group, {}).update(estimates)
    return found

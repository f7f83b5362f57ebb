"""What of a stored run an adversary may observe."""

from __future__ import annotations

from typing import Any

from medleak.api import Release
from medleak.core.store import Store
from medleak.release.stored_run import StoredRun
from medleak.training.pipeline import TRAINING_SLOTS, DefensePipeline
from medleak.training.run_spec import RunSpec


def release_of(
    spec: RunSpec, slots: DefensePipeline, store: Store, *, device: str = "cpu"
) -> Release:
    """What the adversary may observe of a stored run, under the release and serve slots.

    The run's kinds of artefact offer views. Stages under which it was made, and the adversary's seat,
    decide which of them exist; stages of the slots `release` and `serve` then work on those.
    """
    run, adversary = StoredRun(spec, store, device), spec.adversary
    views: dict[str, Any] = {}
    for kind in spec.kinds:
        views |= kind.open(run)
    seat = dict.fromkeys(adversary.exposes, "") | dict(adversary.hides)
    made = slots.views(views, slots=TRAINING_SLOTS) | seat
    open_to = slots.views(views) | seat
    views = {name: view for name, view in views.items() if not made[name]}
    if adversary.exposes:
        views |= adversary.seen(run.facts)
    hidden = {name: why for name, why in open_to.items() if name not in views}
    return slots.release(Release(views, hidden=hidden), spec.experiment.problem)

"""What a grid will take, before it is run."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from medleak.api import MedleakError
from medleak.components import build
from medleak.runs import RunSpec, build_model
from medleak.slots import Slots

if TYPE_CHECKING:
    from medleak.grid import Plan


def describe(plan: Plan) -> str:
    """Cells, what is stored, what is not applicable and why, and the estimated time."""
    import os

    wanted, missing = plan.wanted(), plan.missing_runs()
    needed = {s.key for c in plan.cells if c.key not in plan.refused for s in c.specs}
    stored = len(plan.cells) - len(plan.refused) - len(wanted)
    lines = [
        f"grid {plan.name}: {len(plan.cells)} cells",
        f"  stored already     {stored}",
        f"  not applicable     {len(plan.refused)}",
    ]
    why = Counter(reason for reasons in plan.refused.values() for reason in reasons)
    lines += [f"    {count:4d} x {reason}" for reason, count in why.most_common()]
    lines.append(f"  to measure         {len(wanted)}")
    lines.append(f"  training runs      {len(needed)}, of which {len(missing)} are to be trained")
    seconds, guessed = estimate_seconds(plan)
    jobs = len(os.sched_getaffinity(0))
    how = "a short trial of each kind of run" if guessed else "runs in the store"
    lines.append(
        f"  estimated time     {duration(seconds / jobs)} on {jobs} processes "
        f"({duration(seconds)} of one; from {how}; attacks not counted)"
    )
    return "\n".join(lines)


def estimate_seconds(plan: Plan) -> tuple[float, bool]:
    """Seconds of training that are missing, and whether any kind of run had to be tried out."""
    missing = list(plan.missing_runs().values())
    kinds = {spec.cost_class: spec for spec in missing}
    cost, guessed = {}, False
    for name, spec in kinds.items():
        known = plan.store.get("costs", name)
        if known is None:
            cost[name], guessed = _try_out(spec, plan.device), True
        else:
            cost[name] = float(known.facts["seconds"])
    return sum(cost[spec.cost_class] for spec in missing), guessed


def _try_out(spec: RunSpec, device: str) -> float:
    """Seconds of a run, from one epoch of it on one thread."""
    import torch

    world = spec.world
    recipe = dict(spec.target["recipe"])
    epochs = recipe.get("epochs", build(recipe).__dict__.get("epochs", 1))
    trainer = Slots(spec.slots).trainer(build(recipe | {"epochs": 1}), world.setting)
    records = world.pool(spec.pool).take(world.member(spec.pool, spec.column))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        model = build_model(spec.target, world, 0)
        trainer.fit(
            model,
            records,
            setting=world.setting,
            seed=0,
            validation=world.validation,
            device=device,
        )
        return (time.perf_counter() - start) * epochs
    except MedleakError:
        return 0.0
    finally:
        torch.set_num_threads(threads)


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

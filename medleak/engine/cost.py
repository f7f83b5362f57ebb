"""What a grid will take, before it is run."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import replace
from typing import Any

from medleak.api import MedleakError
from medleak.config.instantiate import build
from medleak.core.formatting import count
from medleak.training.pipeline import stage_blocks
from medleak.training.run_spec import RunSpec, build_model, make_trainer
from medleak.training.train import cost_key


def describe(plan: Any) -> str:
    """Cells, what is stored, what is not applicable and why, and the estimated time."""
    from medleak.core.devices import pick_device
    from medleak.engine.executors import LocalExecutor

    wanted, missing = plan.wanted(), plan.missing_runs()
    aside = plan.refused.keys() | plan.left_out.keys()
    needed = {s.key for c in plan.cells if c.key not in aside for s in c.specs}
    stored = len(plan.cells) - len(aside) - len(wanted)
    lines = [
        f"grid {plan.name}: {count(len(plan.cells), 'cell')}",
        f"  stored already     {stored}",
        f"  not applicable     {len(plan.refused)}",
    ]
    why = Counter(reason for reasons in plan.refused.values() for reason in reasons)
    lines += [f"    {n:4d} x {reason}" for reason, n in why.most_common()]
    if plan.left_out:
        lines.append(f"  listed, not run    {len(plan.left_out)}")
        lines += [f"    {n:4d} x {why}" for why, n in Counter(plan.left_out.values()).most_common()]
    lines.append(f"  to measure         {len(wanted)}")
    lines.append(f"  training runs      {len(needed)}, {len(missing)} of them to be trained")
    device, executor = pick_device(plan.device), LocalExecutor()
    executor.suit(tasks=max(1, len(missing)), device=device)
    training, how = estimate_seconds(plan, device)
    measuring, counted = measuring_seconds(plan, device)
    attacks = (
        "not counted" if not counted else f"counted in {counted} of {count(len(wanted), 'cell')}"
    )
    seconds, jobs = training + measuring, executor.slots
    lines.append(
        f"  estimated time     {duration(seconds / jobs)} on {count(jobs, 'process')} "
        f"({duration(seconds)} of one; {how}; attacks {attacks})"
    )
    return "\n".join(lines)


LENGTHS = ("epochs", "rounds")
"""Arguments of a filling that its time is proportional to."""


TRIALS = 20.0
"""Seconds after which no further kind of run is tried out."""


def estimate_seconds(plan: Any, device: str) -> tuple[float, str]:
    """Seconds of training that are missing, and where they are known from.

    A kind of run that the store knows nothing of is tried out; those that there was no time for count
    as much as the mean of the others.
    """
    missing = list(plan.missing_runs().values())
    kinds = {spec.cost_class: spec for spec in missing}
    known = {
        n: plan.store.get("costs", cost_key(spec.cost_class, device)) for n, spec in kinds.items()
    }
    cost = {n: float(entry.facts["seconds"]) for n, entry in known.items() if entry is not None}
    strange = [n for n in kinds if n not in cost]
    if not strange:
        return sum(cost[spec.cost_class] for spec in missing), "from runs in the store"
    random.Random(0).shuffle(strange)  # neighbours are alike
    start, tried = time.monotonic(), 0
    while tried < len(strange) and (not tried or time.monotonic() - start < TRIALS):
        cost[strange[tried]] = _try_out(kinds[strange[tried]], device)
        tried += 1
    usual = sum(cost.values()) / len(cost)
    many = len(strange) > tried
    how = f"{tried} of {len(strange)} kinds" if many else "each kind"
    seconds = sum(cost.get(spec.cost_class, usual) for spec in missing)
    return seconds, f"from a short trial of {how} of run"


def measuring_seconds(plan: Any, device: str) -> tuple[float, int]:
    """Seconds of attacking and measuring that are missing, as far as the store knows cells like them, and
    how many cells that are."""
    found = []
    for cell in plan.wanted():
        entries = [plan.store.get("costs", cost_key(n, device)) for n in cell.cost_classes]
        found += [float(entry.facts["seconds"]) for entry in entries if entry is not None][:1]
    return sum(found), len(found)


def _try_out(spec: RunSpec, device: str) -> float:
    """Seconds of a run, from the second of two short ones of one epoch on one thread."""
    import torch

    short, epochs = _one_epoch(spec)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _fit(short, device)  # imports and calibration are paid once per process, not per run
        return _fit(short, device) * epochs
    except MedleakError:
        return 0.0
    finally:
        torch.set_num_threads(threads)


def _one_epoch(spec: RunSpec) -> tuple[RunSpec, int]:
    """The same run with one epoch, and how many it has: a filling's own epochs win over the recipe's."""
    recipe, slots = dict(spec.target["recipe"]), dict(spec.slots)
    built, epochs = build(recipe), 1
    if "epochs" in built.arguments():
        epochs, recipe["epochs"] = built.epochs, 1
    stages = stage_blocks(slots.get("train"))
    for i, block in enumerate(stages):
        for unit in LENGTHS:
            if block.get(unit):
                epochs, stages[i] = block[unit], {**block, unit: 1}
    slots["train"] = stages
    target = {**spec.target, "recipe": recipe}
    return replace(spec, target=target, slots=slots), epochs


def _fit(spec: RunSpec, device: str) -> float:
    experiment = spec.experiment
    records = spec.records.take(spec.member)
    model, trainer = build_model(spec.target, experiment, 0), make_trainer(spec)
    start = time.perf_counter()
    trainer.fit(
        model,
        records,
        problem=experiment.problem,
        seed=0,
        validation=experiment.validation,
        device=device,
    )
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

"""From stored runs to the rows of a cell: ask, then score."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from medleak.api import Metric, NotApplicable
from medleak.api.goal import Answered, AttackOutputs, Sample
from medleak.config.instantiate import build
from medleak.core.store import Store
from medleak.engine.answers import answer
from medleak.engine.cell import Cell
from medleak.engine.figures import figures
from medleak.engine.validity import shared_parts
from medleak.release.stored_runs import StoredRuns
from medleak.results.row import Row
from medleak.training.train import cost_key, remember_cost


def measure(cell: Cell, store: Store, *, device: str = "cpu") -> float:
    """Ask what is not answered yet, score the answers, and store the rows of a cell whose runs are stored.

    Returns:
        Seconds that the attacks took, now or when they were asked.
    """
    start, runs = time.perf_counter(), StoredRuns(store, cell.pipeline, device)
    try:
        outputs, keys = ask(cell, runs)
        samples = cell.goal.samples(cell, outputs, runs)
    except NotApplicable as refusal:  # what only the trained model can tell
        _save(cell, store, [cell.row("not_applicable", "; ".join(refusal.reasons))])
        return 0.0
    answered = [one.output for one in outputs.targets]
    shared = shared_parts(cell, store, answered, device)
    _save(cell, store, score(cell, samples, shared, keys))
    for name in cell.cost_classes:
        remember_cost(store, cost_key(name, device), time.perf_counter() - start)
    return sum(output.seconds for output in answered)


def ask(cell: Cell, runs: StoredRuns) -> tuple[AttackOutputs, dict[str, Any]]:
    """The answers about every target and control of a cell, and the keys that they are stored under."""
    targets, keys = [], []
    for shadowed in cell.shadowed_targets:
        question = cell.goal.question(cell, shadowed, runs)
        output, key = answer(cell, shadowed, question, runs)
        targets.append(Answered(shadowed, question, output))
        keys.append(key)
    controls, control_keys = {}, {}
    for name, shadowed in cell.goal.controls(cell).items():
        controls[name], control_keys[name] = answer(cell, shadowed, targets[0].question, runs)
    outputs = AttackOutputs(targets, cell.binding_guarantees, controls)
    return outputs, {"answers": keys, "control_answers": control_keys}


def score(
    cell: Cell, samples: Sequence[Sample], shared: dict[str, Any], keys: dict[str, Any]
) -> list[Row]:
    """The rows of a cell, from what its goal made of the answers."""
    metrics = {name: build(block, of=Metric) for name, block in cell.metrics.items()}
    rows = []
    for sample in samples:
        parts = {**shared, "controls": {**shared["controls"], **sample.controls}}
        if sample.invalid:
            parts |= {"status": "invalid", "reason": sample.invalid}
        found = figures(metrics, sample)
        rows.append(cell.row(**parts, **found, records=sample.records, unit=sample.unit))
    return [replace(row, provenance={**row.provenance, **keys}) for row in rows]


def _save(cell: Cell, store: Store, rows: Sequence[Row]) -> None:
    store.save("cells", cell.key, {"rows": [row.to_json() for row in rows]})

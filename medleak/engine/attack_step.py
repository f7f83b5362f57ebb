"""From stored runs to rows: the attack, the metrics and the controls of one cell."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from medleak.api import Knowledge, NotApplicable, Output
from medleak.api.knowledge import Make
from medleak.config.instantiate import build
from medleak.core.keys import MEASURE_VERSION, array_digest, digest, rng_for
from medleak.core.store import Store
from medleak.data.experiment import ExperimentData
from medleak.engine.cell import Cell, ShadowedTarget
from medleak.engine.validity import shared_parts
from medleak.goals.base import AttackOutputs
from medleak.release.build import release_of
from medleak.release.pool import Pool
from medleak.training.run_spec import with_weights
from medleak.training.train import cost_key, remember_cost


def measure(cell: Cell, store: Store, *, device: str = "cpu") -> float:
    """Attack, measure and store the rows of a cell whose runs are stored.

    Returns:
        Seconds that the attacks took.
    """
    start = time.perf_counter()
    try:
        outputs = [attacked(cell, shadowed, store, device) for shadowed in cell.shadowed_targets]
        controls = {
            name: attacked(cell, shadowed, store, device)
            for name, shadowed in cell.game.controls(cell).items()
        }
    except NotApplicable as refusal:  # what only the trained model can tell
        rows = [cell.row("not_applicable", "; ".join(refusal.reasons))]
        store.save("cells", cell.key, {"rows": [row.to_json() for row in rows]})
        return 0.0
    shared = shared_parts(cell, store, outputs, device)
    rows = cell.game.rows(cell, store, AttackOutputs(outputs, shared, controls, device))
    store.save("cells", cell.key, {"rows": [row.to_json() for row in rows]})
    for name in cell.cost_classes:
        remember_cost(store, cost_key(name, device), time.perf_counter() - start)
    return sum(output.seconds for output in outputs)


def attacked(cell: Cell, shadowed: ShadowedTarget, store: Store, device: str) -> Output:
    """What the attack says of one target."""
    experiment = shadowed.target.experiment
    access = cell.attack.requires.access
    pool = Pool(shadowed.shadows, cell.slots, store, access, device)
    knowledge = Knowledge(
        problem=experiment.problem,
        auxiliary=experiment.auxiliary,
        shadows=pool if shadowed.shadows else None,
        pool=cell.knowledge["pool"],
        # Neither the metrics asked for nor the other targets change what an attack draws.
        rng=rng_for("attack", shadowed.target.key, cell.mounted, cell.knowledge),
        budget=cell.knowledge["budget"],
        reference=pool.open(shadowed.reference) if shadowed.reference else None,
        network=_network(cell),
        keep=partial(_kept, store, experiment),
    )
    release = release_of(shadowed.target, cell.slots, store, device=device)
    attack = build(cell.config["attack"])  # nothing that was learnt on one target serves another
    asked = cell.game.asked(cell, shadowed, store)
    return attack.execute(release.granting(access), asked, knowledge)


def _network(cell: Cell) -> Any:
    spec = cell.target_spec
    known = "architecture" in cell.attack.requires.knowledge
    return partial(with_weights, spec.target, spec.experiment) if known else None


def _kept(
    store: Store, experiment: ExperimentData, name: Any, make: Make
) -> Mapping[str, np.ndarray]:
    """See `Knowledge.keep`."""
    auxiliary = [experiment.content(experiment.auxiliary.x), array_digest(experiment.auxiliary.y)]
    key = digest([MEASURE_VERSION, auxiliary, name])
    stored = store.get("kept", key)
    if stored is not None:
        return stored.arrays
    arrays = make(rng_for("kept", key))
    store.save("kept", key, {}, dict(arrays))
    return arrays

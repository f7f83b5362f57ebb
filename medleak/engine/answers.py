"""What an attack answers about a run: computed once and stored, whatever is measured on it later.

An answer is kept under the runs, the release, the attack, its knowledge and the question, not under any
metric: a metric, a subgroup column or an interval that is added or edited attacks nothing again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from medleak.api import Attack, Knowledge, MedleakError, Output, Records
from medleak.api.goal import Question
from medleak.api.knowledge import Make
from medleak.config.instantiate import build, identities
from medleak.core.files import contents
from medleak.core.keys import (
    BENCH_VERSION,
    MEASURE_VERSION,
    array_digest,
    digest,
    lasting_digest,
    rng_for,
)
from medleak.core.store import Artefact, Store
from medleak.data.experiment import ExperimentData
from medleak.engine.cell import Cell
from medleak.release.pool import Pool
from medleak.release.shadowed_target import ShadowedTarget
from medleak.release.stored_runs import StoredRuns
from medleak.results.row import Row
from medleak.training.run_spec import with_weights

KIND = "answers"
ANSWERS = ("scores", "reconstructions", "prior_samples")
BASELINE, NOTE = "baseline/", "note/"


def answer(
    cell: Cell, shadowed: ShadowedTarget, question: Question, runs: StoredRuns
) -> tuple[Output, str]:
    """What the attack says about one target, from the store or asked now; and the key of the answer."""
    store, key = runs.store, answer_key(cell, shadowed, question)
    stored = store.get(KIND, key)
    if stored is not None:
        return _read(stored), key
    output = _attack(cell, shadowed, question, runs)
    facts = {
        "attack": cell.config["attack"]["name"],
        "goal": cell.attack.requires.goal,
        "seconds": output.seconds,
        "queries": output.queries,
        **question.facts,
    }
    store.save(KIND, key, facts, _arrays(output, question))
    return output, key


def stored_answers(store: Store, row: Row) -> list[Artefact]:
    """The answers that a row was measured on, one for each target.

    Raises:
        MedleakError: they are no longer in the store.
    """
    found = [store.get(KIND, key) for key in row.provenance.get("answers", ())]
    if not found or None in found:
        raise MedleakError("its answers are no longer in the store")
    return found


def stored_controls(store: Store, row: Row) -> dict[str, Artefact]:
    """Control -> the answer about it, as far as they are still in the store."""
    named = row.provenance.get("control_answers", {})
    found = {name: store.get(KIND, key) for name, key in named.items()}
    return {name: one for name, one in found.items() if one is not None}


def answer_key(cell: Cell, shadowed: ShadowedTarget, question: Question) -> str:
    """SHA-256 over runs, release, attack, knowledge and question; no metric."""
    return digest(
        {
            "runs": [run.key for run in shadowed.specs],
            "auxiliary": _content(cell.experiment.auxiliary),
            "blocks": cell.mounted,
            "versions": identities(cell.mounted),
            "files": contents(cell.mounted),
            "knowledge": cell.knowledge,
            "question": _content(question.challenge),
            "bench": [BENCH_VERSION, MEASURE_VERSION],
        }
    )


def _content(value: Any) -> Any:
    """What a challenge says, for a key: arrays by digest, records without their subgroup columns."""
    if isinstance(value, np.ndarray):
        plain = value.astype(str) if value.dtype == object else value
        return array_digest(plain)
    if isinstance(value, Records):
        return [array_digest(value.x, value.y, value.patients)]
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: _content(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(name): _content(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_content(one) for one in value]
    return value


def _arrays(output: Output, question: Question) -> dict[str, np.ndarray]:
    """As they are, in their own precision: scored again, they give the same figures."""
    given = {name: getattr(output, name) for name in ANSWERS}
    found = {name: np.asarray(array) for name, array in given.items() if array is not None}
    found |= {BASELINE + name: x.astype(np.float32) for name, x in question.baselines.items()}
    return found | {NOTE + name: array for name, array in question.notes.items()}


def _read(stored: Artefact) -> Output:
    arrays, facts = stored.arrays, stored.facts
    return Output(
        **{name: arrays.get(name) for name in ANSWERS},
        seconds=facts["seconds"],
        queries=facts["queries"],
    )


def _attack(cell: Cell, shadowed: ShadowedTarget, question: Question, runs: StoredRuns) -> Output:
    experiment = shadowed.target.experiment
    access = cell.attack.requires.access
    pool = Pool(shadowed.shadows, cell.pipeline, runs.store, access, runs.device)
    knowledge = Knowledge(
        problem=experiment.problem,
        auxiliary=experiment.auxiliary,
        shadows=pool if shadowed.shadows else None,
        pool=cell.knowledge["pool"],
        # Neither the metrics asked for nor the other targets change what an attack draws.
        rng=rng_for("attack", shadowed.target.lineage, cell.mounted, cell.knowledge),
        budget=cell.knowledge["budget"],
        reference=pool.open(shadowed.reference) if shadowed.reference else None,
        network=_network(cell),
        keep=partial(_kept, runs.store, experiment),
    )
    attack = build(
        cell.config["attack"], of=Attack
    )  # nothing that was learnt on one target serves another
    release = runs.release(shadowed.target).granting(access)
    return attack.execute(release, question.challenge, knowledge)


def _network(cell: Cell) -> Any:
    spec = cell.target_spec
    known = "architecture" in cell.attack.requires.knowledge
    return partial(with_weights, spec.target, spec.experiment) if known else None


def _kept(store: Store, experiment: ExperimentData, name: Any, make: Make) -> Mapping[str, Any]:
    """See `Knowledge.keep`."""
    auxiliary = [experiment.content(experiment.auxiliary.x), array_digest(experiment.auxiliary.y)]
    parts = [MEASURE_VERSION, auxiliary, name]
    key = digest(parts)
    stored = store.get("kept", key)
    if stored is not None:
        return stored.arrays
    arrays = make(rng_for("kept", lasting_digest(parts)))
    store.save("kept", key, {}, dict(arrays))
    return arrays

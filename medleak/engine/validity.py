"""What all rows of a cell have in common: utility, guarantees, cost, and the controls that may void them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from medleak.api import ArtefactKind, Defense, Estimate, MedleakError, Output, task_of
from medleak.config.instantiate import identities
from medleak.core.keys import BENCH_VERSION, MEASURE_VERSION, digest
from medleak.core.store import Store
from medleak.engine.cell import Cell
from medleak.engine.usefulness import plugin_metrics, useful
from medleak.metrics.statistics.means import mean_block, mean_estimate, mean_nested
from medleak.release.build import release_of
from medleak.release.replicas import replica_check
from medleak.release.shadowed_target import ShadowedTarget
from medleak.release.stored_run import StoredRun
from medleak.training.pipeline import DefensePipeline, training_blocks
from medleak.training.run_spec import RunSpec
from medleak.training.stored_model import facts_of

CONTROL_LEVEL = 0.998
"""Two-sided, so that a control fails by chance once in a thousand cells."""
PROOF = 100
"""Encrypted queries that stand behind a plaintext surrogate."""
SURROGATE_ERROR = 1e-2
"""Largest difference of a logit between a surrogate and its original."""
PER_QUERY = ("seconds", "plain_seconds", "overhead", "bytes_in", "bytes_out")
MOST_BLIND = 40
"""Targets for which members and non-members are compared without any model: coins are coins."""


def shared_parts(
    cell: Cell, store: Store, outputs: Sequence[Output], device: str
) -> dict[str, Any]:
    """What all rows of the cell have in common: utility, guarantees, controls, cost."""
    shadows = cell.shadow_specs
    guarantees = [asdict(promise) for promise in cell.guarantees]
    utilities = [
        _utility(cell, shadowed.target, store, device) for shadowed in cell.shadowed_targets
    ]
    drawn = cell.shadowed_targets[:MOST_BLIND] if cell.goal.model_free_control else []
    blinds = [_blind(cell, shadowed.target, store) for shadowed in drawn]
    blind = mean_estimate([found["blind_auc"] for found in blinds]) if blinds else None
    checked = [
        _replica(cell, shadowed, store, device)
        for shadowed in cell.checked_targets
        if shadowed.shadows
    ]
    notes = [reason for check in checked for reason in check["reasons"]]
    reasons = "; ".join(notes)
    if collapsed := sum(check["collapsed"] for check in checked):
        notes.append(f"{collapsed} of {len(shadows) * len(checked)} shadows answer one class only")
    reason = f"control failed: replica check: {reasons}" if reasons else ""
    if any((found["blind_auc"].low or 0.0) > 0.5 for found in blinds):
        reason = "control failed: members and non-members differ before any training (blind AUC)"
    excluded = facts_of(cell.target_spec, store).get("excluded", {})
    notes += [f"{line} ({times} times)" for line, times in excluded.items()]
    proof = _surrogate_check(cell, store, device)
    if not proof.get("error", 0.0) <= SURROGATE_ERROR:
        reason = f"control failed: the plaintext surrogate is off by {proof['error']:.2g} from the ciphertexts"
    if "missing" in proof:
        reason = f"control failed: the plaintext surrogate was not proven: {proof['missing']}"
    return {
        "status": "invalid" if reason else "ok",
        "reason": reason,
        "utility": mean_block([found["overall"] for found in utilities]),
        "utility_groups": mean_nested([found["groups"] for found in utilities]),
        "guarantees": tuple(guarantees),
        "controls": {
            **({"blind_auc": blind} if blind else {}),
            "replica": {"ok": not reasons, "notes": notes},
            **_tampering(facts_of(cell.target_spec, store)),
            **({"twin": proof} if proof else {}),
            **({"excluded": excluded} if excluded else {}),
        },
        "plaintext_surrogate": release_of(
            cell.target_spec, cell.pipeline, store, device=device
        ).plaintext_surrogate,
        "cost": {
            "train_seconds": facts_of(cell.target_spec, store)["seconds"],
            "shadow_seconds": sum(facts_of(spec, store)["seconds"] for spec in shadows),
            "attack_seconds": sum(output.seconds for output in outputs),
            "queries": sum(output.queries for output in outputs),
            **facts_of(cell.target_spec, store).get("traffic", {}),
            **{f"query_{name}": proof[name] for name in PER_QUERY if name in proof},
        },
    }


def _surrogate_check(cell: Cell, store: Store, device: str) -> dict[str, Any]:
    """Real ciphertext queries next to the plaintext surrogate; empty where the release has none."""
    spec, slots = cell.target_spec, cell.config["defense"].get("slots") or {}
    encrypted = [
        stage
        for stage in cell.pipeline
        if type(stage).verify_surrogate is not Defense.verify_surrogate
    ]
    if not encrypted:
        return {}
    plain = release_of(spec, DefensePipeline(training_blocks(slots)), store, device=device)
    x, problem = spec.experiment.evaluation.x, spec.experiment.problem

    def found() -> dict[str, Any]:
        return vars(encrypted[0].verify_surrogate(plain, x, problem=problem, n=min(PROOF, len(x))))

    try:
        return _remembered(store, "controls", ["proof", spec.key, slots, identities(slots)], found)
    except MedleakError as error:
        return {"missing": str(error)}


def _tampering(facts: Mapping[str, Any]) -> dict[str, Any]:
    """How well clients could tell a tampered model from the honest one."""
    from medleak.metrics.tampering import detected

    noticed = facts.get("tampering")
    if not noticed:
        return {}
    kept = noticed["architecture_kept"]
    return {"tampering": {**detected(noticed), "architecture_kept": kept}}


def _remembered(store: Store, kind: str, name: Any, make: Any) -> dict[str, Any]:
    """`make()`, plain dictionaries of estimates, remembered in the store under `name`."""
    from medleak.results.row import revive

    key = digest([BENCH_VERSION, MEASURE_VERSION, name])
    stored = store.get(kind, key)
    if stored is None:
        store.save(kind, key, _plain(make()))
        stored = store.load(kind, key)
    return revive(dict(stored.facts))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return asdict(value) if isinstance(value, Estimate) else value


def _utility(cell: Cell, spec: RunSpec, store: Store, device: str) -> dict[str, Any]:
    slots = cell.config["defense"].get("slots") or {}
    name = [spec.key, spec.experiment.digest, slots, identities(slots), *plugin_metrics(spec)]

    def found() -> dict[str, Any]:
        return useful(release_of(spec, cell.pipeline, store, device=device), spec)

    return _remembered(store, "utility", name, found)


def _blind(cell: Cell, spec: RunSpec, store: Store) -> dict[str, Estimate]:
    from medleak.metrics.blind import blind_auc

    experiment, column = spec.experiment, spec.column
    # However many targets, one of them fails by chance once in a thousand cells.
    level = 1 - (1 - CONTROL_LEVEL) / min(len(cell.shadowed_targets), MOST_BLIND)

    def found() -> dict[str, Estimate]:
        member, task = experiment.secret(column).member, task_of(experiment.problem.task)
        found = blind_auc(experiment.challenge.records, member, column, task=task, level=level)
        return {"blind_auc": found}

    return _remembered(
        store, "controls", ["blind", experiment.digest, experiment.split_seed, column, level], found
    )


def _replica(cell: Cell, shadowed: ShadowedTarget, store: Store, device: str) -> dict[str, Any]:
    """The replica check of one target."""
    experiment, specs = shadowed.target.experiment, [shadowed.target, *shadowed.shadows]

    def found() -> dict[str, Any]:
        pool = cell.knowledge["pool"]
        reasons, collapsed = [], 0
        for kind in shadowed.target.kinds:
            facts = [_replica_facts(kind, StoredRun(spec, store, device)) for spec in specs]
            described = [one for one in facts if one is not None]
            if not described:
                continue
            reasons += replica_check(
                described[0],
                described[1:],
                n_target=2 * experiment.problem.n_patients,
                n_pool=len(np.unique(experiment.pool(pool).patients)),
                p=0.5 if pool == "audit" else experiment.shadow_share,
            )
            collapsed += int(sum(d["collapsed"] for d in described[1:]))
        return {"reasons": list(dict.fromkeys(reasons)), "collapsed": collapsed}

    name = ["replica", experiment.digest, *(spec.key for spec in specs)]
    return _remembered(store, "controls", name, found)


def _replica_facts(kind: ArtefactKind, run: StoredRun) -> dict[str, Any] | None:
    """What of one artefact of a run is compared; None: nothing."""
    records, facts = run.experiment.evaluation, {**run.facts, "collapsed": False}
    if not len(records):
        return {**facts, "scores": np.array([])}
    compared = kind.comparison(run, records.x, records.y)
    if compared is None:
        return None
    return {**facts, "size": compared.size, **compared.facts, "scores": compared.scores}

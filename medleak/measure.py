"""From stored runs to rows: the attack, the metrics and the controls of one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from medleak.api import (
    Challenge,
    Estimate,
    Guarantee,
    Knowledge,
    MedleakError,
    Output,
    Release,
    Scored,
    Secret,
)
from medleak.cells import Cell
from medleak.components import build, identities
from medleak.keys import BENCH_VERSION, digest, rng_for
from medleak.rows import Row
from medleak.runs import Network, RunSpec, log_probabilities, release_of, with_weights
from medleak.shadows import Pool, replica_check
from medleak.store import Corrupt, Store

CONTROL_LEVEL = 0.998
"""Two-sided, so that a control fails by chance once in a thousand cells."""
MOST_SCORES = 2000
"""About as many scores of a model are compared in the replica check."""


def measure(cell: Cell, store: Store, *, device: str = "cpu") -> float:
    """Attack, measure and store the rows of a cell whose runs are stored.

    Returns:
        Seconds that the attack took.
    """
    world = cell.target_spec.world
    access = cell.attack.requires.access
    release = release_of(cell.target_spec, cell.slots, store, device=device)
    pool = Pool(cell.shadow_specs, cell.slots, store, access, device)
    knowledge = Knowledge(
        setting=world.setting,
        auxiliary=world.auxiliary,
        shadows=pool if cell.shadow_specs else None,
        pool=cell.knowledge["pool"],
        rng=rng_for("attack", cell.key),
        budget=cell.knowledge["budget"],
        reference=pool.open(cell.reference_spec) if cell.reference_spec else None,
        network=_network(cell),
    )
    output = cell.attack.execute(release.granting(access), world.challenge, knowledge)
    shared = _shared(cell, store, output, release, device)
    rows = _membership_rows(
        cell, output, world.challenge, world.secret(cell.config["seed"]), shared
    )
    store.save("cells", cell.key, {"rows": [row.to_json() for row in rows]})
    return output.seconds


def _network(cell: Cell) -> Any:
    spec = cell.target_spec
    known = "architecture" in cell.attack.requires.knowledge
    return partial(with_weights, spec.target, spec.world) if known else None


def _shared(
    cell: Cell, store: Store, output: Output, release: Release, device: str
) -> dict[str, Any]:
    """What all rows of the cell have in common: utility, guarantees, controls, cost."""
    spec, world = cell.target_spec, cell.target_spec.world
    slots = cell.config["defense"].get("slots") or {}
    facts = [_facts(s, store) for s in [spec, *cell.shadow_specs]]
    recipe = build(cell.config["target"]["recipe"])
    guarantees = [asdict(g) for g in cell.slots.guarantees(recipe, world.setting)]
    utility = _remembered(
        store,
        "utility",
        [spec.key, world.digest, slots, identities(slots)],
        lambda: _utility(release, world),
    )
    blind = _remembered(store, "controls", ["blind", spec.key], lambda: _blind(cell))
    replica = {"reasons": (), "collapsed": 0}
    if cell.shadow_specs:
        name = ["replica", world.digest, *(s.key for s in [spec, *cell.shadow_specs])]
        replica = _remembered(store, "controls", name, lambda: _replica(cell, store, facts, device))
    notes = list(replica["reasons"])
    if replica["collapsed"]:
        notes.append(f"{replica['collapsed']} of {len(facts) - 1} shadows answer one class only")
    reasons = "; ".join(replica["reasons"])
    reason = f"control failed: replica check: {reasons}" if reasons else ""
    if blind["blind_auc"].low is not None and blind["blind_auc"].low > 0.5:
        reason = "control failed: members and non-members differ before any training (blind AUC)"
    return {
        "status": "invalid" if reason else "ok",
        "reason": reason,
        "utility": utility["overall"],
        "utility_groups": utility["groups"],
        "guarantees": tuple(guarantees),
        "controls": {**blind, "replica": {"ok": not reasons, "notes": notes}},
        "twin": release.twin,
        "cost": {
            "train_seconds": facts[0]["seconds"],
            "shadow_seconds": sum(f["seconds"] for f in facts[1:]),
            "attack_seconds": output.seconds,
            "queries": output.queries,
        },
    }


def _remembered(store: Store, kind: str, name: Any, make: Any) -> dict[str, Any]:
    """`make()`, plain dictionaries of estimates, remembered in the store under `name`."""
    from medleak.rows import revive

    key = digest([BENCH_VERSION, name])
    stored = store.get(kind, key)
    if stored is None:
        store.save(kind, key, _plain(make()))
        stored = store.load(kind, key)
    return revive(dict(stored.facts))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return asdict(value) if isinstance(value, Estimate) else value


def _utility(release: Release, world: Any) -> dict[str, Any]:
    from medleak.metrics.utility import utility, utility_by_group

    records = world.evaluation
    if not len(records):
        return {"overall": {}, "groups": {}}
    answers = {"labels": release.labels(records.x)}
    if "scores" in release.views:
        answers["scores"] = release.scores(records.x)
    answers |= {"patients": records.patients, "task": world.setting.task}
    return {
        "overall": utility(records.y, **answers),
        "groups": utility_by_group(records.y, groups=records.groups, **answers),
    }


def _blind(cell: Cell) -> dict[str, Estimate]:
    from medleak.metrics.blind import blind_auc

    world, seed = cell.target_spec.world, int(cell.config["seed"])
    member = world.secret(seed).member
    return {"blind_auc": blind_auc(world.challenge.records, member, seed, level=CONTROL_LEVEL)}


def _facts(spec: RunSpec, store: Store) -> Mapping[str, Any]:
    try:
        return store.facts("runs", spec.key)[0]
    except (KeyError, Corrupt) as error:
        store.get("runs", spec.key)  # sets a damaged run aside, so that it is made again
        raise MedleakError(f"run {spec.key[:12]}: {error}") from None


def _replica(
    cell: Cell, store: Store, facts: Sequence[Mapping[str, Any]], device: str
) -> dict[str, Any]:
    world = cell.target_spec.world
    described = [
        _replica_facts(spec, fact, store, device)
        for spec, fact in zip([cell.target_spec, *cell.shadow_specs], facts, strict=True)
    ]
    audit = cell.knowledge["pool"] == "audit"
    patients = len(np.unique(world.pool(cell.knowledge["pool"]).patients))
    p = 0.5 if audit else world.shadow_share
    reasons = replica_check(
        described[0], described[1:], n_target=2 * world.setting.n_patients, n_pool=patients, p=p
    )
    return {"reasons": reasons, "collapsed": int(sum(d["collapsed"] for d in described[1:]))}


def _replica_facts(
    spec: RunSpec, facts: Mapping[str, Any], store: Store, device: str
) -> dict[str, Any]:
    records = spec.world.evaluation
    if not len(records):
        return {**facts, "collapsed": False, "scores": np.array([])}
    multilabel = spec.world.setting.task == "multilabel"
    logits = Network(spec, store, device).logits(records.x)
    scores = log_probabilities(logits, multilabel=multilabel)
    labels = scores.argmax(-1)
    spread = np.ptp(scores, axis=-1).ravel()
    return {
        **facts,
        "accuracy": float((labels == records.y).mean()),
        "collapsed": len(np.unique(labels, axis=0)) == 1,
        "scores": spread[:: max(1, len(spread) // MOST_SCORES)],
    }


def _membership_rows(
    cell: Cell, output: Output, challenge: Challenge, secret: Secret, shared: Mapping[str, Any]
) -> list[Row]:
    """A row for each kind of challenge record, by patient and, where they differ, by record."""
    if output.scores is None:
        raise MedleakError(f"{cell.config['attack']['name']} returned no scores")
    setting = cell.target_spec.world.setting
    units = [setting.unit] if setting.max_records == 1 else ["patient", "record"]
    metrics = {name: build(block) for name, block in cell.metrics.items()}
    guarantees = [Guarantee(**g) for g in shared["guarantees"]]
    rows = []
    for kind in sorted(set(challenge.kind.tolist()), key=lambda k: (k != "natural", k)):
        chosen = challenge.kind == kind
        for unit in units:
            measured = _measure_unit(
                metrics,
                guarantees,
                output.scores[chosen],
                challenge.records.take(chosen),
                secret.member[chosen],
                unit,
            )
            rows.append(cell.row(**shared, **measured, records=kind, unit=unit))
    return rows


def _measure_unit(
    metrics: Mapping[str, Any],
    guarantees: Sequence[Guarantee],
    scores: np.ndarray,
    records: Any,
    member: np.ndarray,
    unit: str,
) -> dict[str, Any]:
    from medleak.metrics.ceilings import ceilings, violations
    from medleak.metrics.membership import by_group, evaluate, worst_group
    from medleak.metrics.roc import per_patient

    patients, groups = records.patients, records.groups
    counts = np.unique(patients, return_counts=True)[1]
    if unit == "patient":
        first = np.unique(patients, return_index=True)[1]
        groups = {name: column[first] for name, column in groups.items()}
        scores, patients, member = per_patient(scores, patients, member)
    scored, secret = Scored(scores, patients), Secret(member)
    measured = by_group(metrics, scored, secret, groups)
    roofs = ceilings(metrics, guarantees, unit=unit, max_records=int(counts.max(initial=1)))
    return {
        "leakage": evaluate(metrics, scored, secret),
        "groups": measured,
        "worst_group": worst_group(metrics, scored, secret, groups, measured=measured),
        "ceilings": roofs,
        "violations": tuple(violations(metrics, scored, secret, roofs)),
    }

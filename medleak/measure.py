"""From stored runs to rows: the attack, the metrics and the controls of one cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from medleak.api import (
    Defense,
    Estimate,
    Guarantee,
    Knowledge,
    MedleakError,
    NotApplicable,
    Output,
    Release,
)
from medleak.cells import Cell, Duel
from medleak.components import build, identities
from medleak.games import World
from medleak.informed import CANDIDATES, informed
from medleak.keys import BENCH_VERSION, MEASURE_VERSION, digest, rng_for
from medleak.metrics.means import mean_block, mean_estimate, mean_nested
from medleak.rebuilding import AGES, Riddle, measured, riddle
from medleak.rows import Row
from medleak.runs import Network, RunSpec, log_probabilities, release_of, with_weights
from medleak.scoring import Bouts, figures, most_exposed
from medleak.shadows import Pool, replica_check
from medleak.slots import Slots, training_blocks
from medleak.store import Corrupt, Store
from medleak.transcripts import Transcript

CONTROL_LEVEL = 0.998
"""Two-sided, so that a control fails by chance once in a thousand cells."""
PROOF = 100
"""Encrypted queries that stand behind a plain twin."""
TWIN_ERROR = 1e-2
"""Largest difference of a logit between a twin and its original."""
PER_QUERY = ("seconds", "plain_seconds", "overhead", "bytes_in", "bytes_out")
MOST_BLIND = 40
"""Targets for which members and non-members are compared without any model: coins are coins."""
MOST_SCORES = 2000
"""About as many scores of a model are compared in the replica check."""


def measure(cell: Cell, store: Store, *, device: str = "cpu") -> float:
    """Attack, measure and store the rows of a cell whose runs are stored.

    Returns:
        Seconds that the attacks took.
    """
    try:
        outputs = [attacked(cell, duel, store, device) for duel in cell.duels]
    except NotApplicable as refusal:  # what only the trained model can tell
        rows = [cell.row("not_applicable", "; ".join(refusal.reasons))]
        store.save("cells", cell.key, {"rows": [row.to_json() for row in rows]})
        return 0.0
    game = GAMES[cell.attack.requires.goal]
    rows = game(cell, store, outputs, _shared(cell, store, outputs, device))
    store.save("cells", cell.key, {"rows": [row.to_json() for row in rows]})
    return sum(output.seconds for output in outputs)


def _membership(
    cell: Cell, store: Store, outputs: Sequence[Output], shared: Mapping[str, Any]
) -> list[Row]:
    if any(output.scores is None for output in outputs):
        raise MedleakError(f"{cell.config['attack']['name']} returned no scores")
    world, challenge = cell.target_spec.world, cell.target_spec.challenge
    bouts = Bouts(
        np.stack([output.scores for output in outputs]),
        np.stack([world.secret(duel.target.column).member for duel in cell.duels]),
        challenge.records,
        independent=not cell.shadow_specs or cell.knowledge["pool"] == "auxiliary",
    )
    if len(cell.duels) > 1:
        facts = {"cell": cell.key, "attack": cell.config["attack"]["name"]}
        store.save("scores", cell.key, facts, {"scores": bouts.scores, "member": bouts.member})
    return _membership_rows(cell, bouts, challenge.kind, shared)


def _reconstruction(
    cell: Cell, store: Store, outputs: Sequence[Output], shared: Mapping[str, Any]
) -> list[Row]:
    """A row for each age of the attacked model."""
    (duel,), (output,) = cell.duels, outputs
    world = duel.target.world
    asked = _riddle(cell, duel, store)
    metrics = {name: build(block) for name, block in cell.metrics.items()}
    guarantees = _binding(cell, shared["guarantees"])
    rows = []
    for age in [age for age in AGES if (asked.age == age).any()]:
        rebuilt, truth = asked.part(output.reconstructions, age, world)
        labels = asked.puzzle.labels
        mine = None if labels is None else [labels[i] for i in np.flatnonzero(asked.age == age)]
        found = measured(
            metrics,
            guarantees,
            rebuilt,
            truth,
            world=world,
            n_members=_facts(duel.target, store)["n_members"],
            labels=mine,
            candidates=asked.named(age, world),
        )
        rows.append(cell.row(**shared, **found, records=age, unit=world.setting.unit))
    arrays = {"images": output.reconstructions.astype(np.float32), "positions": asked.positions}
    store.save("rebuilt", cell.key, {"ages": asked.age.tolist()}, arrays)
    return rows


def _riddle(cell: Cell, duel: Duel, store: Store) -> Riddle:
    labels = "labels" in cell.attack.requires.knowledge
    transcript = Transcript(store, duel.target.key)
    world, n_trials = duel.target.world, cell.knowledge["n_trials"]
    asked = riddle(transcript, world, n_trials=n_trials, labels=labels)
    if "all_but_one" not in cell.attack.requires.knowledge:
        return asked
    return informed(
        asked,
        transcript,
        world,
        member=world.secret(duel.target.column).member,
        n_candidates=cell.knowledge.get("n_candidates", CANDIDATES),
        clip=_facts(duel.target, store).get("clip"),
        rng=rng_for("informed", duel.target.key),
    )


GAMES = {"membership": _membership, "reconstruction": _reconstruction}
"""Goal -> what is made of an attack's outputs."""


def attacked(cell: Cell, duel: Duel, store: Store, device: str) -> Output:
    """What the attack says of one target."""
    world = duel.target.world
    access = cell.attack.requires.access
    pool = Pool(duel.shadows, cell.slots, store, access, device)
    knowledge = Knowledge(
        setting=world.setting,
        auxiliary=world.auxiliary,
        shadows=pool if duel.shadows else None,
        pool=cell.knowledge["pool"],
        # Neither the metrics asked for nor the other targets change what an attack draws.
        rng=rng_for("attack", duel.target.key, cell.mounted, cell.knowledge),
        budget=cell.knowledge["budget"],
        reference=pool.open(duel.reference) if duel.reference else None,
        network=_network(cell),
    )
    release = release_of(duel.target, cell.slots, store, device=device)
    attack = build(cell.config["attack"])  # nothing that was learnt on one target serves another
    membership = attack.requires.goal == "membership"
    asked = duel.target.challenge if membership else _riddle(cell, duel, store).puzzle
    return attack.execute(release.granting(access), asked, knowledge)


def _network(cell: Cell) -> Any:
    spec = cell.target_spec
    known = "architecture" in cell.attack.requires.knowledge
    return partial(with_weights, spec.target, spec.world) if known else None


def _shared(cell: Cell, store: Store, outputs: Sequence[Output], device: str) -> dict[str, Any]:
    """What all rows of the cell have in common: utility, guarantees, controls, cost."""
    world, shadows = cell.target_spec.world, cell.shadow_specs
    recipe = build(cell.config["target"]["recipe"])
    guarantees = [asdict(g) for g in cell.slots.guarantees(recipe, world.setting)]
    utilities = [_utility(cell, duel.target, store, device) for duel in cell.duels]
    blinds = [_blind(cell, duel.target, store) for duel in cell.duels[:MOST_BLIND]]
    blind = mean_estimate([found["blind_auc"] for found in blinds])
    replica = _replica(cell, store, device) if shadows else {"reasons": (), "collapsed": 0}
    notes = list(replica["reasons"])
    if replica["collapsed"]:
        notes.append(f"{replica['collapsed']} of {len(shadows)} shadows answer one class only")
    reasons = "; ".join(replica["reasons"])
    reason = f"control failed: replica check: {reasons}" if reasons else ""
    if any((found["blind_auc"].low or 0.0) > 0.5 for found in blinds):
        reason = "control failed: members and non-members differ before any training (blind AUC)"
    excluded = _facts(cell.target_spec, store).get("excluded", {})
    notes += [f"{line} ({times} times)" for line, times in excluded.items()]
    proof = _proof(cell, store, device)
    if not proof.get("error", 0.0) <= TWIN_ERROR:
        reason = (
            f"control failed: the plain twin is off by {proof['error']:.2g} from the ciphertexts"
        )
    if "missing" in proof:
        reason = f"control failed: the plain twin was not proven: {proof['missing']}"
    return {
        "status": "invalid" if reason else "ok",
        "reason": reason,
        "utility": mean_block([found["overall"] for found in utilities]),
        "utility_groups": mean_nested([found["groups"] for found in utilities]),
        "guarantees": tuple(guarantees),
        "controls": {
            "blind_auc": blind,
            "replica": {"ok": not reasons, "notes": notes},
            **_tampering(_facts(cell.target_spec, store)),
            **({"twin": proof} if proof else {}),
            **({"excluded": excluded} if excluded else {}),
        },
        "twin": release_of(cell.target_spec, cell.slots, store, device=device).twin,
        "cost": {
            "train_seconds": _facts(cell.target_spec, store)["seconds"],
            "shadow_seconds": sum(_facts(spec, store)["seconds"] for spec in shadows),
            "attack_seconds": sum(output.seconds for output in outputs),
            "queries": sum(output.queries for output in outputs),
            **_facts(cell.target_spec, store).get("traffic", {}),
            **{f"query_{name}": proof[name] for name in PER_QUERY if name in proof},
        },
    }


def _proof(cell: Cell, store: Store, device: str) -> dict[str, Any]:
    """Real ciphertext queries beside the plain twin; empty where the release has none."""
    spec, slots = cell.target_spec, cell.config["defense"].get("slots") or {}
    encrypted = [filling for filling in cell.slots if type(filling).prove is not Defense.prove]
    if not encrypted:
        return {}
    plain = release_of(spec, Slots(training_blocks(slots)), store, device=device)
    x, setting = spec.world.evaluation.x, spec.world.setting

    def found() -> dict[str, Any]:
        return vars(encrypted[0].prove(plain, x, setting=setting, n=min(PROOF, len(x))))

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
    from medleak.rows import revive

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
    name = [spec.key, spec.world.digest, slots, identities(slots)]

    def found() -> dict[str, Any]:
        return _useful(release_of(spec, cell.slots, store, device=device), spec.world)

    return _remembered(store, "utility", name, found)


def _useful(release: Release, world: World) -> dict[str, Any]:
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


def _blind(cell: Cell, spec: RunSpec, store: Store) -> dict[str, Estimate]:
    from medleak.metrics.blind import blind_auc

    world, column = spec.world, spec.column
    # However many targets, one of them fails by chance once in a thousand cells.
    level = 1 - (1 - CONTROL_LEVEL) / min(len(cell.duels), MOST_BLIND)

    def found() -> dict[str, Estimate]:
        member = world.secret(column).member
        return {"blind_auc": blind_auc(world.challenge.records, member, column, level=level)}

    return _remembered(
        store, "controls", ["blind", world.digest, world.split_seed, column, level], found
    )


def _facts(spec: RunSpec, store: Store) -> Mapping[str, Any]:
    try:
        return store.facts("runs", spec.key)[0]
    except (KeyError, Corrupt) as error:
        store.get("runs", spec.key)  # sets a damaged run aside, so that it is made again
        raise MedleakError(f"run {spec.key[:12]}: {error}") from None


def _replica(cell: Cell, store: Store, device: str) -> dict[str, Any]:
    """The replica check of the first target: further ones are its shadows, and it theirs."""
    world, specs = cell.target_spec.world, [cell.target_spec, *cell.shadow_specs]

    def found() -> dict[str, Any]:
        described = [_replica_facts(spec, _facts(spec, store), store, device) for spec in specs]
        pool = cell.knowledge["pool"]
        reasons = replica_check(
            described[0],
            described[1:],
            n_target=2 * world.setting.n_patients,
            n_pool=len(np.unique(world.pool(pool).patients)),
            p=0.5 if pool == "audit" else world.shadow_share,
        )
        return {"reasons": reasons, "collapsed": int(sum(d["collapsed"] for d in described[1:]))}

    name = ["replica", world.digest, *(spec.key for spec in specs)]
    return _remembered(store, "controls", name, found)


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


def _binding(cell: Cell, guarantees: Sequence[Mapping[str, Any]]) -> list[Guarantee]:
    """The promises that bind this adversary."""
    promised = [Guarantee(**block) for block in guarantees]
    return [one for one in promised if cell.attack.requires.adversary in one.adversaries]


def _membership_rows(
    cell: Cell, bouts: Bouts, kinds: np.ndarray, shared: Mapping[str, Any]
) -> list[Row]:
    """A row for each kind of challenge record, by patient and, where they differ, by record."""
    setting = cell.target_spec.world.setting
    units = [setting.unit] if setting.max_records == 1 else ["patient", "record"]
    metrics = {name: build(block) for name, block in cell.metrics.items()}
    guarantees = _binding(cell, shared["guarantees"])
    rows = []
    asked = set(kinds.tolist()) & set(cell.attack.kinds or kinds.tolist())
    if not asked:
        wanted = ", ".join(cell.attack.kinds)
        return [cell.row("not_applicable", f"no challenge record is of a kind asked for: {wanted}")]
    for kind in sorted(asked, key=lambda k: (k != "natural", k)):
        chosen = bouts.take(np.flatnonzero(kinds == kind))
        for unit in units:
            measured = figures(metrics, guarantees, [chosen], unit)
            rows.append(cell.row(**shared, **measured, records=kind, unit=unit))
        if cell.exposed:
            parts = most_exposed(chosen, cell.halves, cell.exposed)
            # What needs whole runs cannot be measured on patients who differ from half to half.
            some = {n: metric for n, metric in metrics.items() if not metric.needs_whole_runs}
            measured = figures(some, guarantees, parts, units[0])
            name = f"{kind}, {cell.exposed:.0%} most exposed"
            rows.append(cell.row(**shared, **measured, records=name, unit=units[0]))
    return rows

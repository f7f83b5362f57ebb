"""One cell of a grid: an attack against one release, from stored runs to rows."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    ConfigError,
    Estimate,
    Guarantee,
    Knowledge,
    MedleakError,
    NotApplicable,
    Output,
    Release,
    Scored,
    Secret,
)
from medleak.components import RESERVED, build, identities, static
from medleak.keys import BENCH_VERSION, digest, rng_for
from medleak.messages import unknown
from medleak.rows import Row
from medleak.runs import Network, RunSpec, log_probabilities, release_of
from medleak.shadows import Pool, replica_check, shadow_columns
from medleak.slots import Slots, training_blocks
from medleak.store import Corrupt, Store

CONTROL_LEVEL = 0.998
"""Two-sided, so that a control fails by chance once in a thousand cells."""
POOLS = ("audit", "auxiliary")
MOST_SCORES = 2000
"""About as many scores of a model are compared in the replica check."""


@dataclass(frozen=True)
class Cell:
    """Coordinates and configuration of one cell; plain data, so that it can be sent to a worker.

    Attributes:
        config: resolved configuration: target, defense, attack, seed, n_members, n_shadows.
        metrics: metric name -> YAML block.
        axes: coordinate -> value, for those beyond the usual ones.
        overrides: what repeats the cell on the command line.
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        fields = ("config", "metrics", "axes", "overrides")
        return {k: v for k, v in self.__dict__.items() if k in fields}

    # ------------------------------------------------------------------ what it is made of

    @functools.cached_property
    def target_spec(self) -> RunSpec:
        """The run that is attacked."""
        return self._spec("audit", int(self.config["seed"]))

    def _spec(self, pool: str, column: int) -> RunSpec:
        slots = training_blocks(self.config["defense"].get("slots"))
        return RunSpec(self.config["target"], slots, self.config.get("n_members"), pool, column)

    @functools.cached_property
    def slots(self) -> Slots:
        """The whole defense."""
        return Slots(self.config["defense"].get("slots"))

    @functools.cached_property
    def knowledge(self) -> dict[str, Any]:
        """The attack's knowledge block, with the root's `n_shadows` where the attack uses shadows."""
        block = {"pool": "audit", "n_shadows": 0, "budget": None, "reference": False}
        given = self.config["attack"].get("knowledge") or {}
        for name in given:
            if name not in block:
                raise ConfigError(unknown("key of attack.knowledge", name, block))
        block |= given
        if block["pool"] not in POOLS:
            raise ConfigError(unknown("attack.knowledge.pool", block["pool"], POOLS))
        for name in ("n_shadows", "budget"):
            value = block[name]
            if isinstance(value, bool) or not isinstance(value, int | None) or (value or 0) < 0:
                raise ConfigError(f"attack.knowledge.{name} is {value!r}: a whole number is needed")
        if block["n_shadows"] and self.config.get("n_shadows"):
            block["n_shadows"] = self.config["n_shadows"]
        return block

    @functools.cached_property
    def attack(self) -> Attack:
        """The attack, built."""
        return build(self.config["attack"])

    @functools.cached_property
    def shadow_specs(self) -> list[RunSpec]:
        """The shadows, in pool order."""
        pool, k = self.knowledge["pool"], int(self.knowledge["n_shadows"])
        columns = shadow_columns(int(self.config["seed"]), k, pool=pool)[:k]
        return [self._spec(pool, column) for column in columns]

    @functools.cached_property
    def reference_spec(self) -> RunSpec | None:
        """The held-out replica, where the attack asked for one."""
        if not self.knowledge["reference"] or not self.knowledge["n_shadows"]:
            return None
        pool, k = self.knowledge["pool"], int(self.knowledge["n_shadows"])
        return self._spec(pool, shadow_columns(int(self.config["seed"]), k, pool=pool)[-1])

    @property
    def specs(self) -> list[RunSpec]:
        """Every run that must be stored before the cell can be measured."""
        extra = [self.reference_spec] if self.reference_spec else []
        return [self.target_spec, *self.shadow_specs, *extra]

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 over runs, release, attack, knowledge, metric versions and seed."""
        attack = _unnamed(self.config["attack"])
        slots = self.config["defense"].get("slots") or {}
        blocks = [slots, attack, {n: _unnamed(block) for n, block in self.metrics.items()}]
        return digest(
            {
                "runs": [spec.key for spec in self.specs],
                "world": self.target_spec.world.digest,
                "bench": BENCH_VERSION,
                "blocks": blocks,
                "versions": identities(blocks),
                "knowledge": self.knowledge,
                "seed": self.config["seed"],
            }
        )

    @property
    def coordinates(self) -> dict[str, Any]:
        """What the cell is called in the tables; no part of what was measured."""
        names = {group: self.config[group]["name"] for group in ("target", "defense", "attack")}
        return {**names, "extra": dict(self.axes)}

    def row_key(self, records: str, unit: str) -> str:
        """Short digest of a row: cell, coordinates, kind of record and unit."""
        return digest([self.key, self.coordinates, records, unit])[:12]

    def named(self, row: Row) -> Row:
        """A stored row under this cell's coordinates: another grid may have measured it."""
        provenance = {**row.provenance, "overrides": self.overrides}
        key = self.row_key(row.records, row.unit)
        return replace(row, key=key, provenance=provenance, **self.coordinates)

    # ------------------------------------------------------------------ whether it makes sense

    def reasons(self) -> list[str]:
        """Why the cell is not applicable, all reasons at once; empty where it is."""
        setting, found = self.target_spec.world.setting, []
        try:
            self.slots.trainer(build(self.config["target"]["recipe"]), setting)
        except NotApplicable as refusal:
            found += refusal.reasons
        requires = static(self.config["attack"]["_target_"]).requires or self.attack.requires
        if requires.goal != "membership":
            found.append(f"no game for goal '{requires.goal}' on this target")
        if hidden := self.slots.views().get(requires.access, f"unknown view '{requires.access}'"):
            found.append(f"needs '{requires.access}': {hidden}")
        if self.knowledge["pool"] == "auxiliary" and not (
            0 < self.target_spec.world.shadow_share <= 0.8
        ):
            have = len(np.unique(self.target_spec.world.auxiliary.patients))
            need = int(np.ceil(setting.n_patients / 0.8))
            found.append(f"pool=auxiliary needs {need} auxiliary patients for replicas, has {have}")
        return found + list(self.attack.refusals(setting, self.knowledge))

    # ------------------------------------------------------------------ rows

    def row(self, status: str, reason: str = "", **more: Any) -> Row:
        """A row of this cell."""
        config, world = self.config, self.target_spec.world
        requires = self.attack.requires
        records, unit = more.get("records", ""), more.get("unit", "")
        return Row(
            key=self.row_key(records, unit),
            cell=self.key,
            status=status,
            reason=reason,
            **self.coordinates,
            n_members=world.setting.n_patients,
            seed=int(config["seed"]),
            data=world.dataset.name,
            data_note=world.dataset.note,
            fingerprint=world.dataset.fingerprint,
            simulated=world.dataset.simulated,
            goal=requires.goal,
            access=requires.access,
            adversary=f"{requires.conduct} {requires.adversary}",
            pool=self.knowledge["pool"] if self.shadow_specs else "",
            n_shadows=len(self.shadow_specs),
            provenance={
                "overrides": list(self.overrides),
                "run": self.target_spec.key,
                "shadows": digest([spec.key for spec in self.shadow_specs])[:16],
                "components": identities([config["target"], config["defense"], config["attack"]]),
                "slots": config["defense"].get("slots") or {},
            },
            **more,
        )


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
    )
    output = cell.attack.execute(release.granting(access), world.challenge, knowledge)
    shared = _shared(cell, store, output, release, device)
    rows = _membership_rows(
        cell, output, world.challenge, world.secret(cell.config["seed"]), shared
    )
    store.save("cells", cell.key, {"rows": [row.to_json() for row in rows]})
    return output.seconds


def load_rows(cell: Cell, store: Store) -> list[Row] | None:
    """The stored rows of a cell under its own coordinates, or None."""
    stored = store.get("cells", cell.key)
    if stored is None:
        return None
    return [cell.named(Row.from_json(row)) for row in stored.facts["rows"]]


def _unnamed(block: Mapping[str, Any]) -> dict[str, Any]:
    """A YAML block less what changes no number, and less `knowledge`, which is keyed as resolved."""
    return {k: v for k, v in block.items() if k not in RESERVED or k == "_target_"}


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

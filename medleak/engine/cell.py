"""One cell of a grid: an attack against one release, from stored runs to rows."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from medleak.api import Attack, ConfigError, Guarantee, Trainer
from medleak.api.goal import Goal
from medleak.config.catalogue import parts_of
from medleak.config.instantiate import RESERVED, build, identities, static
from medleak.config.plugins import folders_of
from medleak.config.presets import PARTS
from medleak.core.files import contents
from medleak.core.keys import BENCH_VERSION, MEASURE_VERSION, digest
from medleak.core.store import Store
from medleak.core.suggestions import unknown
from medleak.core.validation import share, whole
from medleak.data.experiment import ExperimentData, load_experiment_data
from medleak.engine.usefulness import plugin_metrics
from medleak.goals import goal_of, known_goals
from medleak.release.pool import REFERENCE, shadow_columns
from medleak.release.shadowed_target import ShadowedTarget
from medleak.results.row import Row
from medleak.training.pipeline import DefensePipeline, training_blocks
from medleak.training.run_spec import RunSpec

POOLS = ("audit", "auxiliary")
BUILT = {"target": ("dataset", "model", "recipe"), "attack": ("",)}
"""Group -> the blocks of it that name a class; "" is the whole."""


@dataclass(frozen=True)
class Cell:
    """Coordinates and configuration of one cell; plain data, so that it can be sent to a worker.

    Attributes:
        config: resolved configuration: target, defense, attack, seed, n_targets, exposed, n_members,
            n_shadows.
        metrics: metric name -> YAML block.
        axes: coordinate -> value, for those beyond the usual ones.
        overrides: what repeats the cell on the command line.
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for group, blocks in BUILT.items():
            whole, chosen = self.config[group], f"{group}={self.config[group].get('name')}"
            for name in blocks:
                block = whole.get(name) if name else whole
                if not isinstance(block, Mapping) or "_target_" not in block:
                    raise ConfigError(
                        f"{chosen}: {f'block {name!r}' if name else 'it'} names no _target_"
                    )
        if not isinstance(self.config["target"].get("split"), Mapping):
            raise ConfigError(f"target={self.config['target'].get('name')} has no block 'split'")

    def __getstate__(self) -> dict[str, Any]:
        fields = ("config", "metrics", "axes", "overrides")
        return {k: v for k, v in self.__dict__.items() if k in fields}

    # ------------------------------------------------------------------ what it is made of

    @functools.cached_property
    def target_spec(self) -> RunSpec:
        """The run that is attacked."""
        return self._spec("audit", int(self.config["seed"]))

    def _spec(self, pool: str, column: int) -> RunSpec:
        slots, policy = training_blocks(self.config["defense"].get("slots")), self.policy
        members = self.config.get("n_members")
        if self.goal is not None:
            pool = self.goal.pool(self, pool)
        return RunSpec(self.config["target"], slots, members, pool, column, policy)

    @property
    def policy(self) -> Mapping[str, Any] | None:
        """What an active adversary changes during training, as the attack's YAML names it."""
        return self.config["attack"].get("policy")

    @functools.cached_property
    def pipeline(self) -> DefensePipeline:
        """The whole defense."""
        return DefensePipeline(self.config["defense"].get("slots"))

    @functools.cached_property
    def knowledge(self) -> dict[str, Any]:
        """The attack's knowledge block, with the root's `n_shadows` where the attack uses shadows."""
        block = {
            "pool": "audit",
            "n_shadows": 0,
            "budget": None,
            "reference": False,
        }
        if self.goal is not None:
            block |= self.goal.options
        given = self.config["attack"].get("knowledge") or {}
        for name in given:
            if name not in block:
                raise ConfigError(unknown("key of attack.knowledge", name, block))
        block |= given
        if block["pool"] not in POOLS:
            raise ConfigError(unknown("attack.knowledge.pool", block["pool"], POOLS))
        for name, least in {"n_shadows": 0, "budget": 1}.items():
            whole(f"attack.knowledge.{name}", block[name], least=least, null=True)
        if block["n_shadows"] and self.config.get("n_shadows"):
            block["n_shadows"] = self.config["n_shadows"]
        return block

    @functools.cached_property
    def attack(self) -> Attack:
        """The attack, built."""
        return build(self.config["attack"], of=Attack)

    @functools.cached_property
    def goal(self) -> Goal | None:
        """What the attack is after; None where no such goal is known."""
        name = self.attack.requires.goal
        return goal_of(name) if name in known_goals() else None

    @functools.cached_property
    def experiment(self) -> ExperimentData:
        """The patients and their split."""
        return load_experiment_data(self.config["target"], self.config.get("n_members"))

    @property
    def target(self) -> Mapping[str, Any]:
        """The resolved block of the target."""
        return self.config["target"]

    @functools.cached_property
    def shadowed_targets(self) -> list[ShadowedTarget]:
        """One for each target: columns from `seed` on, each shadowed by the others (leave-one-out)."""
        first, n = int(self.config["seed"]), int(self.config.get("n_targets") or 1)
        return [self._shadowed_target(column) for column in range(first, first + n)]

    @property
    def most_vulnerable_fraction(self) -> float | None:
        """The share of patients, the most exposed, that get rows of their own.

        Raises:
            ConfigError: not a share, or too few targets.
        """
        wanted, n = share("exposed", self.config.get("exposed")), self.config.get("n_targets") or 1
        if wanted and (n < 4 or n % 2):
            raise ConfigError(f"exposed={wanted:g} needs an even n_targets of 4 or more, not {n}")
        return wanted

    @functools.cached_property
    def target_half(self) -> np.ndarray:
        """Which half each target is in, ``(T,)`` bool: alternating, so that both hold early columns."""
        return np.arange(len(self.shadowed_targets)) % 2 == 0

    @property
    def checked_targets(self) -> list[ShadowedTarget]:
        """The first target of each half where halves are shadowed apart, else the first: further targets
        are its shadows, and it theirs."""
        return self.shadowed_targets[: 2 if self.most_vulnerable_fraction else 1]

    def _shadowed_target(self, column: int) -> ShadowedTarget:
        pool, k = self.knowledge["pool"], int(self.knowledge["n_shadows"])
        columns = shadow_columns(column, k, pool=pool)
        if self.most_vulnerable_fraction and pool == "audit":
            columns = self._own_half(column, k)
        wanted = self.knowledge["reference"] and k
        return ShadowedTarget(
            self._spec("audit", column),
            tuple(self._spec(pool, c) for c in columns[:k]),
            self._spec(pool, columns[REFERENCE]) if wanted else None,
        )

    def _own_half(self, column: int, k: int) -> list[int]:
        """`k` shadows among the targets of the same half, and a reference that no half trains on."""
        first, n = int(self.config["seed"]), int(self.config["n_targets"])
        mine = [c for c in range(first, first + n) if c != column and (c - column) % 2 == 0]
        if k > len(mine):
            name = self.config["attack"]["name"]
            raise ConfigError(
                f"exposed={self.most_vulnerable_fraction} leaves {len(mine)} shadows of n_targets={n}, "
                f"{name} wants {k}: n_shadows={len(mine)}"
            )
        return [*mine[:k], first + n + (column - first) % 2]

    @property
    def shadow_specs(self) -> tuple[RunSpec, ...]:
        """The shadows of the first target, in pool order."""
        return self.shadowed_targets[0].shadows

    @functools.cached_property
    def specs(self) -> list[RunSpec]:
        """Every run that must be stored before the cell can be measured; targets first."""
        ordered = [shadowed.target for shadowed in self.shadowed_targets]
        ordered += [spec for shadowed in self.shadowed_targets for spec in shadowed.specs[1:]]
        found = list({(spec.pool, spec.column): spec for spec in ordered}.values())
        if self.goal is not None:
            found += [control.target for control in self.goal.controls(self).values()]
            found += self.goal.evaluators(self)
        return found

    @property
    def mounted(self) -> list[dict[str, Any]]:
        """The defense's slots and the attack, as they enter keys."""
        return [self.config["defense"].get("slots") or {}, _unnamed(self.config["attack"])]

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 over runs, release, attack, knowledge, metric versions and seed."""
        blocks = [*self.mounted, {n: _unnamed(block) for n, block in self.metrics.items()}]
        # What a plugin's goal makes of answers is known by its file; medleak's by MEASURE_VERSION.
        goal = static(f"{type(self.goal).__module__}.{type(self.goal).__qualname__}")
        return digest(
            {
                **({} if goal.builtin else {"goal": goal.identity}),
                "runs": [spec.key for spec in self.specs],
                "world": self.target_spec.experiment.digest,
                "bench": [BENCH_VERSION, MEASURE_VERSION],
                "blocks": blocks,
                "versions": identities(blocks),
                "files": contents(blocks),
                "knowledge": self.knowledge,
                "seed": self.config["seed"],
                "n_targets": len(self.shadowed_targets),
                "exposed": self.most_vulnerable_fraction,
                **self._plugin_utility,
            }
        )

    @property
    def _plugin_utility(self) -> dict[str, list[str]]:
        """Only where a plugin measures utility: other cells keep their keys."""
        found = plugin_metrics(self.target_spec)
        return {"utility": found} if found else {}

    @property
    def cost_classes(self) -> tuple[str, str]:
        """Cells of one class take about as long to measure: the same attack on the same kind of run, and,
        roughly, on any run of the same model and data."""
        mine = [_unnamed(self.config["attack"]), self.knowledge, len(self.shadowed_targets)]
        alike = [self.config["target"]["model"], self.target_spec.experiment.dataset.name]
        own, rough = (digest([mine, kind]) for kind in (self.target_spec.cost_class, alike))
        return own, rough

    @property
    def coordinates(self) -> dict[str, Any]:
        """What the cell is called in the tables; no part of what was measured."""
        names = {group: self.config[group]["name"] for group in ("target", "defense", "attack")}
        return {**names, "extra": dict(self.axes)}

    def row_key(self, records: str, unit: str) -> str:
        """Short digest of a row: cell, coordinates, kind of record and unit."""
        return digest([self.key, self.coordinates, records, unit])[:12]

    @property
    def _repeat(self) -> dict[str, tuple[str, ...]]:
        """What the command that repeats the cell has to name."""
        folders = folders_of(self._options())
        return {"overrides": tuple(self.overrides), "plugins": tuple(folders)}

    def _options(self) -> Iterator[tuple[str, str]]:
        """Every option (group, name) that the cell is made of."""
        for group in ("target", "defense", "attack"):
            yield group, self.config[group]["name"]
        yield from ((part, self.axes[part]) for part in PARTS if part in self.axes)
        yield from (("metric", name) for name in self.metrics)
        yield from parts_of(self.config["target"]["name"])
        yield "goal", self.attack.requires.goal

    def named(self, row: Row) -> Row:
        """A stored row under this cell's coordinates: another grid may have measured it."""
        provenance = {**row.provenance, **self._repeat}
        key = self.row_key(row.records, row.unit)
        return replace(row, key=key, provenance=provenance, **self.coordinates)

    @functools.cached_property
    def guarantees(self) -> list[Guarantee]:
        """Everything that the defense formally promises."""
        recipe = build(self.config["target"]["recipe"], of=Trainer)
        return self.pipeline.guarantees(recipe, self.experiment.problem)

    @property
    def binding_guarantees(self) -> list[Guarantee]:
        """Those that bind this adversary."""
        mine = self.attack.requires.adversary
        return [promise for promise in self.guarantees if mine in promise.adversaries]

    # ------------------------------------------------------------------ rows

    def row(self, status: str, reason: str = "", **more: Any) -> Row:
        """A row of this cell."""
        config, experiment = self.config, self.target_spec.experiment
        requires = self.attack.requires
        records, unit = more.get("records", ""), more.get("unit", "")
        return Row(
            key=self.row_key(records, unit),
            cell=self.key,
            status=status,
            reason=reason,
            **self.coordinates,
            n_members=experiment.problem.n_patients,
            seed=int(config["seed"]),
            data=experiment.dataset.name,
            data_note=experiment.dataset.note,
            fingerprint=experiment.dataset.fingerprint,
            simulated=experiment.dataset.simulated,
            goal=requires.goal,
            access=requires.access,
            adversary=f"{requires.conduct} {requires.adversary}",
            pool=self.knowledge["pool"] if self.shadow_specs else "",
            n_shadows=len(self.shadow_specs),
            n_targets=len(self.shadowed_targets),
            provenance={
                **self._repeat,
                "run": self.target_spec.key,
                "shadows": digest([spec.key for spec in self.shadow_specs])[:16],
                "components": identities([config["target"], config["defense"], config["attack"]]),
                "slots": config["defense"].get("slots") or {},
            },
            **more,
        )


def load_rows(cell: Cell, store: Store) -> list[Row] | None:
    """The stored rows of a cell under its own coordinates, or None."""
    stored = store.get("cells", cell.key)
    if stored is None:
        return None
    return [cell.named(Row.from_json(row)) for row in stored.facts["rows"]]


def _unnamed(block: Mapping[str, Any]) -> dict[str, Any]:
    """A YAML block less what changes no number, and less `knowledge`, which is keyed as resolved."""
    return {k: v for k, v in block.items() if k not in RESERVED or k == "_target_"}

"""Rows over seeds: one `Aggregate` per cell, kind of record and unit.

The seeds of a cell share their patients, so their intervals are averaged, never shrunk by the
square root of the number of seeds. A seed without a figure is counted and said, never dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from medleak.api import Curve, Estimate
from medleak.metrics.statistics.means import mean_block, mean_nested, names_in
from medleak.results.measures import Measure, measures
from medleak.results.row import Row

_SEVERITY = ("failed", "invalid", "not_run", "not_applicable")
NATURAL = "natural"
"""Records as they are, where others were planted among them."""
_ATTACK = ("attack", "n_shadows", "pool", "knowledge", "budget")


@dataclass(frozen=True)
class Aggregate:
    """One line of the printed tables.

    Attributes:
        status: "ok" when a seed was measured; otherwise the gravest status of all seeds.
        seeds: the seeds in the means; `asked`: all that were asked for.
        missing: (status, reason, number of seeds) of those that have no figure, the gravest first.
        row: a measured row (or the first one), for what does not vary over seeds.
        axes: of `row.extra`, what tells this line from others; the rest is the same everywhere.
        leakage, utility, groups, utility_groups, worst_group, cost: means over `seeds`.
        upper_bounds: the largest over seeds; None (vacuous) as soon as one seed's is.
        violations: metric -> number of seeds above the ceiling.
        baselines, excess: means over `seeds`.
        tampering: how well clients detect a dishonest server's models, by metric.
        controls: every control that is a number, as "blind_auc"; `replica`: (ok, notes) of the
            replica check.
    """

    status: str
    seeds: tuple[int, ...]
    asked: tuple[int, ...]
    missing: tuple[tuple[str, str, int], ...]
    row: Row
    axes: Mapping[str, Any] = field(default_factory=dict)
    leakage: Mapping[str, Estimate | Curve] = field(default_factory=dict)
    utility: Mapping[str, Estimate | Curve] = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    utility_groups: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    worst_group: Mapping[str, tuple[str, Estimate]] = field(default_factory=dict)
    upper_bounds: Mapping[str, float | None] = field(default_factory=dict)
    violations: Mapping[str, int] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    excess: Mapping[str, Estimate] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    tampering: Mapping[str, Estimate | Curve] = field(default_factory=dict)
    controls: Mapping[str, Estimate | Curve] = field(default_factory=dict)
    replica: tuple[bool, tuple[str, ...]] | None = None

    @classmethod
    def of(cls, result: Row | Aggregate) -> Aggregate:
        """A row as it is, its figures included whatever its status; an aggregate is returned."""
        if isinstance(result, cls):
            return result
        row, ok = result, result.status == "ok"
        missing = () if ok else ((row.status, row.reason, 1),)
        blocks = ("leakage", "utility", "groups", "utility_groups", "baselines", "excess")
        kept = {name: getattr(row, name) for name in blocks} | {"axes": row.extra}
        kept |= {"status": row.status, "missing": missing, "seeds": (row.seed,) if ok else ()}
        kept |= {"tampering": _figures(row.controls.get("tampering", {}))}
        return replace(_measured([row]), controls=_figures(row.controls), **kept)

    @cached_property
    def measures(self) -> list[Measure]:
        """Every figure, one line each."""
        return measures(self)

    @cached_property
    def _index(self) -> dict[tuple[str, str, str, str], Measure]:
        return {(m.kind, m.name, m.group, m.baseline): m for m in self.measures}

    def find(self, kind: str, name: str, *, group: str = "", baseline: str = "") -> Measure | None:
        """One measure, or None."""
        return self._index.get((kind, name, group, baseline))

    @property
    def blind(self) -> Estimate | None:
        """The model-free baseline."""
        found = self.controls.get("blind_auc")
        return found if isinstance(found, Estimate) else None

    @property
    def target(self) -> str:
        return self.labelled(self.row.target, "target")

    @property
    def defense(self) -> str:
        return self.labelled(self.row.defense, "defense")

    @property
    def attack(self) -> str:
        return self.labelled(self.row.attack, "attack")

    def labelled(self, name: str, owner: str, *, hidden: Iterable[str] = ()) -> str:
        """`name` with those of the axes that are its `owner`'s ("target", "defense", "attack")."""
        mine = {k: v for k, v in self.axes.items() if _owner(k) == owner}
        shown = extras({k: v for k, v in mine.items() if k.rpartition(".")[2] not in hidden})
        return f"{name} ({shown})" if shown else name

    @property
    def role(self) -> str:
        """Who attacks: "outsider", "client" or "server"; "" where it is not recorded."""
        return self.row.adversary.rpartition(" ")[2]

    def binds(self, guarantee: Mapping[str, Any]) -> bool:
        """Whether a guarantee binds who attacks here."""
        return not self.role or self.role in guarantee.get("adversaries", (self.role,))

    @property
    def epsilon(self) -> float | None:
        """The smallest ε promised; None without a differential-privacy guarantee."""
        return min((g["epsilon"] for g in self.promises), default=None)

    @property
    def promises(self) -> list[Mapping[str, Any]]:
        """The differential-privacy guarantees."""
        return [g for g in self.row.guarantees if g.get("epsilon") is not None]

    @property
    def note(self) -> str:
        """What happened to seeds without a figure: ``1 of 2 seeds failed: ...``."""
        if self.status != "ok":
            return "; ".join(_reason(status, reason) for status, reason, _ in self.missing)
        total = len(self.asked)
        return "; ".join(
            f"{count} of {total} seeds {_reason(status, reason)}"
            for status, reason, count in self.missing
        )


def _reason(status: str, reason: str) -> str:
    return f"{status_name(status)}: {reason}" if reason else status_name(status)


def status_name(status: str) -> str:
    """``not_run`` as ``not run``."""
    return status.replace("_", " ")


def extras(extra: Mapping[str, Any]) -> str:
    """Further axes: ``n_shadows=16``; the last part of a dotted name is enough."""
    return ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in extra.items())


def _owner(axis: str) -> str:
    root = axis.split(".")[0]
    return "attack" if root in _ATTACK else "defense" if root == "defense" else "target"


def aggregate(rows: Iterable[Row]) -> list[Aggregate]:
    """One aggregate per (goal, target, n_members, defense, attack, other axes, records, unit), in order.

    Values and both bounds are means over the measured seeds; `n` is the smallest of them. A seed
    that yielded only a status row (no kind of record) counts against every kind of its cell.
    """
    rows = list(rows)
    cells: dict[tuple, list[Row]] = {}
    for row in rows:
        cells.setdefault(_cell(row), []).append(row)
    found = [one for members in cells.values() for one in _split(members)]
    varying = _varying(rows)
    return _ordered(
        [
            replace(one, axes={k: v for k, v in one.row.extra.items() if k in varying})
            for one in found
        ]
    )


def _varying(rows: Sequence[Row]) -> set[str]:
    """Axes with several values, or given for some and not for others of the same name."""
    values: dict[str, set[str]] = {}
    held: dict[tuple, list[set[str]]] = {}
    for row in rows:
        for key, value in row.extra.items():
            values.setdefault(key, set()).add(str(value))
        held.setdefault((row.target, row.defense, row.attack), []).append(set(row.extra))
    partly = set().union(*(set.union(*sets) - set.intersection(*sets) for sets in held.values()))
    return partly | {key for key, found in values.items() if len(found) > 1}


def _cell(row: Row) -> tuple:
    extra = tuple(sorted((k, str(v)) for k, v in row.extra.items()))
    return row.goal, row.target, row.n_members, row.defense, row.attack, extra


def _split(rows: Sequence[Row]) -> list[Aggregate]:
    kinds: dict[tuple, list[Row]] = {}
    for row in rows:
        if row.records:
            kinds.setdefault(
                (row.records, row.unit, row.pool, row.n_shadows, row.n_targets), []
            ).append(row)
    bare = [row for row in rows if not row.records]
    return [_merge(members + bare) for members in kinds.values()] or [_merge(bare)]


def _merge(rows: Sequence[Row]) -> Aggregate:
    rows = sorted(rows, key=lambda row: row.seed)
    good = [row for row in rows if row.status == "ok"]
    seeds = tuple(sorted({row.seed for row in good}))
    asked = tuple(sorted({row.seed for row in rows}))
    lost = Counter((row.status, row.reason) for row in rows if row.status != "ok")
    missing = sorted(lost.items(), key=lambda item: _severity(item[0][0]))
    status = "ok" if good else missing[0][0][0]
    counted = tuple((status, reason, count) for (status, reason), count in missing)
    if not good:
        return Aggregate(status, seeds, asked, counted, rows[0])
    return replace(_measured(good), status=status, seeds=seeds, asked=asked, missing=counted)


def _severity(status: str) -> int:
    """A status that is not known here is graver than any other."""
    return _SEVERITY.index(status) if status in _SEVERITY else -1


def _measured(good: Sequence[Row]) -> Aggregate:
    """The means of `good` rows."""
    groups = mean_nested([row.groups for row in good])
    return Aggregate(
        status="ok",
        seeds=(),
        asked=tuple(sorted({row.seed for row in good})),
        missing=(),
        row=good[0],
        leakage=mean_block([row.leakage for row in good]),
        utility=mean_block([row.utility for row in good]),
        groups=groups,
        utility_groups=mean_nested([row.utility_groups for row in good]),
        worst_group=_worst(good, groups),
        upper_bounds=_highest([row.upper_bounds for row in good]),
        violations=dict(Counter(name for row in good for name in row.violations)),
        baselines=mean_nested([row.baselines for row in good]),
        excess=mean_block([row.excess for row in good]),
        cost=_mean_numbers([row.cost for row in good]),
        tampering=mean_block([row.controls.get("tampering", {}) for row in good]),
        controls=mean_block([row.controls for row in good]),
        replica=_replica(good),
    )


def _figures(block: Mapping[str, Any]) -> dict[str, Estimate | Curve]:
    return {name: value for name, value in block.items() if isinstance(value, Estimate | Curve)}


def _mean_numbers(blocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values = {
        name: [b[name] for b in blocks if b.get(name) is not None] for name in names_in(blocks)
    }
    return {name: sum(found) / len(found) for name, found in values.items() if found}


def _highest(blocks: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in names_in(blocks):
        values = [block.get(name) for block in blocks]
        found[name] = None if None in values else max(values)
    return found


def _worst(rows: Sequence[Row], groups: Mapping[str, Mapping]) -> dict[str, tuple[str, Estimate]]:
    """The group with the highest mean, among those that were the worst of some seed.

    The mean of each seed's worst would grow with the number of seeds by chance alone.
    """
    worst = {}
    for name in names_in([row.worst_group for row in rows]):
        worst_ones = [row.worst_group[name] for row in rows if name in row.worst_group]
        named = dict.fromkeys(one["group"] for one in worst_ones)
        known = {group: groups[group][name] for group in named if name in groups.get(group, {})}
        measured = {g: e for g, e in known.items() if e.value is not None}
        if measured:
            group = max(measured, key=lambda g: measured[g].value)
            worst[name] = (group, measured[group])
    return worst


def _replica(rows: Sequence[Row]) -> tuple[bool, tuple[str, ...]] | None:
    checks = [
        row.controls["replica"] for row in rows if "replica" in row.controls and row.n_shadows
    ]
    if not checks:
        return None
    notes = tuple(dict.fromkeys(note for one in checks for note in one.get("notes", ())))
    return all(one.get("ok", False) for one in checks), notes


def _ordered(found: list[Aggregate]) -> list[Aggregate]:
    """Targets and attacks as first asked for; no defense first, then the weakest promise."""
    weakest: dict[str, float] = {}
    for one in found:
        budget = one.epsilon if one.epsilon is not None else float("inf")
        weakest[one.defense] = min(budget, weakest.get(one.defense, float("inf")))
    targets = {name: i for i, name in enumerate(dict.fromkeys(one.target for one in found))}
    attacks = {name: i for i, name in enumerate(dict.fromkeys(one.attack for one in found))}

    planted = {one.row.goal for one in found if one.row.records == NATURAL}

    def place(one: Aggregate) -> tuple:
        protected = one.row.defense != "none"
        defense = (protected, -weakest[one.defense], one.defense, attacks[one.attack])
        # Planted records stand below natural ones. Other kinds (fresh and trained models, members
        # and non-members) stand side by side under each attack.
        records, beside = one.row.records or NATURAL, one.row.records
        kind = (False, "")
        if one.row.goal in planted:
            kind, beside = (records != NATURAL, records), ""
        return targets[one.target], one.row.n_members, *kind, *defense, beside, one.row.unit

    return sorted(found, key=place)


def by_goal(aggregates: Iterable[Aggregate]) -> dict[str, list[Aggregate]]:
    """Goal -> its aggregates, in order of appearance."""
    found: dict[str, list[Aggregate]] = {}
    for one in aggregates:
        found.setdefault(one.row.goal, []).append(one)
    return found


def metric_names(aggregates: Iterable[Aggregate]) -> list[str]:
    """Every leakage metric that is a number in some line, in order of appearance."""
    named = (
        m.name
        for one in aggregates
        for m in one.measures
        if m.kind == "leakage" and m.value is not None
    )
    return list(dict.fromkeys(named))


def one_kind(aggregates: Iterable[Aggregate]) -> list[Aggregate]:
    """One measured aggregate per cell: much does not depend on which records are asked about."""
    seen: dict[tuple, Aggregate] = {}
    for one in aggregates:
        if one.status == "ok":
            row = one.row
            place = (one.target, row.n_members, one.defense, one.attack, row.n_shadows, row.pool)
            seen.setdefault(place, one)
    return list(seen.values())


def typical(lines: Iterable[Aggregate]) -> list[Aggregate]:
    """Natural records, counted by patient where both are there."""
    lines = list(lines)
    kinds = {one.row.records for one in lines}
    mine = [one for one in lines if NATURAL not in kinds or one.row.records == NATURAL]
    units = {one.row.unit for one in mine}
    return [one for one in mine if "patient" not in units or one.row.unit == "patient"]

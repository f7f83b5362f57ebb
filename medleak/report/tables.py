"""Tables as data: `texts` prints them as text, Markdown and LaTeX, `pages` as HTML.

Those of membership, and those of every goal; `rebuilt_tables` has those of reconstruction, `gains` those of
every other goal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from medleak.api import Estimate
from medleak.report import (
    budgets,
    columns,
    detectors,
    gains,
    inferred_tables,
    naming,
    rebuilt_tables,
)
from medleak.report.aggregated import Aggregate, by_goal, metric_names, one_kind
from medleak.report.columns import Cell, Column, Table, build, coordinate

if TYPE_CHECKING:
    import pandas as pd


def headline(aggregates: Sequence[Aggregate]) -> str:
    """The metric that stands for leakage in plots and ceilings: AUC, else the first estimate."""
    names = [n for one in aggregates for n, e in one.leakage.items() if isinstance(e, Estimate)]
    return "auc" if "auc" in names or not names else names[0]


def _shown(aggregates: Sequence[Aggregate]) -> list[str]:
    head = headline(aggregates)
    names = metric_names(aggregates)
    return [head] * (head in names) + list(naming.tpr_names(names).values())


def _roofed(aggregates: Sequence[Aggregate]) -> list[str]:
    """The metrics whose ceilings stand in the main table: the headline and the strictest TPR."""
    shown = _shown(aggregates)
    known = _promised(aggregates)
    return shown[:1] + [name for name in shown[1:][-1:] if name in known]


def _promised(aggregates: Sequence[Aggregate]) -> set[str]:
    return {name for one in aggregates if one.row.guarantees for name in one.ceilings}


def _worst(name: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        if name not in one.worst_group:
            return Cell(naming.NONE)
        group, estimate = one.worst_group[name]
        return Cell(naming.number(estimate.value), group, estimate.value)

    return cell


def _shadows(one: Aggregate) -> Cell:
    if not one.row.n_shadows:
        return Cell(naming.NONE, sort=0)
    return Cell(str(one.row.n_shadows), one.row.pool, one.row.n_shadows)


def _coordinates() -> list[Column]:
    return [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("defense", lambda one: one.defense, fold=False),
        coordinate("attack", lambda one: one.attack, fold=False),
        coordinate("records", lambda one: naming.kind(one.row.records)),
        coordinate("unit", lambda one: one.row.unit),
    ]


def results(aggregates: Sequence[Aggregate]) -> Table:
    """The main table of membership: utility, leakage, worst group, ceiling, promise, status."""
    head, shown = headline(aggregates), _shown(aggregates)
    grouped = any(one.worst_group for one in aggregates)
    worst = Column(f"worst-group {naming.metric(head)}", _worst(head), brief=False)
    audited = "epsilon" in metric_names(aggregates)
    made = [
        *_coordinates(),
        Column(columns.utility_name(aggregates), columns.utility),
        *(Column(naming.metric(n), columns.metric(n), brief=n != head) for n in shown),
        *([worst] if grouped else []),
        *(
            Column(f"{naming.metric(n)} ceiling", columns.upper_bound(n), terminal=n == head)
            for n in _roofed(aggregates)
        ),
        Column("ε", columns.epsilon),
        *([Column("audited ε", columns.metric("epsilon"))] if audited else []),
        Column("shadows", _shadows, terminal=False),
        Column("n", lambda one: columns.size(one, head), fold=True),
        *columns.outcome(),
    ]
    return build("Results", made, aggregates, _small_groups(aggregates) if grouped else ())


def further(aggregates: Sequence[Aggregate]) -> Table:
    """Every other leakage metric and ceiling, and every utility metric."""
    shown, roofed = _shown(aggregates), _roofed(aggregates)
    more = [name for name in metric_names(aggregates) if name not in (*shown, "epsilon")]
    known = _promised(aggregates)
    roofs = [n for n in metric_names(aggregates) if n in known and n not in roofed]
    made = [
        *_coordinates(),
        *(Column(naming.metric(name), columns.metric(name)) for name in more),
        *(Column(f"{naming.metric(name)} ceiling", columns.upper_bound(name)) for name in roofs),
        *columns.utilities(aggregates),
    ]
    return build("Further metrics", made, [one for one in aggregates if one.status == "ok"])


def subgroups(aggregates: Sequence[Aggregate]) -> Table:
    """Leakage of each subgroup, the most exposed one first."""
    head = headline(aggregates)
    kept = [one for one in aggregates if any(head in block for block in one.groups.values())]
    names = sorted({group for one in kept for group in one.groups})

    def of(group: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            worst = one.worst_group.get(head, ("",))[0] == group
            return columns.estimate(one.groups.get(group, {}).get(head), "strong" if worst else "")

        return cell

    made = [
        *_coordinates(),
        Column(f"worst-group {naming.metric(head)}", _worst(head)),
        *(Column(group, of(group)) for group in names),
    ]
    return build(f"{naming.metric(head)} by subgroup", made, kept, _small_groups(kept))


def costs(aggregates: Sequence[Aggregate]) -> Table:
    """Seconds, bytes and queries, means over seeds."""
    members, rebuilt = by_goal(aggregates)
    wire = {
        "a client sends": ("client_bytes", naming.size),
        "the server sends": ("server_bytes", naming.size),
        "a client computes": ("client_seconds", naming.seconds),
        "the server computes": ("server_seconds", naming.seconds),
        "an encrypted query takes": ("query_seconds", naming.seconds),
        "times a plain one": ("query_overhead", naming.whole),
        "it sends": ("query_bytes_in", naming.size),
        "it returns": ("query_bytes_out", naming.size),
    }
    known = {name for one in aggregates for name in one.cost}
    # Which records are asked about, or how old the attacked model is, changes no cost.
    place = [column for column in _coordinates() if not rebuilt or column.header != "records"]
    made = [
        *place,
        Column("training the target", columns.cost("train_seconds")),
        *(Column(head, columns.cost(*how)) for head, how in wire.items() if how[0] in known),
    ]
    attacking = Column("attacking", columns.cost("attack_seconds"))
    if members:
        made += [
            Column("training the shadows", columns.cost("shadow_seconds")),
            attacking,
            Column("queries", columns.cost("queries", naming.whole)),
            Column("shadows", _shadows),
        ]
    else:
        made.append(attacking)
    return build("Cost", made, one_kind(aggregates))


def targets(aggregates: Sequence[Aggregate]) -> Table:
    """Where several runs served as the target in turn, from the first measured seed on."""
    mine = [one for one in aggregates if one.row.spread]

    def spread(name: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            told = one.row.spread.get(name)
            if told is None:
                return Cell(naming.NONE)
            text = f"{naming.number(told['mean'])} ± {naming.number(told['sd'])}"
            span = f"{naming.number(told['min'])} to {naming.number(told['max'])}"
            return Cell(text, span, told["mean"])

        return cell

    made = [
        *_coordinates(),
        Column("targets", lambda one: Cell(str(one.row.n_targets), sort=one.row.n_targets)),
        Column("from seed", lambda one: Cell(str(one.row.seed), sort=one.row.seed)),
        *(
            Column(f"{naming.metric(name)} over targets", spread(name))
            for name in _shown(mine)
            if any(name in one.row.spread for one in mine)
        ),
    ]
    return build("Targets in turn", made, mine)


def controls(aggregates: Sequence[Aggregate]) -> Table:
    """The model-free baseline and the replica check."""

    def replica(one: Aggregate) -> Cell:
        if one.replica is None:
            return Cell(naming.NONE)
        ok, notes = one.replica
        return Cell("passed" if ok else "failed", "; ".join(notes), ok, "" if ok else "alarm")

    made = [
        *_coordinates(),
        Column("blind AUC (model never asked)", lambda one: columns.estimate(one.blind)),
        Column("replica check", replica, brief=False),
    ]
    kept = [one for one in aggregates if one.blind is not None or one.replica is not None]
    return build("Controls", made, kept)


def _small_groups(aggregates: Sequence[Aggregate]) -> list[str]:
    """What a worst group was chosen from, where some groups were too small to be among them."""
    head = headline(aggregates)
    found = ([g[head] for g in one.groups.values() if head in g] for one in aggregates)
    counts = [(sum(e.value is not None for e in some), len(some)) for some in found if some]
    if all(measured == total for measured, total in counts):
        return []
    low, high = min(m for m, _ in counts), max(m for m, _ in counts)
    span = f"{low}" if low == high else f"{low} to {high}"
    total = max(total for _, total in counts)
    return [f"worst group: of {span} measured, {total} in all (the others are too small)"]


# --------------------------------------------------------------------------- all of them


def printed(aggregates: Sequence[Aggregate]) -> list[Table]:
    """The tables of the Markdown and LaTeX files: results by block, then everything else."""
    members, rebuilt = by_goal(aggregates)
    made = [targets(members), subgroups(members), further(members), controls(members)]
    made += [make(rebuilt) for make in rebuilt_tables.MORE]
    told = []
    for look, mine in gains.looks(aggregates):
        told += main(mine, partial(gains.results, look=look))
        made += beside(mine, look)
    return [
        *main(members, results),
        *main(rebuilt, rebuilt_tables.results),
        *told,
        *(table for table, _ in inferred_tables.main(aggregates)),
        budgets.stars(aggregates),
        *made,
        inferred_tables.baselines(aggregates),
        detectors.detector(aggregates),
        costs(aggregates),
    ]


def beside(aggregates: Sequence[Aggregate], look: gains.Look) -> list[Table]:
    """What follows the main table of a goal: all baselines, all other metrics."""
    head, shown = look.metrics(aggregates)
    more = f"Further metrics of {look.slug}"
    return [
        gains.baselines(aggregates, look.priors, look.compared, gains.place()),
        gains.further(aggregates, more, [head, *shown], gains.place()),
    ]


def main(
    aggregates: Sequence[Aggregate], make: Callable[[Sequence[Aggregate]], Table]
) -> list[Table]:
    """The main table that `make` gives for each block, under a heading of its own."""
    return [
        replace(table, title=_heading(block))
        for block in blocks(aggregates)
        if (table := make(block)).lines
    ]


def _heading(block: Sequence[Aggregate]) -> str:
    told = next((one for one in block if one.row.records), block[0])
    kind = f", {naming.kind(told.row.records)}" if told.row.records else ""
    return f"{told.target}, {told.row.n_members:,} members{kind}"


def blocks(aggregates: Iterable[Aggregate]) -> list[list[Aggregate]]:
    """Aggregates of one goal by (target, members, kind of record, unit).

    A cell without any figure stands in every block of its target and size, where there is one.
    """
    aggregates = list(aggregates)
    places = {_block(one): None for one in aggregates if one.row.records}
    lonely = {_block(one) for one in aggregates} - {(*place[:2], "", "") for place in places}
    return [
        [one for one in aggregates if _block(one) in (place, (*place[:2], "", ""))]
        for place in [*places, *sorted(place for place in lonely if not place[2])]
    ]


def _block(one: Aggregate) -> tuple[str, int, str, str]:
    if not one.row.records:
        return one.target, one.row.n_members, "", ""
    return one.target, one.row.n_members, one.row.records, one.row.unit


# --------------------------------------------------------------------------- flat


def flat(aggregates: Iterable[Aggregate]) -> pd.DataFrame:
    """Every aggregate as one flat line, with full precision, for a spreadsheet."""
    import pandas as pd

    aggregates = list(aggregates)
    kinds = budgets.series(aggregates)
    return pd.DataFrame([_flat(one) | budgets.flat_star(one, kinds) for one in aggregates])


def _flat(one: Aggregate) -> dict[str, object]:
    row = one.row
    line: dict[str, object] = {
        "target": row.target, "data": row.data, "simulated": row.simulated,
        "n_members": row.n_members, "defense": row.defense, "attack": row.attack, **row.extra,
        "records": row.records, "unit": row.unit, "pool": row.pool, "n_shadows": row.n_shadows,
        "status": naming.STATUS[one.status], "note": one.note,
        "seeds": " ".join(map(str, one.seeds)), "seeds_asked": " ".join(map(str, one.asked)),
        "epsilon": one.epsilon,
    }  # fmt: skip
    for name, value in [*one.leakage.items(), *one.utility.items()]:
        if isinstance(value, Estimate):
            line |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
            line |= {f"{name}_n": value.n, f"{name}_flag": value.flag}
        if row.guarantees and name in one.ceilings:
            upper_bound = one.ceilings[name]
            line[f"{name}_ceiling"] = naming.VACUOUS if upper_bound is None else upper_bound
        if name in one.worst_group:
            group, worst = one.worst_group[name]
            line |= {f"{name}_worst_group": group, f"{name}_worst": worst.value}
    line |= gains.flat_gains(one)
    blind = {"blind_auc": one.blind.value} if one.blind else {}
    for name, found in one.tampering.items():
        if isinstance(found, Estimate):
            line |= {f"tampering_{name}": found.value, f"tampering_{name}_low": found.low}
            line |= {f"tampering_{name}_high": found.high, f"tampering_{name}_n": found.n}
    return line | blind | {"violations": " ".join(one.violations)} | dict(one.cost)

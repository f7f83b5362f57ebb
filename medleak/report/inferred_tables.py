"""Tables of attributes, of patients and beside what is told without the model; and of training sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from medleak.report import columns, naming
from medleak.report.aggregated import Aggregate, of_goal
from medleak.report.columns import Cell, Column, Table, build, coordinate
from medleak.report.gains import gain, without

HEAD = "attribute_auc"


def main(aggregates: Sequence[Aggregate]) -> list[tuple[Table, list[Aggregate]]]:
    """The main table of each goal, with its lines."""
    found = [(make, of_goal(aggregates, goal)) for goal, make in MAKERS.items()]
    return [(make(mine), mine) for make, mine in found if mine]


def attribute(one: Aggregate) -> str:
    """The column that was asked about."""
    return one.row.controls.get("asked", {}).get("attribute", "")


def _attack(one: Aggregate) -> str:
    """The attack, less what the next column says."""
    axes = {k: v for k, v in one.axes.items() if not (k.endswith(".attribute") and attribute(one))}
    return replace(one, axes=axes).attack


def _coordinates() -> list[Column]:
    return [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("defense", lambda one: one.defense, fold=False),
        coordinate("attack", _attack, fold=False),
        coordinate("attribute", attribute),
        coordinate("records", lambda one: one.row.records),
        replace(coordinate("unit", lambda one: one.row.unit), terminal=False),
    ]


def attributes(aggregates: Sequence[Aggregate]) -> Table:
    """The main table: utility, what was told with the model and without, and what training added."""
    made = [
        *_coordinates(),
        Column(columns.utility_name(aggregates), columns.utility),
        Column(naming.metric("attribute_accuracy"), columns.metric("attribute_accuracy"), terminal=False),
        Column(naming.metric(HEAD), columns.metric(HEAD)),
        Column("without the model", _baseline),
        Column("gain", gain(HEAD), brief=False),
        Column("added by training", columns.metric(f"{HEAD}_added"), terminal=False),
        Column(f"{naming.metric(HEAD)} ceiling", columns.upper_bound(HEAD), fold=True),
        Column("ε", columns.epsilon),
        Column("n", lambda one: columns.size(one, HEAD), terminal=False),
        *columns.outcome(seeds_in_terminal=False),
    ]  # fmt: skip
    return build("Attributes of patients", made, aggregates)


def _baseline(one: Aggregate) -> Cell:
    value = without(one, HEAD)
    return Cell(naming.number(value, naming.digits(HEAD)), sort=value)


def baselines(aggregates: Sequence[Aggregate]) -> Table:
    """What is guessed without the model, and gained over it."""
    mine = [one for one in of_goal(aggregates, "attribute") if one.baselines]
    shown = [HEAD, "attribute_accuracy"]
    names = list(dict.fromkeys(name for one in mine for name in one.baselines))

    def of(baseline: str, metric: str) -> Callable[[Aggregate], Cell]:
        return lambda one: columns.estimate(one.baselines.get(baseline, {}).get(metric))

    made = [
        *_coordinates(),
        *(
            Column(f"{naming.metric(metric)}: {name}", of(name, metric))
            for metric in shown
            for name in names
        ),
        Column(f"{naming.metric(shown[1])} gain", gain(shown[1])),
        Column(naming.metric(f"{shown[1]}_added"), columns.metric(f"{shown[1]}_added")),
    ]
    return build("Attributes without the model", made, mine)


def properties(aggregates: Sequence[Aggregate]) -> Table:
    """The main table of properties: utility, which share was told over the targets, promise."""
    shadows = Column("shadows", lambda one: columns.text(one.row.n_shadows), fold=True)
    made = [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("defense", lambda one: one.defense, fold=False),
        coordinate("attack", lambda one: one.attack, fold=False),
        coordinate("share of", lambda one: one.row.records),
        Column(columns.utility_name(aggregates), columns.utility),
        Column(naming.metric("property_auc"), columns.metric("property_auc"), brief=False),
        Column(naming.metric("property_accuracy"), columns.metric("property_accuracy"), brief=False),
        Column(f"{naming.metric('property_auc')} ceiling", columns.upper_bound("property_auc"), fold=True),
        Column("ε", columns.epsilon),
        shadows,
        Column("targets", lambda one: columns.size(one, "property_auc"), fold=True),
        *columns.outcome(seeds_in_terminal=False),
    ]  # fmt: skip
    return build("Properties of training sets", made, aggregates)


MAKERS = {"attribute": attributes, "property": properties}
"""Goal -> its main table."""

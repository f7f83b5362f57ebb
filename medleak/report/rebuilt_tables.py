"""Tables of reconstruction: what was rebuilt from messages, beside what is rebuilt without them."""

from __future__ import annotations

from collections.abc import Sequence

from medleak.report import columns, gains, naming
from medleak.report.aggregated import Aggregate, metric_names, one_kind
from medleak.report.columns import Column, Table, build, coordinate

LIKENESS = ("psnr", "ssim", "recovered")
NAMED = "identified"


def headline(aggregates: Sequence[Aggregate]) -> str:
    """The metric that stands for leakage: the share identified, else the first with a gain."""
    names = [name for one in aggregates for name in one.excess]
    return NAMED if NAMED in names or not names else names[0]


def _coordinates() -> list[Column]:
    return [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("defense", lambda one: one.defense, fold=False),
        coordinate("attack", lambda one: one.attack, fold=False),
        coordinate("model", lambda one: naming.age(one.row.records)),
        coordinate("unit", lambda one: one.row.unit),
    ]


def results(aggregates: Sequence[Aggregate]) -> Table:
    """The main table: utility, likeness, who is named with and without the message, promise, cost."""
    head, known = headline(aggregates), metric_names(aggregates)
    label = naming.metric(head)
    sent = any("client_bytes" in one.cost for one in aggregates)
    made = [
        *_coordinates(),
        Column(columns.utility_name(aggregates), columns.utility),
        *(
            Column(naming.metric(name), columns.metric(name), terminal=name == "psnr")
            for name in LIKENESS
            if name in known and name != head
        ),
        Column(label, columns.metric(head), brief=False),
        Column("without message", gains.baseline(head)),
        Column("gain", gains.gain(head), brief=False),
        Column(f"{label} ceiling", columns.upper_bound(head)),
        Column("ε", columns.epsilon),
        *(
            [Column("a client sends", columns.cost("client_bytes", naming.size), terminal=False)]
            if sent
            else []
        ),
        Column("attacking", columns.cost("attack_seconds"), terminal=False),
        Column("n", lambda one: columns.size(one, head), fold=True, terminal=False),
        *columns.outcome(seeds_in_terminal=False),
    ]
    return build("Rebuilt from messages", made, aggregates)


def baselines(aggregates: Sequence[Aggregate]) -> Table:
    """What each baseline rebuilds without the message."""
    shown = dict.fromkeys((headline(aggregates), "psnr", "ssim"))
    return gains.baselines(aggregates, "Without the message", list(shown), _coordinates())


def further(aggregates: Sequence[Aggregate]) -> Table:
    """Every other metric, gain and ceiling, and every utility metric."""
    shown = (headline(aggregates), *LIKENESS)
    return gains.further(aggregates, "Further metrics of what was rebuilt", shown, _coordinates())


def controls(aggregates: Sequence[Aggregate]) -> Table:
    """The split's model-free baseline."""
    place = [column for column in _coordinates() if column.header != "model"]
    made = [
        *place,
        Column("blind AUC (model never asked)", lambda one: columns.estimate(one.blind)),
    ]
    kept = [one for one in aggregates if one.blind is not None]
    return build("Controls of reconstruction", made, one_kind(kept))


MORE = (baselines, further, controls)
"""What follows the main table in the files."""

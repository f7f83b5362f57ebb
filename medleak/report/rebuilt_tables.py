"""Tables of reconstruction: what was rebuilt from messages, beside what is rebuilt without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from medleak.api import Estimate
from medleak.report import columns, naming
from medleak.report.aggregated import Aggregate, metric_names, one_kind
from medleak.report.columns import Cell, Column, Table, build, coordinate

LIKENESS = ("psnr", "ssim", "recovered")
NAMED = "identified"


def headline(aggregates: Sequence[Aggregate]) -> str:
    """The metric that stands for leakage: the share identified, else the first with a gain."""
    names = [name for one in aggregates for name in one.excess]
    return NAMED if NAMED in names or not names else names[0]


def without(one: Aggregate, metric: str) -> float | None:
    """The best baseline's figure: what the attack gained is measured from it."""
    ours, gain = one.leakage.get(metric), one.excess.get(metric)
    if not isinstance(ours, Estimate) or gain is None or None in (ours.value, gain.value):
        return None
    # Over seeds the best baseline may change; the difference of the means stays true. Rounding
    # must not print a negative nought.
    return round(ours.value - gain.value, 12) + 0.0


def gain(metric: str) -> Callable[[Aggregate], Cell]:
    """The excess over the best baseline, in bold where its whole interval lies above 0."""

    def cell(one: Aggregate) -> Cell:
        found, digits = one.excess.get(metric), naming.digits(metric)
        sure = found is not None and found.low is not None and found.low > 0
        return columns.estimate(tidy(found, digits), "strong" if sure else "", digits)

    return cell


def tidy(found: Estimate | None, digits: int) -> Estimate | None:
    """Rounded, and without -0.0, which would read as a loss."""
    if found is None:
        return None
    parts = {name: getattr(found, name) for name in ("value", "low", "high")}
    known = {k: round(v, digits) + 0.0 for k, v in parts.items() if v is not None}
    return replace(found, **known)


def _baseline(metric: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        value = without(one, metric)
        return Cell(naming.number(value, naming.digits(metric)), sort=value)

    return cell


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
        Column("without message", _baseline(head)),
        Column("gain", gain(head), brief=False),
        Column(f"{label} ceiling", columns.ceiling(head)),
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
    names = list(dict.fromkeys(name for one in aggregates for name in one.baselines))
    shown = [n for n in (headline(aggregates), "psnr", "ssim") if n in metric_names(aggregates)]

    def of(baseline: str, metric: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            found = one.baselines.get(baseline, {}).get(metric)
            return columns.estimate(found, digits=naming.digits(metric))

        return cell

    made = [
        *_coordinates(),
        *(
            Column(f"{naming.metric(metric)}: {name}", of(name, metric))
            for metric in dict.fromkeys(shown)
            for name in names
        ),
    ]
    return build("Without the message", made, [one for one in aggregates if one.baselines])


def further(aggregates: Sequence[Aggregate]) -> Table:
    """Every other metric, gain and ceiling, and every utility metric."""
    head, known = headline(aggregates), metric_names(aggregates)
    gains = [name for name in known if name != head and any(name in o.excess for o in aggregates)]
    limited = {n for one in aggregates for n, v in one.ceilings.items() if v is not None}
    made = [
        *_coordinates(),
        *(
            Column(naming.metric(name), columns.metric(name))
            for name in known
            if name not in (head, *LIKENESS)
        ),
        *(Column(naming.metric(name, "gain"), gain(name)) for name in gains),
        *(
            Column(f"{naming.metric(name)} ceiling", columns.ceiling(name))
            for name in known
            if name in limited and name != head
        ),
        *columns.utilities(aggregates),
    ]
    kept = [one for one in aggregates if one.status == "ok"]
    return build("Further metrics of what was rebuilt", made, kept)


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


def flat_gains(one: Aggregate) -> dict[str, float | None]:
    """``<metric>_without``, ``<metric>_gain`` and its bounds, of an aggregate or a row."""
    line: dict[str, float | None] = {}
    for name, found in one.excess.items():
        line |= {f"{name}_without": without(one, name), f"{name}_gain": found.value}
        line |= {f"{name}_gain_low": found.low, f"{name}_gain_high": found.high}
    return line

"""What an attack gained over what is known without it: tables of every goal but membership.

Each figure stands beside the best baseline. `rebuilt_tables` has what only reconstruction needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from medleak.api import Estimate
from medleak.report import columns, naming
from medleak.report.aggregated import Aggregate, metric_names, of_goal
from medleak.report.columns import Cell, Column, Table, build, coordinate


@dataclass(frozen=True)
class Look:
    """How the figures of a goal are laid out.

    Attributes:
        title: of the main table; `slug` names it in pages and files.
        head: the metric that stands for leakage; `shown` stand before it.
        prior: what the best baseline is called, `priors` the table of all of them in `compared`.
        note: how the main table is to be read.
    """

    goal: str
    title: str
    slug: str
    head: str
    shown: tuple[str, ...]
    prior: str
    priors: str
    compared: tuple[str, ...]
    note: str = ""

    def metrics(self, aggregates: Sequence[Aggregate]) -> tuple[str, list[str]]:
        """The headline, or the first metric with a gain in its place, and those shown beside it."""
        known = metric_names(aggregates)
        gained = [name for one in aggregates for name in one.excess]
        head = self.head if self.head in gained or not gained else gained[0]
        return head, [name for name in self.shown if name in known and name != head]


LOOKS = (
    Look(
        "inversion",
        "Pictures of classes",
        "pictures",
        "acc_at_1",
        ("acc_at_5", "knn_distance", "ssim_trained", "ssim_gap"),
        "without model",
        "Pictures without the model",
        ("acc_at_1", "knn_distance", "ssim_gap"),
        "In bold: more pictures are recognised than without the model. The SSIM gap is above 0 where "
        "pictures are more like the images that were trained on than like others of the same class: only "
        "then is more told than how the class looks.",
    ),
)
"""Of the goals that have no tables of their own."""


def looks(aggregates: Sequence[Aggregate]) -> list[tuple[Look, list[Aggregate]]]:
    """The looks that apply, with their lines."""
    found = [(look, of_goal(aggregates, look.goal)) for look in LOOKS]
    return [(look, mine) for look, mine in found if mine]


def results(aggregates: Sequence[Aggregate], look: Look) -> Table:
    """The main table: utility, leakage, the best baseline, the gain over it, promise, status."""
    head, shown = look.metrics(aggregates)
    made = [
        *place(),
        Column(columns.utility_name(aggregates), columns.utility),
        *(
            Column(
                naming.metric(name), columns.metric(name), brief=True, terminal=name in shown[:1]
            )
            for name in shown
        ),
        Column(naming.metric(head), columns.metric(head), brief=False),
        Column(look.prior, baseline(head)),
        Column("gain", gain(head), brief=False),
        Column("ε", columns.epsilon),
        Column("attacking", columns.cost("attack_seconds"), terminal=False),
        Column("queries", columns.cost("queries", naming.whole), terminal=False),
        Column("n", lambda one: columns.size(one, head), fold=True, terminal=False),
        *columns.outcome(seeds_in_terminal=False),
    ]
    return build(look.title, made, aggregates)


def place() -> list[Column]:
    """Where a line stands."""
    return [
        coordinate("target", lambda one: one.target),
        coordinate("members", lambda one: one.row.n_members),
        coordinate("defense", lambda one: one.defense, fold=False),
        coordinate("attack", lambda one: one.attack, fold=False),
        coordinate("asked about", lambda one: one.row.records),
        coordinate("unit", lambda one: one.row.unit),
    ]


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


def baseline(metric: str) -> Callable[[Aggregate], Cell]:
    def cell(one: Aggregate) -> Cell:
        value = without(one, metric)
        return Cell(naming.number(value, naming.digits(metric)), sort=value)

    return cell


def baselines(
    aggregates: Sequence[Aggregate], title: str, shown: Sequence[str], place: Sequence[Column]
) -> Table:
    """What each baseline reaches in the metrics `shown`."""
    names = list(dict.fromkeys(name for one in aggregates for name in one.baselines))
    shown = [name for name in shown if name in metric_names(aggregates)]

    def of(baseline: str, metric: str) -> Callable[[Aggregate], Cell]:
        def cell(one: Aggregate) -> Cell:
            found = one.baselines.get(baseline, {}).get(metric)
            return columns.estimate(found, digits=naming.digits(metric))

        return cell

    made = [
        *place,
        *(
            Column(f"{naming.metric(metric)}: {name}", of(name, metric))
            for metric in dict.fromkeys(shown)
            for name in names
        ),
    ]
    return build(title, made, [one for one in aggregates if one.baselines])


def further(
    aggregates: Sequence[Aggregate], title: str, shown: Sequence[str], place: Sequence[Column]
) -> Table:
    """Every metric, gain and ceiling but those of the main table, which `shown` has, its head first."""
    head, known = shown[0], metric_names(aggregates)
    gains = [name for name in known if name != head and any(name in o.excess for o in aggregates)]
    limited = {n for one in aggregates for n, v in one.ceilings.items() if v is not None}
    made = [
        *place,
        *(Column(naming.metric(name), columns.metric(name)) for name in known if name not in shown),
        *(Column(naming.metric(name, "gain"), gain(name)) for name in gains),
        *(
            Column(f"{naming.metric(name)} ceiling", columns.upper_bound(name))
            for name in known
            if name in limited and name != head
        ),
        *columns.utilities(aggregates),
    ]
    kept = [one for one in aggregates if one.status == "ok"]
    return build(title, made, kept)


def flat_gains(one: Aggregate) -> dict[str, float | None]:
    """``<metric>_without``, ``<metric>_gain`` and its bounds, of an aggregate or a row."""
    line: dict[str, float | None] = {}
    for name, found in one.excess.items():
        line |= {f"{name}_without": without(one, name), f"{name}_gain": found.value}
        line |= {f"{name}_gain_low": found.low, f"{name}_gain_high": found.high}
    return line

"""What the figures say, for those who have to answer for patients: one template for each goal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from medleak.api.goal_report import GoalReport
from medleak.report import formatting
from medleak.report.specs import headline, spec_of, specs
from medleak.results.aggregate import Aggregate, by_goal, typical
from medleak.results.frame import without
from medleak.results.measures import Measure
from medleak.results.row import Row

TEMPLATES = Path(__file__).parent / "templates"
VOID = 0.995
"""A bound above this rules out next to nothing."""
_ROLES = ("outsider", "client", "server")
_SEATS = {
    "server": "attacker at the server",
    "client": "attacker among the clients",
    "outsider": "outsider",
}


@dataclass(frozen=True)
class Summary:
    """A few sentences about one defense of one target."""

    target: str
    defense: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """What was found for one goal under one defense of one target; what a template's summary reads.

    Attributes:
        lines: all that was asked for; `top`: the strongest attack, None where nothing was measured.
        name: the measure spoken of; `group`: the attribute or kind of record it is about.
        last: whether no further case of this goal and defense follows.
    """

    spec: GoalReport
    lines: tuple[Aggregate, ...]
    top: Aggregate | None
    name: str
    group: str = ""
    last: bool = True

    @property
    def found(self) -> Measure | None:
        return self.top.find("leakage", self.name) if self.top else None

    @property
    def gain(self) -> Measure | None:
        return self.top.find("excess", self.name) if self.top else None

    @property
    def prior(self) -> float | None:
        """The best baseline."""
        return without(self.top, self.name) if self.top else None

    @property
    def fpr(self) -> float:
        """The false-positive rate that the measure's name speaks of."""
        return formatting.fpr_of(self.name) or 0.0

    @property
    def members(self) -> int:
        return self.top.row.n_members

    @property
    def attacks(self) -> int:
        """How many attacks were measured."""
        return len({one.attack for one in self._measured})

    @property
    def kinds(self) -> dict[str, Measure]:
        """Kind of record -> the figure of the strongest attack."""
        alike = (self.top.attack, self.top.row.n_members)
        mine = [one for one in self._measured if (one.attack, one.row.n_members) == alike]
        return {one.row.records: one.find("leakage", self.name) for one in mine}

    @property
    def reasons(self) -> str:
        """Why there is no figure."""
        return "; ".join(dict.fromkeys(one.note for one in self.lines if one.note))

    @property
    def unseen(self) -> bool:
        """Whether the defense hides what every attack would have read."""
        return all(
            one.status == "not_applicable"
            and all(f"needs '{one.row.access}'" in reason for _, reason, _ in one.missing)
            for one in self.lines
        )

    @property
    def informed(self) -> bool:
        """Whether the strongest attack has the additional knowledge that the spec names."""
        return bool(self.top) and self.spec.informed_by in self.top.baselines

    @property
    def verdict(self) -> str:
        """Against the best guess: "exceeds", "unclear", "no interval", "no baseline" or "coarse"."""
        if formatting.coarse(self.found.flag):
            return "coarse"
        guess = formatting.fpr_of(self.name) or self.spec.guess
        margin = self.gain
        if margin is None and guess is None:
            return "no baseline"
        low = margin.low if margin else self.found.low
        if low is None:
            return "no interval"
        return "exceeds" if low > (0.0 if margin else guess) else "unclear"

    @property
    def bound(self) -> float | None:
        """The most that the guarantees allow; None where that is nothing, or next to nothing."""
        bounds = [m.bound for m in self._figures if m.bound_status in ("limited", "vacuous")]
        known = bounds and None not in bounds and max(bounds) <= VOID
        return max(bounds) if known else None

    @property
    def limit(self) -> str:
        """ "limited", "vacuous", "not binding" or "none": what the guarantees say of this attack."""
        status = self.found.bound_status or "none"
        return "vacuous" if status == "limited" and self.bound is None else status

    @property
    def violated(self) -> bool:
        return any(one.violations for one in self._measured)

    @property
    def _measured(self) -> list[Aggregate]:
        return _known(self.lines, self.name)

    @property
    def _figures(self) -> list[Measure]:
        return [one.find("leakage", self.name) for one in self._measured]


def cases(spec: GoalReport, lines: Sequence[Aggregate]) -> list[Case]:
    """What there is to say of one goal under one defense; one case without `top` if nothing is."""
    head = headline(spec, lines)
    usual = typical(one for one in lines if one.status == "ok")
    spoken = [name for name in spec.spoken if _known(usual, name)]
    name = spoken[0] if spoken else head
    groups: dict[Any, list[Aggregate]] = {}
    for one in _known(usual, name):
        groups.setdefault(_group(spec, one), []).append(one)
    if not groups:
        return [Case(spec, tuple(lines), None, head)]
    return [
        Case(spec, tuple(mine), _strongest(spec, mine, name), name, str(group), i == len(groups))
        for i, (group, mine) in enumerate(sorted(groups.items()), 1)
    ]


def _group(spec: GoalReport, one: Aggregate) -> Any:
    groups = {
        "members": one.row.n_members,
        "records": one.row.records,
        "asked": formatting.asked(one.row),
    }
    return groups.get(spec.summary_by, "")


def _known(lines: Iterable[Aggregate], name: str) -> list[Aggregate]:
    """Those whose `name` is a number."""
    found = ((one, one.find("leakage", name)) for one in lines if one.status == "ok")
    return [one for one, measure in found if measure and measure.value is not None]


def _strongest(spec: GoalReport, lines: Sequence[Aggregate], name: str) -> Aggregate:
    """The largest gain, then the largest figure; attacks with additional knowledge come last."""

    def rank(one: Aggregate) -> tuple[bool, float, float]:
        gain = one.find("excess", name)
        gained = gain.value if gain and gain.value is not None else float("-inf")
        uninformed = not (spec.informed_by and spec.informed_by in one.baselines)
        return uninformed, gained, one.find("leakage", name).value

    return max(lines, key=rank)


# --------------------------------------------------------------------------- templates


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Plain text: pages escape what they print of it.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, autoescape=False,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.globals |= {
        "hundred": formatting.hundred, "epsilon": formatting.epsilon, "plural": nouns,
        "false_alarms": _alarms, "adversary": adversary, "binds": binds,
    }  # fmt: skip
    environment.globals["say"] = environment.get_template("sentences.j2").module
    return environment


def _spoken(spec: GoalReport, macro: str, subject: Row | Case) -> list[str]:
    """The sentences of one macro of the goal's template, or of the generic one."""
    environment = _environment()
    words = {
        "title": spec.title,
        "label": lambda name: formatting.metric(name, spec),
        "records": lambda row: formatting.kind(row.records, spec),
        "number": lambda value, name: formatting.number(value, _digits(spec, name)),
        "figure": lambda found, name: formatting.figure(found, _digits(spec, name)),
    }
    own = environment.from_string(spec.narrative).make_module(words)
    generic = environment.get_template("goal.j2").make_module(words)
    text = getattr(own, macro, None) or getattr(generic, macro)
    return [" ".join(line.split()) for line in str(text(subject)).splitlines() if line.strip()]


def _digits(spec: GoalReport, name: str) -> int:
    return formatting.label_of(name, spec).digits


def question(row: Row) -> list[str]:
    """What is asked of the attack, and about which data."""
    spec = spec_of(row.goal, [Aggregate.of(row)])
    asked = [f"Goal: {spec.title.lower()}."]
    if row.records or row.goal == "membership":
        asked = _spoken(spec, "question", row)
    note = f" ({row.data_note})" if row.data_note else ""
    asked.append(
        f"Unit: {row.unit or 'record'}. Data: {row.data or 'unknown'}{note}. Seed {row.seed}."
    )
    return asked + ["The data are simulated: no real patient is concerned."] * row.simulated


def summaries(aggregates: Sequence[Aggregate]) -> list[Summary]:
    """One for each target and defense, unmeasured ones last."""
    cells: dict[tuple[str, str], list[Aggregate]] = {}
    for one in aggregates:
        cells.setdefault((one.target, one.defense), []).append(one)
    silent = sorted(cells, key=lambda place: all(one.status != "ok" for one in cells[place]))
    return [Summary(*place, tuple(_about(cells[place], aggregates))) for place in silent]


def _about(mine: Sequence[Aggregate], everything: Sequence[Aggregate]) -> list[str]:
    found = [
        sentence
        for spec, lines in specs(mine)
        for case in cases(spec, lines)
        for sentence in (_spoken(spec, "summary", case) if case.top else _absent(spec, case))
    ]
    measured = [one for one in mine if one.status == "ok"]
    if not measured:
        return [*found, "Nothing measured does not mean that nothing leaks."]
    # Two goals may have the same to say of one guarantee.
    return list(dict.fromkeys([*found, *_price(measured, everything)]))


def _absent(spec: GoalReport, case: Case) -> list[str]:
    if case.unseen:
        return [f"{spec.title}: the defense hides what the attacks need ({case.reasons})."]
    return [f"{spec.title}: not measured ({case.reasons or 'no figure'})."]


# --------------------------------------------------------------------------- cost and promise


def _price(measured: Sequence[Aggregate], everything: Sequence[Aggregate]) -> list[str]:
    """The utility, compared with no defense, and what clients send."""
    size = max(one.row.n_members for one in measured)
    place = (measured[0].target, size, "none")
    mine = _utility(one for one in measured if one.row.n_members == size)
    plain = _utility(o for o in everything if (o.target, o.row.n_members, o.row.defense) == place)
    bytes_sent = [one.cost["client_bytes"] for one in measured if "client_bytes" in one.cost]
    sent = [f"Each client sends {formatting.size(max(bytes_sent))} in all."] if bytes_sent else []
    if not mine:
        return sent
    name, value = mine
    label = formatting.metric(name)
    first = f"{label[:1].upper()}{label[1:]} {value:.3f} with {size:,} in training"
    if measured[0].row.defense == "none" or not plain or plain[0] != name:
        return [f"{first}.", *sent]
    points = 100 * (plain[1] - value)
    way = "lower" if points >= 0 else "higher"
    return [f"{first}: {abs(points):.1f} points {way} than without a defense.", *sent]


def _utility(aggregates: Iterable[Aggregate]) -> tuple[str, float] | None:
    values: dict[str, list[float]] = {}
    for one in aggregates:
        name = formatting.main_utility(one.utility)
        if name and one.utility[name].value is not None:
            values.setdefault(name, []).append(one.utility[name].value)
    if not values:
        return None
    name, found = next(iter(values.items()))
    return name, sum(found) / len(found)


def nouns(unit: str) -> str:
    """ "patients", "images" or "records"."""
    return f"{unit.partition(' ')[0] or 'record'}s"


def _alarms(fpr: float) -> str:
    if 0 < fpr < 0.01:
        return f"1 false alarm in {1 / fpr:,.0f}"
    return f"{100 * fpr:.0f} false alarm{'s' if fpr > 0.01 else ''} in 100"


def adversary(row: Row) -> str:
    """Who attacks: ``a malicious attacker at the server``."""
    conduct, _, role = row.adversary.rpartition(" ")
    who = f"{conduct} {_SEATS.get(role, role or 'attacker')}".strip()
    return f"an {who}" if who[0] in "aeiou" or who.startswith("honest") else f"a {who}"


def binds(guarantee: Mapping[str, Any]) -> str:
    """Whom a guarantee binds: ``it binds an outsider and a client``."""
    roles = [f"an {r}" if r[:1] in "aeiou" else f"a {r}" for r in guarantee.get("adversaries", ())]
    if not roles:
        return "it binds nobody who is named"
    return "it binds " + " and ".join([", ".join(roles[:-1])] * (len(roles) > 1) + roles[-1:])


def promise(guarantee: Mapping[str, Any]) -> str:
    """One guarantee as a sentence."""
    unit, whom = guarantee.get("unit", "record"), guarantee.get("protects_from", "")
    if guarantee.get("epsilon") is None:
        text = str(guarantee.get("kind", "guarantee"))
    else:
        text = f"ε = {formatting.epsilon(guarantee['epsilon'])}"
        if guarantee.get("delta") is not None:
            text += f", δ = {guarantee['delta']:.3g}"
        text += f" differential privacy ({guarantee.get('adjacency', 'add/remove')})"
    text += f", protecting each {unit} from {whom}" if whom else f", per {unit}"
    if set(guarantee.get("adversaries", _ROLES)) != set(_ROLES):
        text += f"; {binds(guarantee)}"
    if guarantee.get("accountant"):
        text += f"; accounted by {guarantee['accountant']}"
    return text + "."


def guarantees(aggregates: Iterable[Aggregate]) -> list[dict[str, Any]]:
    """Distinct guarantees: where, the sentence, assumptions, mechanism."""
    found: dict[tuple, dict[str, Any]] = {}
    for one in aggregates:
        for guarantee in one.row.guarantees:
            parts = guarantee.get("mechanism", {}).items()
            mechanism = ", ".join(f"{key} {_plain(value)}" for key, value in parts)
            entry = {
                "target": one.target, "defense": one.defense, "sizes": set(),
                "promise": promise(guarantee), "mechanism": mechanism,
                "assumptions": list(guarantee.get("assumptions", ())),
            }  # fmt: skip
            place = (one.target, one.defense, entry["promise"], mechanism)
            found.setdefault(place, entry)["sizes"].add(one.row.n_members)
    return [
        {**entry, "sizes": ", ".join(f"{size:,}" for size in sorted(entry["sizes"]))}
        for entry in found.values()
    ]


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


STATUS_MEANING = {
    "ok": "measured.",
    "not applicable": "the attack needs something that the defense does not release, or the cell "
    "makes no sense. The reason is printed. It is not evidence of zero leakage.",
    "not run": "the time budget, Ctrl-C or a failure ended the grid before this cell. The reason is printed.",
    "failed": "an error. Failed seeds are counted with the others, never dropped.",
    "invalid": "a control failed, so the figure would mean nothing. It is left out of every mean.",
}
METHOD = (
    "Values are means over seeds. Both ends of an interval are means over seeds too: the seeds "
    "share their patients, so more seeds do not narrow it.",
    "The bound is the largest value that any attack can reach if the guarantee's assumptions "
    "hold. “Vacuous” means that the guarantee limits nothing for this unit. A dash means that there "
    "is no guarantee. A violation is a one-sided 99.9% lower bound of the evidence above it.",
)


def method(aggregates: Sequence[Aggregate]) -> list[str]:
    """How to read the page, for the goals that it shows."""
    own = [
        text for goal, lines in by_goal(aggregates).items() for text in spec_of(goal, lines).method
    ]
    return [*own, *METHOD]

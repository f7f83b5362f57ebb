"""What the numbers say, in the words of someone who has to answer for patients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medleak.api import Estimate
from medleak.report import gained_words, gains, inferred_words, naming, rebuilt_words
from medleak.report.aggregated import Aggregate, by_goal, of_goal

_ROLES = {"outsider", "client", "server"}


@dataclass(frozen=True)
class Saying:
    """A few sentences about one defense of one target."""

    target: str
    defense: str
    sentences: tuple[str, ...]


def sayings(aggregates: Sequence[Aggregate]) -> list[Saying]:
    """One for each target and defense, unmeasured ones last; from natural records if possible."""
    cells: dict[tuple[str, str], list[Aggregate]] = {}
    for one in aggregates:
        cells.setdefault((one.target, one.defense), []).append(one)
    silent = sorted(cells, key=lambda place: all(one.status != "ok" for one in cells[place]))
    return [Saying(*place, tuple(_about(cells[place], aggregates))) for place in silent]


def _about(mine: Sequence[Aggregate], everything: Sequence[Aggregate]) -> list[str]:
    members, rebuilt = by_goal(mine)
    told = rebuilt_words.sentences(rebuilt)
    for look, some in gains.looks(mine):
        told += gained_words.sentences(some, look)
    told += inferred_words.sentences(mine)
    found = [one for one in members if one.status == "ok"]
    if found:
        told += _members(found)
    elif members:
        reasons = dict.fromkeys(one.note for one in members)
        told.append(f"No attack was measured against it ({'; '.join(reasons)}).")
    measured = [one for one in mine if one.status == "ok"]
    if not measured:
        return [*told, "Nothing measured is not the same as nothing leaked."]
    # Two goals may have the same to say of one guarantee.
    return list(dict.fromkeys([*told, *_price(measured, everything)]))


def _members(measured: Sequence[Aggregate]) -> list[str]:
    """What membership attacks found."""
    natural = typical(measured)
    rates = naming.tpr_names(
        name
        for one in natural
        for name, e in one.leakage.items()
        if isinstance(e, Estimate) and e.value is not None
    )
    sentences = []
    if rates:
        fpr = min(rates, key=lambda rate: abs(rate - 0.01))
        for size in sorted({one.row.n_members for one in natural}):
            sized = [one for one in natural if one.row.n_members == size]
            sentences += _found(sized, rates[fpr], fpr, size)
        sentences += _promise(natural, rates[fpr])
    return sentences


def typical(measured: Sequence[Aggregate]) -> list[Aggregate]:
    """Natural records, counted by patient where both are to be had."""
    kinds = {one.row.records for one in measured}
    mine = [one for one in measured if "natural" not in kinds or one.row.records == "natural"]
    units = {one.row.unit for one in mine}
    return [one for one in mine if "patient" not in units or one.row.unit == "patient"]


def _found(sized: Sequence[Aggregate], name: str, fpr: float, size: int) -> list[str]:
    known = [
        one
        for one in sized
        if isinstance(e := one.leakage.get(name), Estimate) and e.value is not None
    ]
    if not known:
        return []
    top = max(known, key=lambda one: one.leakage[name].value)
    estimate = top.leakage[name]
    things = nouns(top.row.unit)
    attacks = f"the strongest of {len(known)} attacks tried" if len(known) > 1 else "the one tried"
    bounds = ""
    if estimate.low is not None and estimate.high is not None:
        bounds = f" (between {naming.hundred(estimate.low)} and {naming.hundred(estimate.high)})"
    told = (
        f"With {size:,} {things} in training: of 100 of them, an attacker who accepts "
        f"{_alarms(fpr)} finds about {naming.hundred(estimate.value)}{bounds} with {top.attack}, "
        f"{attacks}; guessing would find {naming.hundred(fpr)}."
    )
    return [f"{told} {_weighed(estimate, fpr)}"]


def _weighed(estimate: Estimate, fpr: float) -> str:
    if naming.coarse(estimate.flag):
        return "This rests on fewer than 10 false alarms: read it as an order of magnitude."
    if estimate.low is None:
        return "It has no interval, so it cannot be told from chance."
    if estimate.low > fpr:
        return "That is more than guessing would explain."
    return (
        "This cannot be told from guessing with the number of cases at hand; "
        "it does not show that nothing leaks."
    )


def _promise(natural: Sequence[Aggregate], name: str) -> list[str]:
    if not any(one.promises for one in natural):
        return ["There is no formal guarantee: an attack that was not tried may find more."]
    known = [one.ceilings.get(name) for one in natural if one.promises]
    if None in known:
        return [
            "The formal guarantee sets no limit here (vacuous): "
            "an attack that was not tried may find more."
        ]
    one = next(one for one in natural if one.promises)
    budget = f" (ε = {naming.epsilon(one.epsilon)})" if one.promises else ""
    above = sum(bool(one.violations) for one in natural)
    told = [
        f"If its assumptions hold, the guarantee{budget} lets no attack find more than "
        f"{naming.hundred(max(known))} of 100."
    ]
    return told + ["But an attack measured here lies above that: do not rely on it."] * bool(above)


def _price(measured: Sequence[Aggregate], everything: Sequence[Aggregate]) -> list[str]:
    size = max(one.row.n_members for one in measured)
    mine = _utility([one for one in measured if one.row.n_members == size])
    plain = _utility(
        [
            one
            for one in everything
            if (one.target, one.row.n_members, one.row.defense)
            == (measured[0].target, size, "none")
        ]
    )
    if not mine:
        return _sent(measured)
    name, value = mine
    told = f"{naming.metric(name).capitalize() if name.islower() else name} {value:.3f}"
    if measured[0].row.defense == "none" or not plain or plain[0] != name:
        return [f"{told} with {size:,} in training.", *_sent(measured)]
    points = 100 * (plain[1] - value)
    way = "lower" if points >= 0 else "higher"
    return [
        f"{told} with {size:,} in training: {abs(points):.1f} points {way} than without a defense.",
        *_sent(measured),
    ]


def _sent(measured: Sequence[Aggregate]) -> list[str]:
    sent = [one.cost["client_bytes"] for one in measured if "client_bytes" in one.cost]
    return [f"Each client sends {naming.size(max(sent))} in all."] if sent else []


def _utility(aggregates: Iterable[Aggregate]) -> tuple[str, float] | None:
    values: dict[str, list[float]] = {}
    for one in aggregates:
        name = naming.main_utility(one.utility)
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
    if fpr < 0.01:
        return f"1 false alarm in {1 / fpr:,.0f}"
    return f"{100 * fpr:.0f} false alarm{'s' if fpr > 0.01 else ''} in 100"


def promise(guarantee: Mapping[str, Any]) -> str:
    """One guarantee as a sentence."""
    unit, whom = guarantee.get("unit", "record"), guarantee.get("protects_from", "")
    if guarantee.get("epsilon") is None:
        told = str(guarantee.get("kind", "guarantee"))
    else:
        told = f"ε = {naming.epsilon(guarantee['epsilon'])}"
        if guarantee.get("delta") is not None:
            told += f", δ = {guarantee['delta']:.3g}"
        told += f" differential privacy ({guarantee.get('adjacency', 'add/remove')})"
    told += f", protecting each {unit} from {whom}" if whom else f", per {unit}"
    if set(guarantee.get("adversaries", _ROLES)) != _ROLES:
        told += f"; {rebuilt_words.whom(guarantee)}"
    if guarantee.get("accountant"):
        told += f"; accounted by {guarantee['accountant']}"
    return told + "."


def guarantees(aggregates: Iterable[Aggregate]) -> list[dict[str, Any]]:
    """Distinct guarantees: where, the sentence, assumptions, mechanism."""
    found: dict[tuple, dict[str, Any]] = {}
    for one in aggregates:
        for guarantee in one.row.guarantees:
            mechanism = ", ".join(
                f"{key} {_plain(value)}" for key, value in guarantee.get("mechanism", {}).items()
            )
            told = promise(guarantee), mechanism
            entry = {
                "target": one.target,
                "defense": one.defense,
                "sizes": set(),
                "promise": told[0],
                "mechanism": mechanism,
                "assumptions": list(guarantee.get("assumptions", ())),
            }
            found.setdefault((one.target, one.defense, *told), entry)["sizes"].add(
                one.row.n_members
            )
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
    "not run": "the time budget, Ctrl-C or a failure ended the grid before this cell: the reason.",
    "failed": "an error. Seeds that failed are counted beside the others, never dropped.",
    "invalid": "a control failed, so the figure would mean nothing and is left out of every mean.",
}

_MEANS = (
    "Values are means over seeds. Both ends of an interval are means over seeds too: the seeds "
    "share their patients, so more seeds do not narrow it."
)
_CEILING = (
    "The ceiling is the largest value that any attack can reach if the guarantee's assumptions "
    "hold. “Vacuous” means that the guarantee limits nothing for this unit; a dash means that there "
    "is no guarantee. A violation is a one-sided 99.9% lower bound above the ceiling."
)
METHOD = (
    "Game. About half of the challenge are members, drawn independently for each one with "
    "probability ½; the attack scores each and does not know who is who.",
    _MEANS,
    "A line of the picture joins the strongest attack of each training size. The strongest is "
    "picked after measuring, which favours the attacker a little.",
    "TPR at 1% FPR: the share of members found when 1% of non-members are wrongly accused. "
    "Guessing gives 1%. AUC: 0.5 is guessing, 1 is certainty.",
    _CEILING,
    "The worst group is the subgroup with the highest mean among those that were the most exposed "
    "in some seed. Small groups have wide intervals. A group with fewer than 10 members or 10 "
    "non-members is not measured: it may be more exposed than the worst group shown.",
    "Blind AUC is a classifier that tells members from non-members without asking the model. It "
    "should be near 0.5; further away, the split itself gives members away.",
    "Mislabelled canaries are records trained with a wrong label: they show what an attack finds "
    "when it is easiest, and are not typical patients.",
)


def method(aggregates: Sequence[Aggregate]) -> list[str]:
    """How to read the page, as far as its goals go."""
    members, rebuilt = by_goal(aggregates)
    told = [*(METHOD if members or not aggregates else (_MEANS, _CEILING))]
    told += rebuilt_words.METHOD if rebuilt else ()
    for look, _ in gains.looks(aggregates):
        told += gained_words.METHOD[look.goal]
    for goal, paragraphs in inferred_words.METHOD.items():
        told += paragraphs if of_goal(aggregates, goal) else ()
    return told

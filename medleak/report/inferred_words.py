"""Attributes and properties in words: what is asked, what was told, and what of it the model told."""

from __future__ import annotations

from collections.abc import Sequence

from medleak.api import Estimate
from medleak.report import naming
from medleak.report.aggregated import Aggregate, of_goal
from medleak.report.gains import without
from medleak.report.inferred_tables import HEAD, attribute
from medleak.results.row import Row

SHARE = "property_auc"
MESSAGE = "message"
"""The unit, where messages of federated training are asked about."""


def sentences(mine: Sequence[Aggregate]) -> list[str]:
    """What one defense of one target tells of its patients; empty without such attacks."""
    return _attributes(mine) + _properties(mine)


def _attributes(mine: Sequence[Aggregate]) -> list[str]:
    asked = of_goal(mine, "attribute")
    found = [one for one in asked if one.status == "ok" and _known(one, HEAD)]
    told = []
    for name in dict.fromkeys(map(attribute, found)):
        told += _attribute(name, [one for one in found if attribute(one) == name])
    if told:
        return [*told, UNLIMITED]
    reasons = "; ".join(dict.fromkeys(one.note for one in asked if one.note))
    return [f"No attribute was asked for ({reasons or 'no figure'})."] if asked else []


UNLIMITED = (
    "No guarantee about who was in training limits this: what the model says of everybody it says of "
    "each patient."
)


def _attribute(name: str, mine: Sequence[Aggregate]) -> list[str]:
    top = max(mine, key=lambda one: one.excess[HEAD].value if _gained(one) else float("-inf"))
    both = {
        one.row.records: one.leakage[HEAD].value
        for one in mine
        if (one.attack, one.row.n_members) == (top.attack, top.row.n_members)
    }
    message = top.row.unit == MESSAGE
    among, source = ("with the", "message") if message else ("among", "model")
    what = (
        "a message whose patients mostly have a value" if message else "a patient who has a value"
    )
    rates = " and ".join(f"{naming.hundred(v)} of 100 {among} {part}" for part, v in both.items())
    prior = without(top, HEAD)
    known = f"; without the {source} {naming.hundred(prior)}" if prior is not None else ""
    told = [
        f"Asked for {name}, {top.row.attack} tells {what} from one {'that' if message else 'who'} "
        f"has not: {rates} (50 is guessing){known}."
    ]
    gain = top.excess.get(HEAD)
    if gain is not None and gain.low is not None:
        more = "That is more than what is known without the model explains."
        same = "This cannot be told from what is known without the model; it does not show that nothing leaks."
        told.append(more if gain.low > 0 else same)
    return told


def _properties(mine: Sequence[Aggregate]) -> list[str]:
    """The strongest attack on each share that was asked for."""
    asked = of_goal(mine, "property")
    found = [one for one in asked if one.status == "ok" and _known(one, SHARE)]
    told = []
    for name in dict.fromkeys(one.row.records for one in found):
        some = [one for one in found if one.row.records == name]
        top = max(some, key=lambda one: one.leakage[SHARE].value)
        auc = top.leakage[SHARE]
        told.append(
            f"Of two training sets with different shares ({name}), {top.row.attack} tells which is "
            f"which in {naming.hundred(auc.value)} of 100 cases (50 is guessing)."
        )
        sure = auc.low is not None and auc.low > 0.5
        few = f"This cannot be told from guessing with {auc.n} targets; it does not show that nothing leaks."
        told.append("That is more than guessing would explain." if sure else few)
    reasons = "; ".join(dict.fromkeys(one.note for one in asked if one.note))
    return told or ([f"No share was told ({reasons or 'no figure'})."] if asked else [])


def _gained(one: Aggregate) -> bool:
    gain = one.excess.get(HEAD)
    return gain is not None and gain.value is not None


def _known(one: Aggregate, name: str) -> bool:
    found = one.leakage.get(name)
    return isinstance(found, Estimate) and found.value is not None


def game(row: Row) -> list[str]:
    """What is asked of the attack, and of whom."""
    return [
        _share(row) if row.goal == "property" else _told(row),
        f"Unit: {row.unit or 'record'}. Data: {row.data or 'unknown'}"
        + (f" ({row.data_note})" if row.data_note else "")
        + f". Seed {row.seed}.",
        *(["The data are simulated: no real patient is concerned."] if row.simulated else []),
    ]


def _share(row: Row) -> str:
    return (
        f"Property inference: each of {row.n_targets} targets was trained on about {row.n_members:,} "
        f"patients, among whom a value has one of two shares ({row.records}), by a coin. The attack says "
        "which; its shadows were drawn alike from auxiliary patients. Targets share the patients that "
        "they are drawn from."
    )


def _told(row: Row) -> str:
    asked = row.controls.get("asked", {})
    values = ", ".join(asked.get("values", ()))
    left = asked.get("left_out", 0)
    if row.unit == MESSAGE:
        return (
            f"Attribute inference: which {asked.get('attribute', 'value')} have most of the records behind "
            f"an observed message of federated training ({values})? The attack has auxiliary patients "
            f"with theirs, and the message. Attacked: the {row.records}. "
            + (f"{left} messages have no majority, and are left out. " if left else "")
            + "A client's messages are one observation."
        )
    return (
        f"Attribute inference: which {asked.get('attribute', 'value')} has a record that the attack does "
        f"not hold ({values})? It has auxiliary patients with theirs, and of the record the label and "
        "what the model says of it. "
        + (f"Asked about: {row.records}. " if row.records else "")
        + (f"{left} records have another value or none, and are left out. " if left else "")
        + "What is told of non-members goes with the picture in everybody; what is told of members "
        "beyond that, training added."
    )


METHOD = {
    "attribute": (
        "Attributes. The attacker has patients of its own with their attribute (sex, age band, site "
        "...), learns on what the model says of them, and guesses that of records that it does not "
        "hold. AUC: how often a record with a value outranks one without it; 0.5 is guessing. Several "
        "values are averaged.",
        "“Without the model” is the best of: guessing, the label alone and, on tables, the other "
        "features. The gain is what the model adds; in bold where its whole interval lies above 0. “The "
        "image itself” shows what could be seen in a picture that the attacker does not have.",
        "Members and non-members are asked about apart. Their difference is what training added; the "
        "rest goes with the picture in everybody, and no promise of differential privacy limits it.",
    ),
    "property": (
        "Properties. Each target is trained with one of two shares of a value among its patients; the "
        "attacker says which, from shadows of either share. AUC over targets: how often one of the "
        "higher share outranks one of the lower; 0.5 is guessing. The unit is a training set: a promise "
        "about single patients says nothing of a share of them.",
    ),
}
"""Goal -> how to read its tables."""

"""What was rebuilt from messages, in words, and who named whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medleak.api import Estimate
from medleak.goals.reconstruction.goal import AGES, CANDIDATE
from medleak.report import naming
from medleak.report.aggregated import RECONSTRUCTION, Aggregate
from medleak.report.gains import tidy, without
from medleak.report.rebuilt_tables import NAMED
from medleak.results.row import Row

_SEATS = {
    "server": "attacker at the server",
    "client": "attacker among the clients",
    "outsider": "outsider",
}
VOID = 0.995
"""A ceiling above this rules out next to nothing."""
UNSEEN = "No message is seen"


def sentences(mine: Sequence[Aggregate]) -> list[str]:
    """What one defense of one target leaves to be rebuilt; empty without such attacks."""
    measured = [one for one in mine if one.status == "ok" and _named(one)]
    if measured:
        top = strongest(measured)
        told = [_found(top, measured), _weighed(top), _recovered(top), _promise(top)]
        return [sentence for sentence in told if sentence]
    if not mine:
        return []
    reasons = "; ".join(dict.fromkeys(one.note for one in mine if one.note))
    if all(map(unseen, mine)):
        return [f"{UNSEEN} from which images could be rebuilt ({reasons})."]
    return [f"Nothing was rebuilt from messages ({reasons or 'no figure'})."]


def unseen(one: Aggregate) -> bool:
    """Whether the defense hides what the attack would have read."""
    return one.status == "not_applicable" and all(
        f"needs '{one.row.access}'" in reason for _, reason, _ in one.missing
    )


def strongest(measured: Sequence[Aggregate]) -> Aggregate:
    """The attack, and the age of the model, with the largest gain; named shares settle ties.

    One that was told who it may be comes after all that were not.
    """

    def rank(one: Aggregate) -> tuple[bool, float, float]:
        gain = one.excess.get(NAMED)
        known = gain is not None and gain.value is not None
        gained = gain.value if known else float("-inf")
        return (not informed(one), gained, one.leakage[NAMED].value)

    return max(measured, key=rank)


def informed(one: Aggregate) -> bool:
    """Whether the attack was told every other record of a message, and whom this one may be."""
    return CANDIDATE in one.baselines


def observing_client(adversary: str) -> str:
    """Who attacks: ``a malicious attacker at the server``."""
    conduct, _, role = adversary.rpartition(" ")
    who = f"{conduct} {_SEATS.get(role, role or 'attacker')}".strip()
    return f"an {who}" if who[0] in "aeiou" or who.startswith("honest") else f"a {who}"


def _hundred(share: float) -> str:
    """A share of some hundred images as a whole number out of 100."""
    return "less than 1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def _named(one: Aggregate) -> bool:
    found = one.leakage.get(NAMED)
    return isinstance(found, Estimate) and found.value is not None


def _found(top: Aggregate, measured: Sequence[Aggregate]) -> str:
    found, prior = top.leakage[NAMED], without(top, NAMED)
    attacks = len({one.attack for one in measured})
    how = f"the strongest of {attacks} attacks tried" if attacks > 1 else "the one tried"
    bounds = ""
    if None not in (found.low, found.high):
        bounds = f" (between {_hundred(found.low)} and {_hundred(found.high)})"
    told = (
        f"Of 100 images behind an observed message, {observing_client(top.row.adversary)} "
        f"{'who knows all the others and some candidates ' * informed(top)}names the right patient "
        f"for about {_hundred(found.value)}{bounds} with {top.attack}, {how}"
    )
    ages = len({one.row.records for one in measured})
    told += f", against the {top.row.records}" if ages > 1 and top.row.records else ""
    return f"{told}; without the message {_hundred(prior)}." if prior is not None else f"{told}."


def _weighed(top: Aggregate) -> str:
    gain = top.excess.get(NAMED)
    if gain is None or gain.value is None:
        return "There is no baseline without the message, so that this may have been known before."
    if gain.low is None:
        return "The gain has no interval, so it cannot be told from chance."
    if gain.low > 0:
        return "That is more than what is known without the message explains."
    return (
        "This cannot be told from what is known without the message, with the number of messages at "
        "hand; it does not show that nothing leaks."
    )


def _recovered(top: Aggregate) -> str:
    share = top.leakage.get("recovered")
    if not isinstance(share, Estimate) or share.value is None:
        return ""
    return (
        "Rebuilt closer to the original than another patient's image would be: "
        f"{_hundred(share.value)} of 100."
    )


def _promise(top: Aggregate) -> str:
    if not top.row.guarantees:
        return "There is no formal guarantee: an attack that was not tried may find more."
    binding = [one for one in top.row.guarantees if top.binds(one)]
    if not binding:
        return f"The formal guarantee does not bind {observing_client(top.row.adversary)}: {whom(top.row.guarantees[0])}."
    upper_bound = top.ceilings.get(NAMED)
    if upper_bound is None or upper_bound > VOID:
        return (
            "The formal guarantee sets no limit to this, or next to none: "
            "an attack that was not tried may find more."
        )
    above = NAMED in top.violations
    budgets = [one["epsilon"] for one in binding if one.get("epsilon") is not None]
    budget = f" (ε = {naming.epsilon(min(budgets))})" if budgets else ""
    told = (
        f"If its assumptions hold, the guarantee{budget} lets no such attacker name more than "
        f"{_hundred(upper_bound)} of 100."
    )
    return told + " But what was measured lies above that: do not rely on it." * above


def whom(guarantee: Mapping[str, Any]) -> str:
    """Whom a guarantee binds: ``it binds an outsider and a client``."""
    roles = [f"an {r}" if r[0] in "aeiou" else f"a {r}" for r in guarantee.get("adversaries", ())]
    if not roles:
        return "it binds nobody who is named"
    return "it binds " + " and ".join([", ".join(roles[:-1])] * (len(roles) > 1) + roles[-1:])


def game(row: Row) -> list[str]:
    """What is asked of the attack, and what counts as an answer."""
    things = "images" if row.unit.startswith("image") else "patients"
    rounds = {AGES[0]: "the first observed rounds", AGES[1]: "the last observed rounds"}
    when = (
        f" Attacked: the {row.records}, in {rounds[row.records]}." if row.records in rounds else ""
    )
    told = [
        "Reconstruction: the attack rebuilds the images behind observed messages of federated "
        "training. What it rebuilds is set beside the originals one to one, and it names the patient "
        f"whose image is the nearest, among those of all {2 * row.n_members:,} {things} who may have "
        f"taken part.{when}",
        f"Unit: {row.unit or 'record'}. Data: {row.data or 'unknown'}"
        + (f" ({row.data_note})" if row.data_note else "")
        + f". Seed {row.seed}.",
    ]
    if row.simulated:
        told.append("The data are simulated: no real patient is concerned.")
    return told


def beside(row: Row, name: str) -> list[str]:
    """What the baselines reach without the message or model, and what it adds to the best."""
    source = "message" if row.goal == RECONSTRUCTION else "model"
    digits = naming.digits(name)
    gain = tidy(row.excess.get(name), digits)
    known = [
        f"{prior} {naming.number(block[name].value, digits)}"
        for prior, block in row.baselines.items()
        if name in block
    ]
    told = [f"- without the {source}: {', '.join(known)}"] if known else []
    if gain is not None and gain.value is not None:
        bounds = naming.interval(gain.low, gain.high, digits)
        said = f"{naming.number(gain.value, digits)} {bounds}".rstrip()
        told.append(f"- gain over the best of them: {said}")
    return told


METHOD = (
    "Rebuilding. The attacker reads some of the messages of federated training and rebuilds the images "
    "behind each of them. “Fresh” models are attacked in the first observed rounds, “trained” ones in "
    "the last. A failed trial is a bad image, never a missing one.",
    "Identified: the share of rebuilt images whose nearest image, among those of all patients who may "
    "have taken part, is of the right patient. Recovered: the share closer to its original than the "
    "threshold of the metric. PSNR and SSIM measure likeness, and a blurred mean has a good PSNR.",
    "“Without message” is the best of the baselines: the mean image, the most typical one, and what the "
    "attack makes of other messages. The gain is what the message adds to it; in bold where its whole "
    "interval lies above 0.",
    "Images behind one message succeed or fail together: intervals treat messages and patients as units.",
)

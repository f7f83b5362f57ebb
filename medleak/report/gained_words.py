"""What pictures of classes tell, in words."""

from __future__ import annotations

from collections.abc import Sequence

from medleak.api import Estimate
from medleak.report import naming
from medleak.report.aggregated import Aggregate
from medleak.report.gains import Look, without
from medleak.results.row import Row


def sentences(mine: Sequence[Aggregate], look: Look) -> list[str]:
    """What one defense of one target leaves to be found out; what was not measured is said."""
    head, _ = look.metrics(mine)
    measured = [one for one in mine if one.status == "ok" and _known(one, head)]
    if not measured:
        reasons = "; ".join(dict.fromkeys(one.note for one in mine if one.note))
        return [f"{look.title}: not measured ({reasons or 'no figure'})."]
    top = max(measured, key=lambda one: _gain(one, head))
    return [_found(top, head, look), _weighed(top, head), *_individual(top)]


def _known(one: Aggregate, head: str) -> bool:
    found = one.leakage.get(head)
    return isinstance(found, Estimate) and found.value is not None


def _gain(one: Aggregate, head: str) -> float:
    gain = one.excess.get(head)
    return gain.value if gain is not None and gain.value is not None else float("-inf")


def _found(top: Aggregate, head: str, look: Look) -> str:
    found, prior = top.leakage[head], without(top, head)
    digits = naming.digits(head)
    bounds = naming.interval(found.low, found.high, digits)
    told = f"{look.title}: {naming.metric(head)} {naming.number(found.value, digits)} {bounds}".rstrip()
    told += f" with {top.attack}" + f", {top.row.records}" * bool(top.row.records)
    beside = f"; without the model {naming.number(prior, digits)}" if prior is not None else ""
    return f"{told}{beside}."


def _weighed(top: Aggregate, head: str) -> str:
    gain = top.excess.get(head)
    if gain is None or gain.low is None:
        return "The gain has no interval, so it cannot be told from chance."
    if gain.low > 0:
        return "That is more than what is known without the model explains."
    return (
        "This cannot be told from what is known without the model, with the number of cases at hand; it "
        "does not show that nothing leaks."
    )


def _individual(top: Aggregate) -> list[str]:
    gap = top.leakage.get("ssim_gap")
    if not isinstance(gap, Estimate) or gap.low is None:
        return []
    if gap.low > 0:
        return [
            "The pictures are more like the images trained on than like others of the same class."
        ]
    return ["They are no more like the images trained on than like others of the same class."]


_GAMES = {
    "inversion": "Model inversion: the attack makes pictures of classes of the model. An evaluator, a network "
    "of another architecture that was trained on other records of the same classes, says whom they show.",
}


def game(row: Row) -> list[str]:
    """What is asked of the attack, and about what data."""
    told = [
        _GAMES[row.goal],
        f"Asked about: {row.records or 'nothing'}. Unit: {row.unit or 'record'}. Data: {row.data or 'unknown'}"
        + f" ({row.data_note})" * bool(row.data_note)
        + f". Seed {row.seed}.",
    ]
    return told + ["The data are simulated: no real patient is concerned."] * row.simulated


METHOD = {
    "inversion": (
        "Model inversion. acc@k: the share of pictures whose class is among the k likeliest for an evaluator "
        "that is at least as accurate as the model (else the row is invalid). Beside it stand pictures that "
        "owe nothing to the model: the class mean of auxiliary patients, their images that the model itself "
        "likes best, the attack's prior alone, and the attack on a model with shuffled labels.",
        "What a model tells of a class is a prototype. Somebody is told where pictures are more like the images "
        "that were trained on than like others of the same class: the SSIM gap. Where the classes are persons, a "
        "recognised picture is a picture of somebody.",
    ),
}

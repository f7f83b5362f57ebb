"""One row in words: game, adversary, defense, promise, evidence, cost, and how to repeat it."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from medleak.api import Curve, Estimate
from medleak.report import gained_words, inferred_words, naming, rebuilt_words, words
from medleak.report.aggregated import INFERRED, RECONSTRUCTION, Aggregate, aggregate
from medleak.results.row import Row

_ADVERSARIES = {"": "The attacker", "client": "a client of the federation", "server": "the server"}
_ACCESS = {
    "labels": "asks the model and sees the predicted class only",
    "scores": "asks the model and sees its scores",
    "weights": "holds the weights of the model",
    "updates": "sees the updates of single clients",
    "aggregate": "sees the aggregate of the clients' updates",
    "ciphertext": "sees ciphertexts only",
    "records": "holds the released records",
    "generator": "holds the released generator",
}


def explain(row: Row) -> str:
    """The row as paragraphs, ending with the command that repeats it."""
    parts = {
        "Status": _status(row),
        "Game": _game(row),
        "Adversary": _adversary(row),
        "Defense": _defense(row),
        "Guarantee": _guarantees(row),
        "Evidence": _evidence(row),
        "Ceiling": _ceilings(row),
        "Subgroups": _groups(row),
        "Utility": [_line(name, e, _counted(row)) for name, e in row.utility.items()],
        "Controls": _controls(row),
        "Cost": _cost(row),
        "Repeat": [command(row)],
    }
    extra = f" ({naming.extras(row.extra)})" if row.extra else ""
    simulated = f"  [{naming.SIMULATED}]" if row.simulated else ""
    title = f"Row {row.key}: {row.attack} against {row.defense} on {row.target}{extra}{simulated}"
    told = [title, "=" * len(title)]
    for name, lines in parts.items():
        if lines:
            told += ["", name, *(_wrapped(line, name == "Repeat") for line in lines)]
    return "\n".join(told) + "\n"


def command(row: Row) -> str:
    """``medleak run target=... seed=0``, with the plugin folders it takes, quoted for the shell."""
    overrides = row.provenance.get("overrides") or [
        f"target={row.target}", f"defense={row.defense}", f"attack={row.attack}",
        f"n_members={row.n_members}", f"seed={row.seed}",
        *(f"{key}={value}" for key, value in row.extra.items()),
    ]  # fmt: skip
    folders = [
        word for folder in row.provenance.get("plugins", ()) for word in ("--plugins", folder)
    ]
    return shlex.join(["medleak", *map(str, folders), "run", *map(str, overrides)])


def _wrapped(line: str, verbatim: bool) -> str:
    if verbatim:
        return f"  {line}"
    return textwrap.fill(line, 96, initial_indent="  ", subsequent_indent="    ")


def _game(row: Row) -> list[str]:
    unit = row.unit or "record"
    if row.goal == RECONSTRUCTION:
        return rebuilt_words.game(row)
    if row.goal != "membership" and not row.records:
        return [f"Goal: {row.goal}. Unit: {unit}. Data: {row.data or 'unknown'}."]
    if row.goal in INFERRED:
        return inferred_words.game(row)
    if row.goal != "membership":
        return gained_words.game(row)
    told = [
        f"Membership: the attack scores each {unit} of the challenge, and a high score says “was in "
        f"training”. Each of {2 * row.n_members:,} {words.nouns(_drawn(row))} was in training with "
        f"probability 1/2, independently{_whole(row)} (about {row.n_members:,} members).",
        (f"Records asked about: {naming.kind(row.records)}. " if row.records else "")
        + f"Data: {row.data or 'unknown'}"
        + (f" ({row.data_note})" if row.data_note else "")
        + f". Seed {row.seed}.",
    ]
    if row.simulated:
        told.append("The data are simulated: no real patient is concerned.")
    return told


def _adversary(row: Row) -> list[str]:
    if not (row.access or row.adversary):
        return []
    conduct, _, role = row.adversary.rpartition(" ")
    who = _ADVERSARIES.get(role, f"an {role}" if role[:1] in "aeiou" else f"a {role}")
    who = f"{who[:1].upper()}{who[1:]}" + f" ({conduct})" * bool(conduct)
    how = _ACCESS.get(row.access, f"sees {row.access}" if row.access else "access not recorded")
    told = [f"{who} {how}" + (" (through a plain twin of the encrypted one)" * row.twin) + "."]
    if conduct == "malicious":
        told.append("It changes what is sent, so as to read more from what comes back.")
    if row.n_shadows:
        held = {
            "audit": "trained on patients of the challenge itself: an auditor's power",
            "auxiliary": "trained on other patients: what a real outsider could do",
        }.get(row.pool, row.pool)
        models = naming.count(row.n_shadows, "shadow model")
        told.append(f"It trained {models} under the same defense, {held}.")
    elif row.goal == "membership":
        told.append("It trained no shadow models.")
    return told


def _defense(row: Row) -> list[str]:
    slots = row.provenance.get("slots") or row.provenance.get("defense")
    if isinstance(slots, Mapping) and slots:
        return [f"{row.defense}, {name} slot: {_block(value)}" for name, value in slots.items()]
    if row.defense == "none":
        return ["none: every slot is empty; the model is released as trained."]
    return [row.defense]


def _block(value: Any) -> str:
    """A YAML block as the call that it stands for."""
    if isinstance(value, Mapping) and "_target_" in value:
        rest = ", ".join(f"{k}={_block(v)}" for k, v in value.items() if k != "_target_")
        return f"{str(value['_target_']).rpartition('.')[2]}({rest})"
    if isinstance(value, Mapping):
        return ", then ".join(map(_block, value.values()))
    if isinstance(value, list | tuple):
        return ", then ".join(map(_block, value))
    return str(value)


def _guarantees(row: Row) -> list[str]:
    if not row.guarantees:
        return ["None. Nothing limits an attack that was not tried."]
    told = []
    for guarantee in row.guarantees:
        told.append(words.promise(guarantee))
        bound = _one(row).binds(guarantee)
        if row.goal == RECONSTRUCTION or not bound:
            verb = "binds" if bound else "does not bind"
            told.append(f"It {verb} {rebuilt_words.observing_client(row.adversary)}.")
        told += [f"assumes: {assumption}" for assumption in guarantee.get("assumptions", ())]
    return told


def _status(row: Row) -> list[str]:
    word = naming.STATUS[row.status]
    told = [f"{word}: {row.reason}" if row.reason else word]
    if row.status != "ok":
        none = "There is no figure here." if not row.leakage else "Its figures are no evidence."
        told.append(f"{none} That is not evidence that nothing leaks.")
    return told


def _line(name: str, estimate: Estimate | Curve, unit: str) -> str:
    if isinstance(estimate, Curve):
        return f"{naming.metric(name)}: a curve of {len(estimate.x)} points (n = {naming.count(estimate.n, unit)})"
    if estimate.value is None:
        return f"{naming.metric(name)}: not measured ({estimate.flag or 'no reason recorded'})"
    bounds = naming.interval(estimate.low, estimate.high, naming.digits(name))
    level = f" {100 * estimate.level:g}% {estimate.method}".rstrip() if bounds else ""
    flag = f"; beware: {estimate.flag}" if estimate.flag else ""
    one_sided = estimate.high is None and estimate.low == estimate.value
    digits = naming.digits(name)
    value = naming.bound(estimate.value) if one_sided else naming.number(estimate.value, digits)
    level = f", {100 * estimate.level:g}% {estimate.method}" if one_sided else level
    told = f"{naming.metric(name)} {value} {bounds}".rstrip() + level
    return f"{told.strip()}, n = {naming.count(estimate.n, unit)}{flag}"


def _evidence(row: Row) -> list[str]:
    units = {"training set": "target", "message": "client"}
    told, unit = [], units.get(row.unit, _counted(row))
    for name, estimate in row.leakage.items():
        told += [_line(name, estimate, unit), *rebuilt_words.beside(row, name)]
    for name, spread in row.spread.items():
        values = ", ".join(f"{part} {spread[part]:.3f}" for part in ("mean", "sd", "min", "max"))
        told.append(f"{naming.metric(name)} over {spread['n']} targets in turn: {values}")
    return told


def _ceilings(row: Row) -> list[str]:
    if not row.guarantees:
        return []
    if not any(map(_one(row).binds, row.guarantees)):
        return ["None: no guarantee binds this attacker."]
    # No promise speaks of the likeness of images: their ceilings are vacuous whatever it says.
    silent = row.goal == RECONSTRUCTION
    return [
        _upper_bound(row, name, value)
        for name, value in row.ceilings.items()
        if isinstance(row.leakage.get(name), Estimate)
        and not (silent and value is None and name != rebuilt_words.NAMED)
    ]


def _one(row: Row) -> Aggregate:
    return aggregate([row])[0]


def _upper_bound(row: Row, name: str, value: float | None) -> str:
    label = naming.metric(name)
    if value is None:
        return f"{label}: vacuous; the guarantee limits nothing for this unit."
    told = f"{label}: at most {naming.limit(name, value)}"
    measured = row.leakage[name]
    if name in row.violations:
        return f"{told}. VIOLATED: the 99.9% lower bound of the evidence lies above it."
    if measured.value is None:
        return f"{told}; nothing to compare it with."
    if measured.high is None:
        return f"{told}; a lower bound shows no violation here, and no promise kept."
    if measured.high <= value:
        return f"{told}; the whole interval of the evidence lies under it."
    side = "value lies under" if measured.value <= value else "value lies above"
    return f"{told}; the {side} it, and the interval reaches across: no violation shown."


def _groups(row: Row) -> list[str]:
    told, unit = [], _counted(row)
    for name, worst in row.worst_group.items():
        bounds = naming.interval(worst.get("low"), worst.get("high"))
        others = [block[name] for block in row.groups.values() if name in block]
        few = sum(estimate.value is None for estimate in others)
        rest = f"; {few} more too small to measure" if few else ""
        told.append(
            f"Most exposed in {naming.metric(name)}: {worst['group']} "
            f"{naming.number(worst['value'])} {bounds}, n = {naming.count(worst['n'], unit)}, "
            f"of {naming.count(len(others) - few, 'group')} measured{rest}."
        )
    return told


def _controls(row: Row) -> list[str]:
    told = []
    blind = row.controls.get("blind_auc")
    if isinstance(blind, Estimate):
        told.append(
            f"Model-free baseline (should be near 0.5): {_line('auc', blind, _counted(row))}"
        )
    tampering = row.controls.get("tampering", {})
    if isinstance(tampering.get("auc"), Estimate):
        told.append("Clients tell tampered models from honest ones:")
        told += [
            f"- {_line(name, found, 'client')}"
            for name, found in tampering.items()
            if isinstance(found, Estimate)
        ]
        kept = "keeps" if tampering.get("architecture_kept") else "does not keep"
        told.append(f"What they are sent {kept} the architecture that was agreed on.")
    evaluator = row.controls.get("evaluator", {})
    if evaluator:
        told.append(
            f"Accuracy on the same {naming.count(evaluator['n'], 'record')}: evaluator "
            f"{evaluator['evaluator']:.3f}, target {evaluator['target']:.3f}."
        )
    replica = row.controls.get("replica")
    if isinstance(replica, Mapping) and row.n_shadows:
        told.append(f"Replica check {'passed' if replica.get('ok') else 'FAILED'}.")
        told += [f"- {note}" for note in replica.get("notes", ())]
    return told


def _cost(row: Row) -> list[str]:
    told = [_spent(name, value) for name, value in row.cost.items() if value is not None]
    return [", ".join(told) + "."] if told else []


def _spent(name: str, value: float) -> str:
    stem, _, unit = name.rpartition("_")
    if unit == "seconds":
        return f"{stem} {naming.seconds(value)}"
    if unit == "bytes":
        return f"{stem} sends {naming.size(value)}"
    return f"{name.replace('_', ' ')} {value:,.0f}"


def _drawn(row: Row) -> str:
    """Whose membership is decided: of a patient's records, never of one alone."""
    return "patient" if row.unit == "record" else row.unit


def _counted(row: Row) -> str:
    """What `n` counts: patients, whose records are no evidence of their own."""
    return "image" if row.unit.startswith("image") else "patient"


def _whole(row: Row) -> str:
    return "" if row.unit.startswith("image") else ", with all its records"

"""One row in words: question, adversary, defense, guarantee, evidence, cost, how to repeat it."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping
from typing import Any

from medleak.api.goal_report import GoalReport
from medleak.core.formatting import count
from medleak.report import formatting, narrative
from medleak.report.columns import rounded
from medleak.report.specs import headline, spec_of
from medleak.results.aggregate import Aggregate, extras, status_name
from medleak.results.measures import Measure
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
    one = Aggregate.of(row)
    spec = spec_of(row.goal, [one])
    parts = {
        "Status": _status(row),
        "Question": narrative.question(row),
        "Adversary": _adversary(row),
        "Defense": _defense(row),
        "Guarantee": _guarantees(one),
        "Evidence": _evidence(one, spec),
        "Upper bound": _bounds(one, spec),
        "Subgroups": _groups(one, spec),
        "Utility": [_line(m, _counted(row)) for m in one.measures if m.kind == "utility"],
        "Controls": _controls(one),
        "Cost": _cost(row),
        "Repeat": [command(row)],
    }
    axes = f" ({extras(row.extra)})" if row.extra else ""
    simulated = f"  [{formatting.SIMULATED}]" if row.simulated else ""
    title = f"Row {row.key}: {row.attack} against {row.defense} on {row.target}{axes}{simulated}"
    text = [title, "=" * len(title)]
    for name, lines in parts.items():
        if lines:
            text += ["", name, *(_wrapped(line, name == "Repeat") for line in lines)]
    return "\n".join(text) + "\n"


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


def _adversary(row: Row) -> list[str]:
    if not (row.access or row.adversary):
        return []
    conduct, _, role = row.adversary.rpartition(" ")
    who = _ADVERSARIES.get(role, f"an {role}" if role[:1] in "aeiou" else f"a {role}")
    who = f"{who[:1].upper()}{who[1:]}" + f" ({conduct})" * bool(conduct)
    how = _ACCESS.get(row.access, f"sees {row.access}" if row.access else "access not recorded")
    text = [
        f"{who} {how}"
        + (" (through a plaintext surrogate of the encrypted model)" * row.plaintext_surrogate)
        + "."
    ]
    if conduct == "malicious":
        text.append("It changes what it sends, to read more from the answers.")
    if row.n_shadows:
        held = {
            "audit": "trained on patients of the challenge itself: an auditor's power",
            "auxiliary": "trained on other patients: what a real outsider could do",
        }.get(row.pool, row.pool)
        models = count(row.n_shadows, "shadow model")
        text.append(f"It trained {models} under the same defense, {held}.")
    elif row.goal == "membership":
        text.append("It trained no shadow models.")
    return text


def _defense(row: Row) -> list[str]:
    slots = row.provenance.get("slots") or row.provenance.get("defense")
    if isinstance(slots, Mapping) and slots:
        return [f"{row.defense}, {name} stage: {_block(value)}" for name, value in slots.items()]
    if row.defense == "none":
        return ["none: no stage is filled; the model is released as trained."]
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


def _guarantees(one: Aggregate) -> list[str]:
    if not one.row.guarantees:
        return ["None. Nothing limits an attack that was not tried."]
    text = []
    for guarantee in one.row.guarantees:
        verb = "binds" if one.binds(guarantee) else "does not bind"
        text.append(narrative.promise(guarantee))
        text.append(f"It {verb} {narrative.adversary(one.row)}.")
        text += [f"assumes: {assumption}" for assumption in guarantee.get("assumptions", ())]
    return text


def _status(row: Row) -> list[str]:
    word = status_name(row.status)
    text = [f"{word}: {row.reason}" if row.reason else word]
    if row.status != "ok":
        none = "There is no figure here." if not row.leakage else "Its figures are no evidence."
        text.append(f"{none} That is not evidence that nothing leaks.")
    return text


def _line(found: Measure, unit: str, spec: GoalReport | None = None) -> str:
    """``AUC 0.566 [0.541, 0.591] 95% bootstrap, n = 500 patients``."""
    label, n = formatting.metric(found.name, spec), count(found.n, unit)
    if found.points:
        return f"{label}: a curve of {found.points} points (n = {n})"
    if found.value is None:
        return f"{label}: not measured ({found.flag or 'no reason recorded'})"
    text = formatting.figure(found, formatting.label_of(found.name, spec).digits)
    if found.low is not None:
        text = f"{text} {100 * found.level:g}% {found.method}".rstrip()
    warning = f"; warning: {found.flag}" if found.flag else ""
    return f"{label} {text}, n = {n}{warning}"


def _evidence(one: Aggregate, spec: GoalReport) -> list[str]:
    """Every figure, with what the baselines reach and the gain over the best of them."""
    units = {"training set": "target", "message": "client"}
    unit = units.get(one.row.unit, _counted(one.row))
    text = []
    for found in one.measures:
        if found.kind == "leakage":
            text += [_line(found, unit, spec), *_compared(one, found.name, spec)]
    for name, spread in one.row.spread.items():
        values = ", ".join(f"{part} {spread[part]:.3f}" for part in ("mean", "sd", "min", "max"))
        label = formatting.metric(name, spec)
        text.append(f"{label} over {spread['n']} targets in turn: {values}")
    return text


def _compared(one: Aggregate, name: str, spec: GoalReport) -> list[str]:
    digits = formatting.label_of(name, spec).digits
    known = ", ".join(
        f"{m.baseline} {formatting.number(m.value, digits)}"
        for m in one.measures
        if m.kind == "baseline" and m.name == name
    )
    gain = rounded(one.find("excess", name), digits)
    text = [f"- without the {spec.source}: {known}"] if known else []
    if gain is not None and gain.value is not None:
        text.append(f"- gain over the best of them: {formatting.figure(gain, digits)}")
    return text


def _bounds(one: Aggregate, spec: GoalReport) -> list[str]:
    if not one.row.guarantees:
        return []
    if not any(map(one.binds, one.row.guarantees)):
        return ["None: no guarantee binds this attacker."]
    # No promise speaks of how similar images are: those vacuous bounds say nothing.
    silent, head = bool(one.excess), headline(spec, [one])
    return [
        _bound(found, spec)
        for found in one.measures
        if found.kind == "leakage" and found.name in one.upper_bounds and not found.points
        if not (silent and found.bound is None and found.name != head)
    ]


def _bound(found: Measure, spec: GoalReport) -> str:
    label = formatting.metric(found.name, spec)
    if found.bound is None:
        return f"{label}: vacuous; the guarantee limits nothing for this unit."
    text = f"{label}: at most {formatting.limit(found.name, found.bound)}"
    if found.violated:
        return f"{text}. VIOLATED: the 99.9% lower bound of the evidence lies above it."
    if found.value is None:
        return f"{text}; there is no figure to compare with."
    if found.high is None:
        return f"{text}; a lower bound shows no violation here, and does not prove the promise."
    if found.high <= found.bound:
        return f"{text}; the whole interval of the evidence lies below it."
    side = "below" if found.value <= found.bound else "above"
    return f"{text}; the value lies {side} it and the interval contains it: no violation shown."


def _groups(one: Aggregate, spec: GoalReport) -> list[str]:
    text, unit = [], _counted(one.row)
    for name, (group, worst) in one.worst_group.items():
        digits = formatting.label_of(name, spec).digits
        others = [block[name] for block in one.groups.values() if name in block]
        few = sum(estimate.value is None for estimate in others)
        rest = f"; {few} more are too small to measure" if few else ""
        text.append(
            f"Most exposed in {formatting.metric(name, spec)}: {group} "
            f"{formatting.figure(worst, digits)}, n = {count(worst.n, unit)}, "
            f"of {count(len(others) - few, 'group')} measured{rest}."
        )
    return text


def _controls(one: Aggregate) -> list[str]:
    row, unit, text = one.row, _counted(one.row), []
    for found in one.measures:
        if found.kind == "control":
            blind = "Model-free baseline (should be near 0.5): " * (found.name == "blind_auc")
            text.append(blind + _line(found, unit))
    detected = [m for m in one.measures if m.kind == "tampering" and not m.points]
    if detected:
        kept = "has" if row.controls["tampering"].get("architecture_kept") else "does not have"
        text.append("Clients distinguish tampered models from honest ones:")
        text += [f"- {_line(found, 'client')}" for found in detected]
        text.append(f"The model that they receive {kept} the agreed architecture.")
    evaluator = row.controls.get("evaluator")
    if evaluator:
        text.append(
            f"Accuracy on the same {count(evaluator['n'], 'record')}: evaluator "
            f"{evaluator['evaluator']:.3f}, target {evaluator['target']:.3f}."
        )
    if one.replica is not None:
        ok, notes = one.replica
        text += [f"Replica check {'passed' if ok else 'FAILED'}.", *(f"- {note}" for note in notes)]
    return text


def _cost(row: Row) -> list[str]:
    text = [_spent(name, value) for name, value in row.cost.items() if value is not None]
    return [", ".join(text) + "."] if text else []


def _spent(name: str, value: float) -> str:
    stem, _, unit = name.rpartition("_")
    if unit == "seconds":
        return f"{stem} {formatting.seconds(value)}"
    if unit == "bytes":
        return f"{stem} sends {formatting.size(value)}"
    return f"{name.replace('_', ' ')} {value:,.0f}"


def _counted(row: Row) -> str:
    """What `n` counts: patients, whose records are no evidence of their own."""
    return "image" if row.unit.startswith("image") else "patient"

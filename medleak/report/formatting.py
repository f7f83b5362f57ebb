"""How names and numbers are printed: one place, so that every table and plot says the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from medleak.api.goal_report import GoalReport, MeasureLabel

if TYPE_CHECKING:
    from medleak.results.row import Row

NONE = "–"
VACUOUS = "vacuous"
SIMULATED = "simulated (phantom)"

_SHARED = {
    "auc": MeasureLabel("AUC"),
    "auroc": MeasureLabel("AUROC"),
    "mcc": MeasureLabel("MCC"),
    "dice": MeasureLabel("Dice"),
    "iou": MeasureLabel("IoU"),
    "pixel_accuracy": MeasureLabel("pixel accuracy"),
    "roc": MeasureLabel("ROC"),
    "blind_auc": MeasureLabel("blind AUC"),
}
"""Measures of utility and controls; those of leakage stand in the spec of their goal."""
_MAIN_UTILITY = ("accuracy", "balanced_accuracy", "auroc", "mcc", "dice", "iou")
COSTS = {
    "train_seconds": "training the target",
    "client_bytes": "a client sends",
    "server_bytes": "the server sends",
    "client_seconds": "a client computes",
    "server_seconds": "the server computes",
    "query_seconds": "an encrypted query takes",
    "query_overhead": "times a plain query",
    "query_bytes_in": "a query sends",
    "query_bytes_out": "a query returns",
    "shadow_seconds": "training the shadows",
    "attack_seconds": "attacking",
    "queries": "queries",
}
"""Cost -> its heading, in the order of the table."""


def label_of(name: str, spec: GoalReport | None = None) -> MeasureLabel:
    """How a measure is printed: as its goal says, or by a name made from its own."""
    known = spec.labels.get(name) if spec else None
    if known or (known := _SHARED.get(name)):
        return known
    if fpr := fpr_of(name):
        return MeasureLabel(f"TPR at {percent(fpr)} FPR", short=f"TPR@{percent(fpr)}")
    if match := re.fullmatch(r"precision_at_prior_(\d+)", name):
        return MeasureLabel(f"precision at a prior of {match[1]}%")
    return MeasureLabel(name.replace("_", " "))


def metric(name: str, spec: GoalReport | None = None, what: str = "") -> str:
    """The printed name of a measure, or of its "gain" or "bound", with its unit."""
    label = label_of(name, spec)
    unit = f" ({label.unit})" if label.unit and what != "bound" else ""
    return f"{label.label} {what}".rstrip() + unit


def short(name: str, spec: GoalReport | None = None) -> str:
    """The name of a measure in the terminal."""
    label = label_of(name, spec)
    return label.short or metric(name, spec)


def fpr_of(name: str) -> float | None:
    """The false-positive rate that a metric's name speaks of; None where it speaks of none.

    Percent, and a leading zero stands before the point: ``tpr_at_1fpr`` is 1%, ``tpr_at_01fpr`` 0.1%.
    """
    match = re.fullmatch(r"tpr_at_(\d+(?:\.\d+)?)(?:pct)?_?fpr", name)
    if not match:
        return None
    digits = match[1]
    if digits.startswith("0") and "." not in digits:
        digits = f"0.{digits[1:] or 0}"
    return float(digits) / 100


def percent(fraction: float) -> str:
    """``0.01`` as ``1%``."""
    return f"{100 * fraction:.3g}%"


def hundred(fraction: float) -> str:
    """A fraction as a count out of 100."""
    count = 100 * fraction
    return f"{count:.0f}" if count >= 9.95 or count == int(count) else f"{count:.1f}"


def kind(records: str, spec: GoalReport | None = None) -> str:
    """The printed name of a kind of challenge record."""
    kind, comma, rest = records.partition(", ")
    named = spec.records.get(kind, kind) if spec else kind
    return (named + comma + rest) or NONE


def asked(row: Row) -> str:
    """The attribute that was asked about, or was to be; "" where the goal asks for none."""
    axes = {name.rpartition(".")[2]: value for name, value in row.extra.items()}
    return str(row.controls.get("asked", {}).get("attribute") or axes.get("attribute", ""))


def tpr_names(names: Iterable[str]) -> dict[float, str]:
    """False-positive rate -> metric name, the largest rate first."""
    found = {fpr: name for name in names if (fpr := fpr_of(name))}
    return dict(sorted(found.items(), reverse=True))


def main_utility(utility: Mapping[str, Any]) -> str | None:
    """The utility metric that tables show: accuracy where there is one, else AUROC, else the first."""
    for name in _MAIN_UTILITY:
        if name in utility:
            return name
    return next(iter(utility), None)


def number(value: float | None, digits: int = 3) -> str:
    """A fixed number of decimals; a dash for what was not measured."""
    return NONE if value is None else f"{value:.{digits}f}"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """``[0.541, 0.591]``; empty without bounds."""
    known = low is not None and high is not None
    return f"[{number(low, digits)}, {number(high, digits)}]" if known else ""


def figure(found: Any, digits: int = 3) -> str:
    """A value with its interval: ``0.566 [0.541, 0.591]``, or a one-sided lower bound."""
    if found.high is None and found.low is not None and found.low == found.value:
        return bound(found.value)
    return f"{number(found.value, digits)} {interval(found.low, found.high, digits)}".rstrip()


def bound(low: float) -> str:
    """A one-sided lower bound: ``≥ 1.31``."""
    return f"≥ {low:.2f}"


def limit(name: str, value: float | None) -> str:
    """An upper bound: a budget as budgets are printed, anything else as a number."""
    if value is None:
        return VACUOUS
    return epsilon(value) if name == "epsilon" else number(value)


def epsilon(value: float | None) -> str:
    """Budgets of any size in few characters: 0.5, 8, 1e9."""
    if value is None:
        return NONE
    if value >= 1e5:
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(power)}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def seconds(value: float | None) -> str:
    """Seconds up to two minutes, then minutes, then hours."""
    if value is None:
        return NONE
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def size(bytes: float | None) -> str:
    """Bytes in few characters: 512 B, 41.2 MB."""
    if bytes is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if bytes < 999.5:
            return f"{bytes:.0f} {unit}" if unit == "B" else f"{bytes:.3g} {unit}"
        bytes /= 1000
    return f"{bytes:,.3g} TB" if bytes < 1000 else f"{bytes:,.0f} TB"


def whole(value: float | None) -> str:
    """A count: ``1,000``."""
    return NONE if value is None else f"{value:,.0f}"


def cost(name: str) -> Callable[[float | None], str]:
    """How a cost of this name is printed, by its unit."""
    if "_bytes" in name:
        return size
    return seconds if name.endswith("_seconds") else whole


def cost_name(name: str) -> str:
    """The heading of a cost."""
    return COSTS.get(name, name.replace("_", " "))


def saturated(flag: str) -> bool:
    """Whether a lower bound is the most that its guesses could have shown."""
    return "the most that" in flag


def coarse(flag: str) -> bool:
    """Whether a metric warned that fewer than ten false alarms stand behind its figure."""
    return "FPR < 10" in flag

"""How names and numbers are printed: one place, so that every table and plot says the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

STATUS = {
    "ok": "ok",
    "not_applicable": "not applicable",
    "not_run": "not run",
    "failed": "failed",
    "invalid": "invalid",
}
NONE = "–"
VACUOUS = "vacuous"
SIMULATED = "simulated (phantom)"

_METRICS = {
    "auc": "AUC",
    "auroc": "AUROC",
    "mcc": "MCC",
    "roc": "ROC",
    "blind_auc": "blind AUC",
    "epsilon": "audited ε",
    "epsilon_trials": "audited ε, many runs",
    "advantage": "advantage",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "mse": "MSE",
    "acc_at_1": "acc@1",
    "acc_at_5": "acc@5",
    "knn_distance": "KNN distance",
    "ssim_trained": "SSIM to trained",
    "ssim_others": "SSIM to others",
    "ssim_gap": "SSIM gap",
    "property_auc": "AUC over targets",
    "property_accuracy": "accuracy over targets",
    "attribute_auc": "attribute AUC",
    "attribute_accuracy": "attribute balanced accuracy",
    "attribute_auc_added": "attribute AUC added by training",
    "attribute_accuracy_added": "attribute balanced accuracy added by training",
}
_UNITS = {"psnr": " (dB)"}
_DIGITS = {
    "psnr": 1,
    "ssim": 2,
    "mse": 4,
    "identified": 2,
    "recovered": 2,
    "acc_at_1": 2,
    "acc_at_5": 2,
}
_MAIN_UTILITY = ("accuracy", "balanced_accuracy", "auroc", "mcc")
_KINDS = {
    "natural": "natural",
    "mislabelled": "mislabelled canaries",
    "blank": "blank canaries",
    "dirac": "gradient-space canaries",
}


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


def metric(name: str, what: str = "") -> str:
    """The printed name of a metric, or of its "gain", with its unit."""
    if fpr := fpr_of(name):
        return f"TPR at {percent(fpr)} FPR"
    if match := re.fullmatch(r"precision_at_prior_(\d+)", name):
        return f"precision at a prior of {match[1]}%"
    told = _METRICS.get(name, name.replace("_", " "))
    return f"{told} {what}".rstrip() + _UNITS.get(name, "")


def percent(fraction: float) -> str:
    """``0.01`` as ``1%``."""
    return f"{100 * fraction:.3g}%"


def hundred(fraction: float) -> str:
    """A fraction as a count out of 100."""
    count = 100 * fraction
    return f"{count:.0f}" if count >= 9.95 or count == int(count) else f"{count:.1f}"


def kind(records: str) -> str:
    """The printed name of a kind of challenge record."""
    kind, comma, rest = records.partition(", ")
    return (_KINDS.get(kind, kind) + comma + rest) or NONE


def digits(metric: str) -> int:
    """Decimals of a metric's figures; shares of about a hundred images are not known to three."""
    return _DIGITS.get(metric, 3)


def age(records: str) -> str:
    """The printed age of an attacked model: "fresh model" as "fresh"."""
    return records.removesuffix(" model") or NONE


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


def bound(low: float) -> str:
    """A one-sided lower bound: ``≥ 1.31``."""
    return f"≥ {low:.2f}"


def limit(metric: str, value: float) -> str:
    """A ceiling: a budget as budgets are printed, anything else as a number."""
    return epsilon(value) if metric == "epsilon" else number(value)


def epsilon(value: float | None) -> str:
    """Budgets of any size in few characters: 0.5, 8, 1e9."""
    if value is None:
        return NONE
    if value >= 1e5:
        mantissa, _, power = f"{value:.2e}".partition("e")
        return f"{float(mantissa):g}e{int(power)}"
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def count(n: int, noun: str) -> str:
    """``1 group``, ``2 groups``, ``2 processes``."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{n:,} {noun}{'' if n == 1 else plural}"


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


def coarse(flag: str) -> bool:
    """Whether a metric warned that fewer than ten false alarms stand behind its figure."""
    return "FPR < 10" in flag


def extras(extra: Mapping[str, Any]) -> str:
    """Further axes in brackets: ``(n_shadows=16)``; the last part of a dotted name is enough."""
    return ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in extra.items())

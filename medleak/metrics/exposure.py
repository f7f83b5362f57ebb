"""The most exposed patients: leakage is uneven, and an average over patients hides the worst of it.

Needs several targets, each with its own draw of members (leave-one-out; Aerni et al. 2024, Evaluations
of machine learning privacy defenses are misleading, CCS).
"""

from __future__ import annotations

import numpy as np

from medleak.api import Estimate
from medleak.metrics.intervals import clopper_pearson
from medleak.metrics.roc import roc

LEAST_TARGETS = 8
"""With fewer, a patient is a member too seldom for the halves to say who is exposed."""


def ranks(scores: np.ndarray) -> np.ndarray:
    """Each target's scores as ranks in 0..1, ties averaged, ``(T, N)``: comparable over targets."""
    from scipy.stats import rankdata

    return (rankdata(scores, axis=1) - 0.5) / scores.shape[1]


def vulnerability(ranked: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Mean rank as a member less mean rank as a non-member, ``(N,)``; 0 where either never happened.

    Args:
        ranked: ``(T, N)``, see `ranks`.
        member: ``(T, N)`` bool.
    """
    inside, outside = member.sum(0), (~member).sum(0)
    apart = (ranked * member).sum(0) / np.maximum(inside, 1)
    apart -= (ranked * ~member).sum(0) / np.maximum(outside, 1)
    return np.where((inside > 0) & (outside > 0), apart, 0.0)


def exposed(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    fpr: float,
    share: float = 0.05,
    level: float = 0.95,
) -> Estimate:
    """TPR among the `share` of patients most exposed, at a threshold of FPR `fpr` over all patients.

    Those patients are chosen on one half of the targets (even and odd ones) and judged on the other,
    and the halves then change places: chosen and judged on the same targets, even an attack that
    guesses would find somebody exposed. Chance is `fpr`. The interval is Clopper and Pearson's with
    patients as units.

    Args:
        scores: ``(T, N)``, a column for each patient.
        member: ``(T, N)`` bool.
    """
    n = max(1, round(share * scores.shape[1]))
    method = (
        f"{share:.0%} of patients, chosen on the other half of targets; Clopper-Pearson by patient"
    )
    if len(scores) < LEAST_TARGETS:
        return Estimate(None, None, None, n, level, method, f"fewer than {LEAST_TARGETS} targets")
    ranked, halves = ranks(scores), np.arange(len(scores)) % 2
    hits = asked = units = 0
    for half in (0, 1):
        judged, chosen_on = halves == half, halves != half
        worst = np.argsort(-vulnerability(ranked[chosen_on], member[chosen_on]), kind="stable")[:n]
        threshold = _threshold(scores[judged], member[judged], fpr)
        inside = member[judged][:, worst]
        hits += int((inside & (scores[judged][:, worst] >= threshold)).sum())
        asked += int(inside.sum())
        units += int(inside.any(0).sum())
    if not asked:
        return Estimate(None, None, None, n, level, method, "never members")
    value = hits / asked
    # The halves may choose the same patients: no more units than there are patients.
    units = min(units, n)
    low, high = clopper_pearson(value * units, units, level)
    return Estimate(value, float(low), float(high), n, level, method)


def _threshold(scores: np.ndarray, member: np.ndarray, fpr: float) -> float:
    """The lowest score whose rule "at least as high" has an FPR of at most `fpr` over all records."""
    flat, inside = scores.ravel(), member.ravel()
    rates, _ = roc(flat, inside)
    distinct = np.unique(flat)[::-1]
    allowed = int(np.searchsorted(rates, fpr + 1e-12, side="right")) - 1
    return float(distinct[allowed - 1]) if allowed > 0 else np.inf

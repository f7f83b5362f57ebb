"""Receiver operating characteristic, exact under ties and infinite scores."""

from __future__ import annotations

import numpy as np

from medleak.api import DataError


def roc(scores: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rate of every rule "score >= t", from (0, 0) to (1, 1).

    Records that share a score are flagged together, so there is one point per distinct score: a curve
    through the inside of a tie group would show operating points that no threshold has.

    Args:
        scores: ``(N,)``, higher for members; may hold ``+-inf``.
        member: ``(N,)`` bool.

    Returns:
        ``fpr, tpr``, each ``(D + 1,)`` for ``D`` distinct scores, non-decreasing.

    Raises:
        DataError: NaN scores, or no member, or no non-member.
    """
    scores, member = _checked(scores, member)
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], member[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    found = np.cumsum(truth)[last]
    tpr = np.concatenate([[0.0], found / member.sum()])
    fpr = np.concatenate([[0.0], (last + 1 - found) / (~member).sum()])
    return fpr, tpr


def auc(scores: np.ndarray, member: np.ndarray) -> float:
    """``P(S1 > S0) + P(S1 = S0) / 2`` over all pairs of a member and a non-member, by ranks.

    Raises:
        DataError: see `roc`.
    """
    scores, member = _checked(scores, member)
    return float(weighted_auc(scores, member, np.ones((1, len(scores))))[0])


def weighted_auc(scores: np.ndarray, member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUC under each row of `weights` ``(B, N)``; NaN where a class weighs nothing. Returns ``(B,)``."""
    member = np.asarray(member, dtype=bool)
    order = np.argsort(scores, kind="stable")
    ranked, truth, weights = np.asarray(scores)[order], member[order], weights[:, order]
    starts = np.append(0, np.flatnonzero(ranked[1:] != ranked[:-1]) + 1)
    positive = np.add.reduceat(weights * truth, starts, axis=1)
    negative = np.add.reduceat(weights * ~truth, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    wins = (positive * below).sum(axis=1)
    return np.divide(wins, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def tpr_at(fpr_curve: np.ndarray, tpr_curve: np.ndarray, fpr: np.ndarray | float) -> np.ndarray:
    """Largest TPR of an existing threshold whose FPR is at most `fpr`: no interpolation.

    Between two thresholds only a randomised rule reaches the straight line, and at small FPR the line
    would credit the attack with detections that it never made.
    """
    slack = 1e-12  # k / n computed two ways may differ in the last bit
    index = np.searchsorted(fpr_curve, np.asarray(fpr) + slack, side="right") - 1
    return np.where(index < 0, 0.0, tpr_curve[np.maximum(index, 0)])


def per_patient(
    scores: np.ndarray, patients: np.ndarray, member: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joint scores, one row a patient: the mean over that patient's scans.

    Infinite scores count as +-1e100, so that they still dominate and opposite ones cancel.

    Returns:
        ``scores, patients, member``, sorted by patient, as ``np.unique(patients)`` orders them.

    Raises:
        DataError: a patient who is both member and non-member.
    """
    names, inverse, counts = np.unique(patients, return_inverse=True, return_counts=True)
    finite = np.clip(np.asarray(scores, dtype=np.float64), -1e100, 1e100)
    inside = np.bincount(inverse, weights=np.asarray(member, dtype=float))
    mixed = (inside > 0) & (inside < counts)
    if mixed.any():
        raise DataError(f"patient {names[mixed][0]} is both member and non-member")
    return np.bincount(inverse, weights=finite) / counts, names, inside > 0


def _checked(scores: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, member = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool)
    if scores.shape != member.shape or scores.ndim != 1:
        raise DataError(f"scores {scores.shape} and member {member.shape}: (N,) each is needed")
    if np.isnan(scores).any():
        raise DataError(f"{int(np.isnan(scores).sum())} scores are NaN")
    if member.all() or not member.any():
        raise DataError("no non-members" if len(member) and member.all() else "no members")
    return scores, member

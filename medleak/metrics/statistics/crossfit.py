"""Thresholds that never see the labels they are scored on: patient-disjoint cross-fitting."""

from __future__ import annotations

import numpy as np

from medleak.metrics.statistics.roc import roc


def folds(patients: np.ndarray, member: np.ndarray, n_folds: int, seed: int = 0) -> np.ndarray:
    """Fold of each record, ``(N,)``: patient-disjoint, each class dealt out evenly.

    A patient belongs to the class of their first record. The deal depends on `seed` and the order of
    the patients' numbers only, never on scores.
    """
    names, first, inverse = np.unique(patients, return_index=True, return_inverse=True)
    truth = np.asarray(member, dtype=bool)[first]
    rng = np.random.default_rng(seed)
    fold = np.empty(len(names), dtype=np.int64)
    for value in (False, True):
        chosen = rng.permutation(np.flatnonzero(truth == value))
        fold[chosen] = np.arange(len(chosen)) % n_folds
    return fold[inverse]


def best_threshold(scores: np.ndarray, member: np.ndarray) -> float:
    """The t of "score >= t" with the largest TPR - FPR, midway to the next score below it.

    NaN where nothing beats flagging nobody (no comparison with NaN holds); ``-inf`` flags everybody.
    """
    fpr, tpr = roc(scores, member)
    best = int(np.argmax(tpr - fpr))
    if best == 0:
        return float("nan")
    distinct = np.unique(scores)[::-1]
    if best == len(distinct):
        return float("-inf")
    above, below = distinct[best - 1], distinct[best]
    with np.errstate(invalid="ignore"):
        middle = below + (above - below) / 2
    return float(middle if np.isfinite(middle) and middle > below else above)


def crossfit_flags(
    scores: np.ndarray, member: np.ndarray, patients: np.ndarray, *, n_folds: int = 5, seed: int = 0
) -> np.ndarray:
    """Which records are flagged as members, ``(N,)`` bool.

    Each record is judged by the threshold that is best on the *other* folds' patients. Where scores
    carry no information, flags are independent of membership, and the expected TPR equals the expected
    FPR; the best threshold on the audited labels themselves would show an advantage of order
    ``N ** -0.5`` there.
    """
    fold = folds(patients, member, n_folds, seed)
    flagged = np.zeros(len(scores), dtype=bool)
    for k in range(n_folds):
        here = fold == k
        flagged[here] = scores[here] >= best_threshold(scores[~here], member[~here])
    return flagged

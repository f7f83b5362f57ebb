"""Prediction of a column of records from other features, learned on auxiliary patients.

Attacks and baselines use the same classifier, so that only their information differs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Inverse strengths of the penalty, of which the best on held-out patients is taken."""
FOLDS = 3
FLOOR = -30.0
"""Log-probability of a value that a fold has never seen."""


def learned(
    features: np.ndarray, value: np.ndarray, patients: np.ndarray, *, n_values: int, seed: int = 0
) -> Callable[[np.ndarray], np.ndarray]:
    r"""Logistic regression of a value on features, :math:`\log \Pr[v \mid f]` as if values were equally many.

    Ridge penalty on standardised features; its strength is that of the highest likelihood on
    patients who were held out.

    Args:
        features: ``(M, F)``, finite.
        value: ``(M,)`` int, each of the `n_values` at least once.
        patients: ``(M,)``.
        seed: of the folds.

    Returns:
        ``(N, F)`` -> ``(N, n_values)`` log-probabilities.
    """
    features = np.asarray(features, dtype=np.float64)
    best = STRENGTHS[-1]
    folds = _folds(value, patients, seed)
    if folds and features.shape[1] > 1:
        scores = [_likelihood(features, value, folds, c, n_values) for c in STRENGTHS]
        best = STRENGTHS[int(np.argmax(scores))]
    return _fitted(features, value, best, n_values)


def _folds(value: np.ndarray, patients: np.ndarray, seed: int) -> list[tuple]:
    """Patient-disjoint folds with all values in each; none where some value has too few patients."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(patients[value == v])) for v in np.unique(value))
    if fewest < 2 * FOLDS:
        return []
    dealt = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(dealt.split(value, value, patients))


def _likelihood(
    features: np.ndarray, value: np.ndarray, folds: list[tuple], c: float, n_values: int
) -> float:
    """Mean log-probability of the truth on held-out patients, every value weighing the same."""
    total = np.zeros(n_values)
    for inside, outside in folds:
        log_p = _fitted(features[inside], value[inside], c, n_values)(features[outside])
        own = log_p[np.arange(len(outside)), value[outside]]
        total += np.bincount(value[outside], weights=own, minlength=n_values)
    return float((total / np.bincount(value, minlength=n_values)).mean())


def _fitted(
    features: np.ndarray, value: np.ndarray, c: float, n_values: int
) -> Callable[[np.ndarray], np.ndarray]:
    from sklearn.linear_model import LogisticRegression

    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale < 1e-12] = np.inf  # a constant column carries no information
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=500)
    model.fit((features - centre) / scale, value)

    def log_probabilities(new: np.ndarray) -> np.ndarray:
        scores = np.full((len(new), n_values), FLOOR)
        with np.errstate(divide="ignore"):  # a probability of zero is a score of -inf
            scores[:, model.classes_] = model.predict_log_proba((new - centre) / scale)
        return scores

    return log_probabilities

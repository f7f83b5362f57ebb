"""The blind baseline: can members be distinguished from non-members without any model?

If a classifier of the raw records can, then the two differ by date, site or scanner, and no attack on
this split measures leakage. (Das et al. 2024, Blind baselines beat membership inference attacks for
foundation models; Meeus et al. 2024, SoK: membership inference attacks on LLMs are rushing nowhere.)
"""

from __future__ import annotations

import numpy as np

from medleak.api import Estimate, Records, Task, multiclass
from medleak.metrics.statistics.crossfit import folds
from medleak.metrics.statistics.intervals import auc_interval, crossfit_level
from medleak.metrics.statistics.roc import auc

SIDE = 14
"""Images are averaged down to at most this many pixels a side before the principal components."""

CROP = 64
"""Sharpness is read off a square of at most this many pixels a side."""


def blind_auc(
    records: Records,
    member: np.ndarray,
    seed: int = 0,
    *,
    task: Task = multiclass,
    n_folds: int = 5,
    n_components: int = 16,
    level: float = 0.95,
) -> Estimate:
    """AUC of a model-free classifier of members, cross-validated by patient; .5 where all is well.

    Logistic regression and boosted trees read principal components of the downsampled pixels, intensity
    and sharpness statistics, and the label; their mean rank within each held-out fold is the score.

    Args:
        records: the challenge records.
        member: ``(N,)`` bool.
        seed: of the folds and the trees.
        task: how labels are read.
    """
    member, patients = np.asarray(member, dtype=bool), np.asarray(records.patients)
    method = (
        f"{n_folds}-fold by patient, logistic regression and boosted trees; twice DeLong's variance"
    )
    units = [len(np.unique(patients[member == side])) for side in (True, False)]
    n = len(np.unique(patients))
    if min(units) < 2 * n_folds:
        flag = f"too few: {units[0]} members, {units[1]} non-members"
        return Estimate(None, None, None, n, level, method, flag)
    pixels, plain = features(records, task)
    fold = folds(patients, member, n_folds, seed)
    scores = np.empty(len(member))
    for k in range(n_folds):
        here = fold == k
        inside, outside = _components(pixels, ~here, n_components, seed)
        columns = np.hstack([inside, plain[~here]]), np.hstack([outside, plain[here]])
        scores[here] = _held_out(*columns, member[~here], seed)
    low, high = auc_interval(scores, member, patients, crossfit_level(level))
    return Estimate(auc(scores, member), low, high, n, level, method)


def features(records: Records, task: Task = multiclass) -> tuple[np.ndarray, np.ndarray]:
    """Pixels ``(N, P)``, for the components, and statistics with labels ``(N, F)``."""
    values, y = np.unique(records.y, return_inverse=True)  # a class that nobody has is no column
    label = task.one_hot(y.reshape(np.shape(records.y)), len(values))
    x = np.asarray(records.x)
    if x.ndim == 2:
        return x.astype(np.float64), np.hstack([_statistics(x), label])
    small, sharp = [], []
    for start in range(0, len(x), 256):  # float copies of a whole image set would be large
        part = x[start : start + 256]
        small.append(_downsample(part.astype(np.float32)))
        sharp.append(_sharpness(part))
    pixels = np.concatenate(small).reshape(len(x), -1).astype(np.float64)
    return pixels, np.hstack([_statistics(pixels), np.concatenate(sharp), label])


def _downsample(x: np.ndarray) -> np.ndarray:
    """Block means, ``(N, C, H, W)`` to at most `SIDE` a side."""
    h, w = x.shape[2:]
    return np.swapaxes(np.swapaxes(x @ _blocks(w), 2, 3) @ _blocks(h), 2, 3)


def _blocks(n: int) -> np.ndarray:
    """``(n, m)`` matrix that averages `n` pixels into ``m <= SIDE`` neighbouring blocks."""
    block = np.arange(n) * min(n, SIDE) // n
    pool = (block[:, None] == np.arange(min(n, SIDE))).astype(np.float32)
    return pool / pool.sum(axis=0)


def _sharpness(x: np.ndarray) -> np.ndarray:
    """Mean absolute step between neighbouring pixels, down and across, in the middle ``(N, 2)``."""
    top, left = (max(0, (side - CROP) // 2) for side in x.shape[2:])
    middle = x[:, :, top : top + CROP, left : left + CROP].astype(np.float32)
    steps = [np.abs(np.diff(middle, axis=axis)) for axis in (2, 3)]
    return np.stack([s.mean(axis=(1, 2, 3)) if s.size else np.zeros(len(x)) for s in steps], axis=1)


def _statistics(x: np.ndarray) -> np.ndarray:
    quantiles = np.quantile(x, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1], axis=1).T
    return np.hstack([x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True), quantiles])


def _components(
    pixels: np.ndarray, fitted: np.ndarray, n_components: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Principal components found on the `fitted` rows: of those rows, and of the others."""
    from sklearn.decomposition import PCA

    most = min(n_components, int(fitted.sum()), pixels.shape[1])
    pca = PCA(most, svd_solver="randomized", random_state=seed)
    return pca.fit_transform(pixels[fitted]), pca.transform(pixels[~fitted])


def _held_out(inside: np.ndarray, outside: np.ndarray, member: np.ndarray, seed: int) -> np.ndarray:
    """Scores of `outside`: the mean rank of two classifiers of `inside`, in 0..1."""
    from scipy.stats import rankdata
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200)),
        HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8, random_state=seed),
    ]
    ranks = [rankdata(model.fit(inside, member).predict_proba(outside)[:, 1]) for model in models]
    return np.mean(ranks, axis=0) / len(outside)

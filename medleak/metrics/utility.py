"""What the model is still good for: accuracy, balanced accuracy, AUROC and MCC, by patient."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import DataError, Estimate, Records, Release, UtilityMetric
from medleak.metrics.statistics.intervals import clopper_pearson, cluster_bootstrap
from medleak.metrics.statistics.roc import weighted_auc

N_BOOT = 1000
BOOTSTRAP = f"patient bootstrap, {N_BOOT} resamples, t-expanded percentiles"
MIN_GROUP = 10
"""Fewest patients that a subgroup's figures may rest on."""


@dataclass(frozen=True)
class Answers:
    """Truth and answers of one classifier, one column per binary or multi-class problem.

    Attributes:
        y, labels: ``(N, L)`` class indices; ``L`` is 1 for a multi-class task.
        n_classes: of each problem; 2 for multi-label tasks.
        scores: ``(N, R)``, one ranking per AUROC, or None.
        positives: ``(N, R)`` bool, the positive class of each ranking.
    """

    y: np.ndarray
    labels: np.ndarray
    n_classes: int
    scores: np.ndarray | None
    positives: np.ndarray | None


class Classification(UtilityMetric):
    """The utility of a classifier through the release: see `utility` and `utility_by_group`."""

    name = "classification"
    artefact = "classifier"
    version = 1

    def measure(self, release: Release, records: Records, *, task: str) -> dict[str, Estimate]:
        """`utility` on `records`; {} where the release shows no classes."""
        answers = _asked(release, records, task)
        return utility(records.y, **answers) if answers else {}

    def by_group(
        self, release: Release, records: Records, *, task: str
    ) -> dict[str, dict[str, Estimate]]:
        """`utility_by_group` on `records`."""
        answers = _asked(release, records, task)
        return utility_by_group(records.y, groups=records.groups, **answers) if answers else {}


def _asked(release: Release, records: Records, task: str) -> dict[str, Any]:
    if "labels" not in release.views:
        return {}
    answers: dict[str, Any] = {"labels": release.labels(records.x)}
    if "scores" in release.views:
        answers["scores"] = release.scores(records.x)
    return answers | {"patients": records.patients, "task": task}


def utility(
    y: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    patients: np.ndarray,
    task: str = "multiclass",
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """``accuracy``, ``balanced_accuracy``, ``auroc`` and ``mcc`` with intervals by patient.

    Accuracy is the share of right answers (multi-label: over all labels). Balanced accuracy is the mean
    recall over the classes present, MCC Matthews' coefficient in its multi-class form (Gorodkin 2004,
    Comparing two K-category assignments by a K-category correlation coefficient), AUROC the mean of one
    class against the rest; multi-label tasks average each over labels.

    Args:
        y: ``(N,)`` classes, or ``(N, L)`` 0/1.
        scores: log-probabilities ``(N, C)``, or ``(N, L, 2)``; None where the release shows labels
            only, and AUROC is then not measured.
        labels: predicted ``(N,)`` or ``(N, L)``; by default the argmax of `scores`.
        patients: ``(N,)``.
        task: "multiclass" or "multilabel".
        seed: of the bootstrap.

    Raises:
        DataError: neither scores nor labels, or shapes that do not fit.
    """
    answers = _answers(np.asarray(y), scores, labels, task)
    patients = np.asarray(patients)
    n = len(np.unique(patients))
    if not len(patients):
        return {
            name: Estimate(None, None, None, 0, level, flag="no records") for name in STATISTICS
        }
    names = [name for name in STATISTICS if name != "auroc" or answers.scores is not None]

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.stack([STATISTICS[name](answers, weights) for name in names], axis=1)

    values = statistic(np.ones((1, len(patients))))[0]
    rng = np.random.default_rng(seed)
    lows, highs = cluster_bootstrap(statistic, patients, level=level, n_boot=N_BOOT, rng=rng)
    perfect = _perfect(answers, patients, level)
    found = {
        name: _estimate(value, low if low < 1 else perfect[name], high, n, level)
        for name, value, low, high in zip(names, values, lows, highs, strict=True)
    }
    if n == len(patients) and answers.y.shape[1] == 1:
        right = int((answers.y == answers.labels).sum())
        low, high = clopper_pearson(right, n, level)
        method = "Clopper-Pearson"
        found["accuracy"] = Estimate(right / n, float(low), float(high), n, level, method)
    if "auroc" not in found:
        found["auroc"] = Estimate(
            None, None, None, n, level, flag="labels only: no scores to rank by"
        )
    return {name: found[name] for name in STATISTICS}


def utility_by_group(
    y: np.ndarray,
    *,
    groups: Mapping[str, np.ndarray],
    patients: np.ndarray,
    scores: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    task: str = "multiclass",
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, dict[str, Estimate]]:
    """``{"sex=F": utility}`` for each subgroup of each column; "" (unknown) is left out.

    A group with fewer than `MIN_GROUP` patients is not measured: flag "too few". See `utility`.
    """
    found = {}
    for column, values in groups.items():
        values = np.asarray(values)
        for value in sorted(set(values.tolist()) - {""}):
            here = values == value
            n = len(np.unique(np.asarray(patients)[here]))
            if n < MIN_GROUP:
                flag = f"too few: {n} patients"
                missing = Estimate(None, None, None, n, level, flag=flag)
                found[f"{column}={value}"] = dict.fromkeys(STATISTICS, missing)
                continue
            found[f"{column}={value}"] = utility(
                np.asarray(y)[here],
                scores=None if scores is None else np.asarray(scores)[here],
                labels=None if labels is None else np.asarray(labels)[here],
                patients=np.asarray(patients)[here],
                task=task,
                level=level,
                seed=seed,
            )
    return found


def _estimate(value: float, low: float, high: float, n: int, level: float) -> Estimate:
    if not np.isfinite(value):
        flag = "one class only"
        return Estimate(None, None, None, n, level, BOOTSTRAP, flag)
    return Estimate(float(value), float(low), float(high), n, level, BOOTSTRAP)


def _perfect(answers: Answers, patients: np.ndarray, level: float) -> dict[str, float]:
    """Lower ends where every resample is perfect: no error among the rarest class's patients."""
    fewest = min(
        len(np.unique(patients[column == c])) for column in answers.y.T for c in np.unique(column)
    )
    share = float(clopper_pearson(fewest, fewest, level)[0])
    return dict.fromkeys(STATISTICS, share) | {"mcc": 2 * share - 1}


def _answers(
    y: np.ndarray, scores: np.ndarray | None, labels: np.ndarray | None, task: str
) -> Answers:
    if scores is None and labels is None:
        raise DataError("utility needs scores or labels: got neither")
    if scores is not None:
        scores = np.asarray(scores, dtype=np.float64)
        labels = scores.argmax(axis=-1) if labels is None else labels
    labels = np.asarray(labels)
    if labels.shape != y.shape:
        raise DataError(f"labels {labels.shape} do not fit y {y.shape}")
    if task == "multilabel":
        with np.errstate(invalid="ignore"):
            ranking = None if scores is None else _finite(scores[..., 1] - scores[..., 0])
        return Answers(y, labels, 2, ranking, None if scores is None else y == 1)
    n_classes = int(max(y.max(initial=0), labels.max(initial=0))) + 1
    if scores is None:
        return Answers(y[:, None], labels[:, None], n_classes, None, None)
    n_classes = max(n_classes, scores.shape[1])
    if scores.shape[1] == 2:  # one class against the rest is the same ranking twice
        with np.errstate(invalid="ignore"):
            ranking = _finite(scores[:, 1] - scores[:, 0])[:, None]
        return Answers(y[:, None], labels[:, None], n_classes, ranking, (y == 1)[:, None])
    positives = y[:, None] == np.arange(scores.shape[1])
    return Answers(y[:, None], labels[:, None], n_classes, scores, positives)


def _finite(ranking: np.ndarray) -> np.ndarray:
    return np.nan_to_num(ranking, nan=0.0, posinf=np.inf, neginf=-np.inf)


def _accuracy(answers: Answers, weights: np.ndarray) -> np.ndarray:
    return weights @ (answers.y == answers.labels).mean(axis=1) / weights.sum(axis=1)


def _confusion(answers: Answers, weights: np.ndarray) -> np.ndarray:
    """Weighted confusion matrices ``(B, L, C, C)``: truth by answer."""
    c = answers.n_classes
    cells = answers.y * c + answers.labels
    found = [
        weights @ (cells[:, [j]] == np.arange(c * c)).astype(float) for j in range(cells.shape[1])
    ]
    return np.stack(found, axis=1).reshape(len(weights), -1, c, c)


def _balanced_accuracy(answers: Answers, weights: np.ndarray) -> np.ndarray:
    matrix = _confusion(answers, weights)
    support = matrix.sum(axis=3)
    right = np.diagonal(matrix, axis1=2, axis2=3)
    recall = np.divide(right, support, out=np.zeros_like(support), where=support > 0)
    return (recall.sum(axis=2) / (support > 0).sum(axis=2)).mean(axis=1)


def _mcc(answers: Answers, weights: np.ndarray) -> np.ndarray:
    matrix = _confusion(answers, weights)
    truth, guess = matrix.sum(axis=3), matrix.sum(axis=2)
    total = truth.sum(axis=2)
    covariance = np.trace(matrix, axis1=2, axis2=3) * total - (truth * guess).sum(axis=2)
    spread = (total**2 - (truth**2).sum(axis=2)) * (total**2 - (guess**2).sum(axis=2))
    safe = np.sqrt(np.maximum(spread, 0))
    # A constant answer, or a single class, has no correlation with anything: 0 by convention.
    value = np.divide(covariance, safe, out=np.zeros_like(covariance), where=safe > 0)
    return value.mean(axis=1)


def _auroc(answers: Answers, weights: np.ndarray) -> np.ndarray:
    columns = [
        weighted_auc(answers.scores[:, r], answers.positives[:, r], weights)
        for r in range(answers.scores.shape[1])
    ]
    each = np.stack(columns, axis=1)
    measured = np.isfinite(each)
    count = measured.sum(axis=1)
    total = np.where(measured, each, 0.0).sum(axis=1)
    return np.divide(total, count, out=np.full(len(each), np.nan), where=count > 0)


STATISTICS: Mapping[str, Callable[[Answers, np.ndarray], np.ndarray]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "auroc": _auroc,
    "mcc": _mcc,
}

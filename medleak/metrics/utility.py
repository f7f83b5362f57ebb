"""What the model is still good for: accuracy, AUROC, Dice and their like, by patient."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import (
    DataError,
    Estimate,
    Records,
    Release,
    Task,
    UtilityMetric,
    multiclass,
    task_of,
)
from medleak.api.answers import Answered, Answers, Overlaps
from medleak.metrics.statistics.intervals import clopper_pearson, cluster_bootstrap
from medleak.metrics.statistics.roc import weighted_auc

N_BOOT = 1000
BOOTSTRAP = f"patient bootstrap, {N_BOOT} resamples, t-expanded percentiles"
MIN_GROUP = 10
"""Fewest patients that a subgroup's figures may rest on."""


@dataclass(frozen=True)
class Statistic:
    """One figure of utility.

    Attributes:
        of: what a task makes of truth and answers, and weights of records ``(B, N)``, to values ``(B,)``.
        label: as tables print it.
        ranks: whether it needs scores to rank records by.
        least: the worst value, where 1 is the best.
        undefined: why a value may be none.
    """

    of: Callable[[Any, np.ndarray], np.ndarray]
    label: str
    ranks: bool = False
    least: float = 0.0
    undefined: str = "one class only"


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
    task: str = multiclass.name,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """The statistics that `task` names, each with an interval by patient.

    Accuracy is the share of right answers (multi-label: over all labels). Balanced accuracy is the mean
    recall over the classes present, MCC Matthews' coefficient in its multi-class form (Gorodkin 2004,
    Comparing two K-category assignments by a K-category correlation coefficient), AUROC the mean of one
    class against the rest; multi-label tasks average each over labels.

    Dice ``2 |A & B| / (|A| + |B|)`` and IoU ``|A & B| / |A | B|`` of true and predicted mask are means over
    images, then over classes without the background. An image without the class in either mask says
    nothing and is left out; where only the prediction shows it, the image counts 0 (as nnU-Net does).

    Args:
        y: ``(N,)`` classes, ``(N, L)`` 0/1, or masks ``(N, H, W)``.
        scores: log-probabilities, the shape of `y` and an axis of outcomes (see `Task`); None where the
            release shows labels only, and AUROC is then not measured.
        labels: predicted, of the shape of `y`; by default the argmax of `scores`.
        patients: ``(N,)``.
        task: name of a `medleak.api.Task`.
        seed: of the bootstrap.

    Raises:
        DataError: neither scores nor labels, or shapes that do not fit.
    """
    asked = task_of(task)
    answers = _answered(asked, np.asarray(y), scores, labels)
    patients, wanted = np.asarray(patients), {name: STATISTICS[name] for name in asked.utility}
    n = len(np.unique(patients))
    if not len(patients):
        return {name: Estimate(None, None, None, 0, level, flag="no records") for name in wanted}
    names = [name for name, one in wanted.items() if answers.ranks or not one.ranks]

    def statistic(weights: np.ndarray) -> np.ndarray:
        return np.stack([wanted[name].of(answers, weights) for name in names], axis=1)

    values = statistic(np.ones((1, len(patients))))[0]
    rng = np.random.default_rng(seed)
    lows, highs = cluster_bootstrap(statistic, patients, level=level, n_boot=N_BOOT, rng=rng)
    fewest = answers.fewest(patients)
    share = float(clopper_pearson(fewest, fewest, level)[0])
    found = {
        name: _estimate(wanted[name], value, low, high, n, level, share)
        for name, value, low, high in zip(names, values, lows, highs, strict=True)
    }
    right = answers.right()
    if n == len(patients) and right is not None:
        low, high = clopper_pearson(right, n, level)
        method = "Clopper-Pearson"
        found["accuracy"] = Estimate(right / n, float(low), float(high), n, level, method)
    return {name: found.get(name, unranked) for name, unranked in _unranked(wanted, n, level)}


def utility_by_group(
    y: np.ndarray,
    *,
    groups: Mapping[str, np.ndarray],
    patients: np.ndarray,
    scores: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    task: str = multiclass.name,
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
                found[f"{column}={value}"] = dict.fromkeys(task_of(task).utility, missing)
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


def _estimate(
    of: Statistic, value: float, low: float, high: float, n: int, level: float, share: float
) -> Estimate:
    """With the lower end that `share` right answers have, where every resample is perfect."""
    if not np.isfinite(value):
        return Estimate(None, None, None, n, level, BOOTSTRAP, of.undefined)
    low = low if low < 1 else of.least + (1 - of.least) * share
    return Estimate(float(value), float(low), float(high), n, level, BOOTSTRAP)


def _unranked(
    wanted: Mapping[str, Statistic], n: int, level: float
) -> Iterator[tuple[str, Estimate]]:
    """Every name, with what stands where there are no scores."""
    flag = "labels only: no scores to rank by"
    return ((name, Estimate(None, None, None, n, level, flag=flag)) for name in wanted)


def _answered(
    task: Task, y: np.ndarray, scores: np.ndarray | None, labels: np.ndarray | None
) -> Answered:
    if scores is None and labels is None:
        raise DataError("utility needs scores or labels: got neither")
    if scores is not None:
        scores = np.asarray(scores, dtype=np.float64)
        labels = task.predictions(scores) if labels is None else labels
    labels = np.asarray(labels)
    if labels.shape != y.shape:
        raise DataError(f"labels {labels.shape} do not fit y {y.shape}")
    return task.answered(y, labels, scores)


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


def _dice(masks: Overlaps, weights: np.ndarray) -> np.ndarray:
    return _by_mask(2 * masks.both, masks.true + masks.predicted, weights)


def _iou(masks: Overlaps, weights: np.ndarray) -> np.ndarray:
    return _by_mask(masks.both, masks.true + masks.predicted - masks.both, weights)


def _by_mask(shared: np.ndarray, all_: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over classes of the weighted mean over the images that show the class, or seem to."""
    shown = all_ > 0
    each = np.divide(shared, all_, out=np.zeros(all_.shape), where=shown)
    count = weights @ shown
    mean = np.divide(weights @ each, count, out=np.zeros(count.shape), where=count > 0)
    classes = (count > 0).sum(axis=1)
    nothing = np.full(len(weights), np.nan)
    return np.divide(mean.sum(axis=1), classes, out=nothing, where=classes > 0)


def _pixel_accuracy(masks: Overlaps, weights: np.ndarray) -> np.ndarray:
    return weights @ masks.agreement / weights.sum(axis=1)


STATISTICS: dict[str, Statistic] = {
    "accuracy": Statistic(_accuracy, "accuracy"),
    "balanced_accuracy": Statistic(_balanced_accuracy, "balanced accuracy"),
    "auroc": Statistic(_auroc, "AUROC", ranks=True),
    "mcc": Statistic(_mcc, "MCC", least=-1.0),
    "dice": Statistic(_dice, "Dice", undefined="no image has a mask"),
    "iou": Statistic(_iou, "IoU", undefined="no image has a mask"),
    "pixel_accuracy": Statistic(_pixel_accuracy, "pixel accuracy"),
}
"""Open: a plugin's task names what it adds here in `Task.utility`."""

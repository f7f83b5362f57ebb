"""Canaries: patients altered so that a model can only memorise them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medleak.api import Challenge, DataError, Dataset, Records, task_of
from medleak.core.keys import rng_for

CANARIES = ("mislabelled", "blank")


def plant_canaries(
    dataset: Dataset, records: Records, shares: Mapping[str, float], *, seed: int
) -> Challenge:
    """The records, with a share of the patients turned into canaries, and the kind of each.

    "mislabelled" gives every record of a chosen patient another class (multi-label: flips each label; a
    mask: gives each pixel another class, the same number of classes further).

    "blank" makes every record of a chosen patient a uniform image at a grey level of its own (a table:
    a constant row within the range of the data), under a class drawn at random for the patient
    (multi-label: each label; a mask: each pixel). Bytes have only 256 levels: a level in between is dithered, so that
    neighbouring levels alternate at random over the pixels and no two images are equal.

    Who is chosen, and what for, depends on `seed` and the patient alone: a kind that is added leaves the
    patients of those before it in `CANARIES` as they are.

    Raises:
        DataError: an unknown kind, or shares that are none or add up to 1 or more.
    """
    _check(shares)
    kind = np.full(len(records), "natural", dtype="U16")
    if not any(shares.values()) or not len(records):
        return Challenge(records, kind)
    patients, inverse = np.unique(records.patients, return_inverse=True)
    draws = np.array([rng_for("canary", seed, int(p)).random(2) for p in patients])[inverse]
    ends = np.cumsum([float(shares.get(name, 0.0)) for name in CANARIES])
    for name, low, high in zip(CANARIES, [0.0, *ends[:-1]], ends, strict=True):
        kind[(low <= draws[:, 0]) & (draws[:, 0] < high)] = name
    x, y = records.x, _mislabelled(dataset, records.y, kind == "mislabelled", draws[:, 1])
    if (kind == "blank").any():
        x = x.copy()
        for patient in np.unique(records.patients[kind == "blank"]):
            rows = np.flatnonzero(records.patients == patient)
            rng = rng_for("blank", seed, int(patient))
            y[rows] = _any_label(dataset, rng)
            x[rows] = _uniform(dataset, len(rows), rng)
    return Challenge(Records(x, y, records.patients, records.groups), kind)


def _check(shares: Mapping[str, float]) -> None:
    from medleak.core.suggestions import unknown

    for kind, share in shares.items():
        if kind not in CANARIES:
            raise DataError(unknown("canary", kind, CANARIES))
        if not 0 <= float(share) < 1:
            raise DataError(
                f"split.canaries.{kind} is {share}: a share from 0 to below 1 is needed"
            )
    if (total := sum(map(float, shares.values()))) >= 1:
        listed = ", ".join(f"{kind} {float(share):g}" for kind, share in shares.items())
        raise DataError(f"split.canaries add up to {total:g} ({listed}): below 1 is needed")


def _mislabelled(
    dataset: Dataset, labels: np.ndarray, chosen: np.ndarray, draws: np.ndarray
) -> np.ndarray:
    y = labels.copy()
    other = task_of(dataset.task).relabelled(y[chosen], len(dataset.classes), draws[chosen])
    y[chosen] = other
    return y


def _any_label(dataset: Dataset, rng: np.random.Generator) -> np.ndarray | int:
    task, in_shape = task_of(dataset.task), dataset.records.x.shape[1:]
    return task.random_label(len(dataset.classes), in_shape, rng)


def _uniform(dataset: Dataset, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` records of one value each, like those of the data set in shape and type."""
    like = dataset.records.x
    shape = (n, *like.shape[1:])
    level = rng.random((n, *[1] * (like.ndim - 1)))
    if like.dtype == np.uint8:
        return np.floor(255 * level + rng.random(shape)).astype(np.uint8)
    if like.ndim == 2:  # as wide as the values of the table are, whatever their units
        level = like.mean() + like.std() * np.sqrt(12) * (level - 0.5)
    return np.broadcast_to(level, shape).astype(like.dtype)

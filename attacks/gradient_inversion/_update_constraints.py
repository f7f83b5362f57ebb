"""What an update reveals about its compression: which entries were kept, rounded, or reduced to a sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from medleak.api import Observation

SMALLEST = 64
"""Entries that an array needs before its values are taken for levels."""
MOST_LEVELS = 0.5
"""Levels per entry, above which an array is not taken for rounded."""
TOLERANCE = 1e-3
"""Of a step between levels."""
SCATTERED = 0.25
"""Share of scattered zeros that inactive units do not explain; small convolutions reach a tenth."""
ROWS = 4
"""Rows of a matrix whose columns are not emptied by chance."""
DEAD = 0.75
"""Share of empty columns that inactive units do not explain; six in ten are usual for one record."""
SPARSE = 0.75
"""Share of zeros above which one magnitude means coarse rounding rather than signs."""


@dataclass(frozen=True)
class UpdateConstraints:
    """An update as one row, and how exactly each entry is known.

    Attributes:
        target: the entries, ``(P,)`` float32.
        keep: 1 where an entry carries information, 0 where it was removed or is hidden, ``(P,)``.
        margin: how far the true entry may lie from the one sent, ``(P,)``.
        signs: whether only signs were sent.
    """

    target: np.ndarray
    keep: np.ndarray
    margin: np.ndarray
    signs: bool = False


@dataclass(frozen=True)
class Question:
    """One message to be matched.

    Attributes:
        observation: the message.
        n: records behind it.
        labels: theirs, sorted, if the adversary is given them.
        seed: of the starts.
        constraints: the update and what is known about its entries.
    """

    observation: Observation
    n: int
    labels: np.ndarray | None
    seed: int
    constraints: UpdateConstraints

    @property
    def group_key(self) -> tuple:
        """Questions with equal values of this are solved together."""
        o = self.observation
        return self.n, o.local, len(o.clients), self.constraints.signs


def update_constraints(
    update: Mapping[str, np.ndarray],
    aware: bool = True,
    hidden: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> UpdateConstraints:
    """Read an update, by the order of its arrays.

    Arrays of one magnitude are signs. Values that are whole multiples of a step, far fewer than the
    entries, were rounded: the true entry lies within half a step. Other zeros are removed
    entries (pruning, top-k, the hidden columns of Soteria), unless inactive units explain them.

    Args:
        update: name -> array.
        aware: whether to look at all; else every entry is taken as exact.
        hidden: as in `medleak.api.Observation`: entries that are left out in any case.
    """
    arrays = [np.asarray(a, dtype=np.float32) for a in update.values()]
    readable = [_readable(a, hidden.get(name)) for name, a in zip(update, arrays, strict=True)]
    target, seen = (np.concatenate([a.ravel() for a in part]) for part in (arrays, readable))
    plain = UpdateConstraints(target, seen.astype(np.float32), np.zeros_like(target))
    if not aware:
        return plain
    rows = [a[t] for a, t in zip(arrays, readable, strict=True)]
    large = [r for r in rows if r.size >= SMALLEST and r.any()]
    steps = [step(r) for r in large]
    if large and all(steps):
        if all(signs_only(r) for r in large):
            return UpdateConstraints(target, plain.keep, plain.margin, signs=True)
        half = [(step(r) or 0.0) / 2 for r in rows]
        margin = np.repeat(np.array(half, np.float32), [a.size for a in arrays])
        return UpdateConstraints(target, plain.keep, margin)
    keep = informative(arrays, readable).astype(np.float32)
    return UpdateConstraints(target, keep, plain.margin)


def _readable(array: np.ndarray, hidden: np.ndarray | None) -> np.ndarray:
    return np.ones(array.shape, dtype=bool) if hidden is None else ~hidden


def step(row: np.ndarray) -> float | None:
    """The distance between levels of a rounded array ``(n,)``; None if it was not rounded."""
    if row.size < SMALLEST:
        return None
    sizes = np.unique(np.abs(row[row != 0]).astype(np.float64))
    if not len(sizes):
        return None
    sizes = sizes[np.concatenate([[True], np.diff(sizes) > TOLERANCE * sizes[0]])]
    if len(sizes) > MOST_LEVELS * row.size:
        return None
    gaps = np.concatenate([sizes[:1], np.diff(sizes)])
    unit = float(gaps.min())
    multiples = gaps / unit
    whole = np.abs(multiples - np.rint(multiples)) < TOLERANCE * np.maximum(multiples, 1) * 10
    return unit if whole.all() else None


def signs_only(row: np.ndarray) -> bool:
    """Whether ``(n,)`` entries share one magnitude, and are not mostly zero."""
    sizes = np.abs(row[row != 0])
    one = np.ptp(sizes) <= TOLERANCE * sizes.max()
    return bool(one and len(sizes) >= (1 - SPARSE) * row.size)


def informative(arrays: Sequence[np.ndarray], readable: Sequence[np.ndarray]) -> np.ndarray:
    """Which entries carry information, ``(P,)`` bool: all readable ones except removed entries.

    A unit that no record activates has zeros in its whole row, and in its whole column of the next
    layer. Zeros scattered over a matrix have another cause: then every zero is a removed entry. If more
    than `DEAD` of a matrix's columns are empty, they were hidden (Soteria) and are not inactive.
    """
    pairs = list(zip(arrays, readable, strict=True))
    matrices = [
        (a.reshape(len(a), -1), t.reshape(len(a), -1))
        for a, t in pairs
        if a.ndim > 1 and len(a) >= ROWS and t.any()
    ]
    share = bool(matrices) and np.average(
        [scattered_zeros(m, t) for m, t in matrices], weights=[t.sum() for _, t in matrices]
    )
    if share > SCATTERED:
        return np.concatenate([((a != 0) & t).ravel() for a, t in pairs])
    return np.concatenate([(shown(a) & t).ravel() for a, t in pairs])


def scattered_zeros(matrix: np.ndarray, readable: np.ndarray) -> float:
    """Share of the readable entries that are zero although neither their whole row nor column is."""
    zero = (matrix == 0) | ~readable
    row, column = zero.all(axis=1, keepdims=True), zero.all(axis=0, keepdims=True)
    return float((zero & readable & ~row & ~column).sum() / readable.sum())


def shown(array: np.ndarray) -> np.ndarray:
    """False in the empty columns of a matrix most of whose columns are empty, else True."""
    found = np.ones(array.shape, dtype=bool)
    if array.ndim == 2 and array.any():
        empty = ~array.any(axis=0)
        if empty.mean() > DEAD:
            found[:, empty] = False
    return found

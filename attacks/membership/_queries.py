"""Records that attacks query models with: augmented queries, and records of known membership."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from medleak.api import Challenge, Knowledge, MedleakError, Records, Shadow, Task
from medleak.attacks._kernels import augmented

REMEMBERED = 2**29
"""Most bytes of augmented records that are kept from one model to the next."""


def labels_sent(task: Task, y: np.ndarray, queries: str, n: int) -> list[np.ndarray]:
    """The labels of each of the `n` arrays of `augmented` records: masks move with their images."""
    if not task.spatial:
        return [y] * n
    return [moved[:, 0] for moved in itertools.islice(augmented(y[:, None], queries), n)]


class Queries:
    """The records as they are sent, one array at a time; the same arrays for every model.

    They are made again for each model only where they would not fit into `REMEMBERED` bytes.

    Args:
        x: the records.
        augment: records to their queries, one array after the other.
        most: cut to so many queries (None: all).
    """

    def __init__(
        self,
        x: np.ndarray,
        augment: Callable[[np.ndarray], Iterator[np.ndarray]],
        *,
        most: int | None = None,
    ):
        self._x, self._of, self._most = x, augment, most
        self._n = sum(1 for _ in itertools.islice(augment(x[:1]), most))
        self._cached = list(self._generate()) if self._n * x.nbytes <= REMEMBERED else None

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._generate() if self._cached is None else iter(self._cached)

    def _generate(self) -> Iterator[np.ndarray]:
        return itertools.islice(self._of(self._x), self._most)


def population(
    knowledge: Knowledge, who: str, *, most: int, spent: int
) -> tuple[Records, np.ndarray | slice]:
    """At most `most` auxiliary records, of patients in no training set of the target.

    Args:
        knowledge: its generator draws them where there are more; its budget cuts them.
        who: the attack, for the message.
        spent: queries that the attack needs in addition.

    Returns:
        The records, and their places among the auxiliary ones.

    Raises:
        MedleakError: there are none.
    """
    records = _auxiliary(knowledge, who)
    if knowledge.budget is not None:
        most = max(1, min(most, knowledge.budget - spent))
    if most >= len(records):
        return records, slice(None)  # the same array: answers are remembered
    chosen = np.sort(knowledge.rng.choice(len(records), int(most), replace=False))
    return records.take(chosen), chosen


def known(knowledge: Knowledge, challenge: Challenge, who: str) -> Records:
    """Records of which some were in the shadows' training sets: what an attack may learn from.

    Raises:
        MedleakError: ``pool=auxiliary`` without auxiliary records.
    """
    return challenge.records if knowledge.pool == "audit" else _auxiliary(knowledge, who)


def _auxiliary(knowledge: Knowledge, who: str) -> Records:
    records = knowledge.auxiliary
    if records is None or not len(records):
        raise MedleakError(f"{who}: the target has no auxiliary records")
    return records


def inside(knowledge: Knowledge, shadow: Shadow) -> np.ndarray:
    """Which of the `known` records `shadow` was trained on."""
    return shadow.member if knowledge.pool == "audit" else shadow.auxiliary_member

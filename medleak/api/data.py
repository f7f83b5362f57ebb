"""Records of patients, and what is known of an experiment before any training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medleak.api.component import Component
from medleak.api.tasks import multiclass


@dataclass(frozen=True)
class Records:
    """Records of patients, row by row.

    Attributes:
        x: images ``(N, C, H, W)``, uint8 in 0..255 or float32 in 0..1; or a float32 table ``(N, F)``.
        y: class index ``(N,)`` int64, ``(N, L)`` 0/1 for a multi-label task, or masks ``(N, H, W)`` of
            class indices for segmentation (0 is the background).
        patients: patient of each record, ``(N,)`` int64.
        groups: subgroup columns (sex, age band, site ...), name -> ``(N,)`` strings; "" is unknown.
    """

    x: np.ndarray
    y: np.ndarray
    patients: np.ndarray
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: np.ndarray) -> Records:
        """The records at `index` (positions or a boolean mask)."""
        groups = {name: column[index] for name, column in self.groups.items()}
        return Records(self.x[index], self.y[index], self.patients[index], groups)


@dataclass(frozen=True)
class Dataset:
    """A whole data set before any split.

    Attributes:
        records: all records.
        source: the official split of each record, ``(N,)`` strings ("train", "val", "test"; one
            constant value where there is none). Members and non-members share one source.
        name: as printed in the tables.
        classes: class names (or label names of a multi-label task; of a mask, the background first).
        fingerprint: SHA-256 of the data as loaded; part of every key.
        task: name of a `Task`: "multiclass", "multilabel", "segmentation", or a plugin's.
        simulated: said wherever the data appear.
        patients_known: False where each image counts as its own patient.
        citation: paper and licence.
        note: anything that a reader of a row must know (an unofficial file, say).
    """

    records: Records
    source: np.ndarray
    name: str
    classes: tuple[str, ...]
    fingerprint: str
    task: str = multiclass.name
    simulated: bool = False
    patients_known: bool = True
    citation: str = ""
    note: str = ""

    @property
    def unit(self) -> str:
        """What one membership decision is about, as printed."""
        return "patient" if self.patients_known else "image (patient unknown)"


class DatasetSource(Component, ABC):
    """What `target.dataset` names: a description that loads to a `Dataset`."""

    @abstractmethod
    def load(self) -> Dataset:
        """Read, check and return the data.

        Raises:
            DataError: data missing or malformed, in one line that names file, value and choices.
        """


@dataclass(frozen=True)
class ProblemSpec:
    """Public facts of an experiment, known before any training.

    Attributes:
        n_records: expected number of member records.
        n_patients: expected number of member patients.
        max_records: most records that one patient of the challenge has.
        in_shape: shape of one record, ``(C, H, W)`` or ``(F,)``.
        n_outputs: classes (of a pixel, for segmentation), or labels of a multi-label task.
        task: name of a `Task`: "multiclass", "multilabel", "segmentation", or a plugin's.
        unit: "patient" or "image (patient unknown)".
    """

    n_records: int
    n_patients: int
    max_records: int
    in_shape: tuple[int, ...]
    n_outputs: int
    task: str = multiclass.name
    unit: str = "patient"


def pixels(x: np.ndarray) -> np.ndarray:
    """Records as floats in 0..1, ``(N, C, H, W)``."""
    return x.astype(np.float64) / 255 if x.dtype == np.uint8 else x.astype(np.float64)

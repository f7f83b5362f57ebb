"""The lesions of the simulated head slices as masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medleak.api import Dataset, segmentation
from medleak.core.keys import array_digest, digest
from medleak.targets.datasets.phantom import Phantom

EDGE = 0.5
"""Share of the lesion's contrast from which a pixel counts as lesion."""


class PhantomSegmentation(Phantom):
    """`Phantom` with the lesion's mask as the label: simulated images, and a truth without a reader.

    The images are those of `Phantom` with the same arguments. A pixel is lesion where at least half of
    the lesion's contrast was added to it. Patients without a lesion have an empty mask, unless
    `lesions_only` leaves them out. The look-alike vessel is background.

    Args:
        n_patients, scans_per_patient, size, seed, difficulty: as of `Phantom`; patients without a lesion
            count among `n_patients`.
        lesions_only: whether only patients with a lesion are kept, about half.

    Shapes: ``x`` ``(N, 1, size, size)`` uint8, ``y`` ``(N, size, size)`` int64, 0 or 1.
    """

    version = 1

    def __init__(
        self,
        *,
        n_patients: int = 800,
        scans_per_patient: Sequence[int] = (1, 3),
        size: int = 28,
        seed: int = 0,
        difficulty: float = 0.3,
        lesions_only: bool = True,
    ):
        super().__init__(
            n_patients=n_patients,
            scans_per_patient=scans_per_patient,
            size=size,
            seed=seed,
            difficulty=difficulty,
        )
        self.lesions_only = lesions_only

    def load(self) -> Dataset:
        whole = super().load()
        records = replace(whole.records, y=(self.lesions() >= EDGE).astype(np.int64))
        kept = whole.records.y == 1 if self.lesions_only else np.ones(len(records), dtype=bool)
        records = records.take(kept)
        return replace(
            whole,
            records=records,
            source=whole.source[kept],
            name="phantom_segmentation",
            classes=("background", "lesion"),
            task=segmentation.name,
            fingerprint=digest(
                [whole.fingerprint, self.version, self.lesions_only, array_digest(records.y)]
            ),
        )


__all__ = ["PhantomSegmentation"]

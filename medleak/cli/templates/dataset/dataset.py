"""Plugin title: say here where the data come from."""

from __future__ import annotations

import hashlib

import numpy as np

from medleak.api import Dataset, DatasetSource, Records


class PluginName(DatasetSource):
    """Simulated images: noise, brighter in the left half for the second class. Put your own in `load`.

    Args:
        n_patients: of two scans each.
        size: height and width in pixels.
        seed: of the simulation.
    """

    def __init__(self, *, n_patients: int = 800, size: int = 28, seed: int = 0):
        self.n_patients = n_patients
        self.size = size
        self.seed = seed

    def load(self) -> Dataset:
        rng = np.random.default_rng(self.seed)
        patients = np.repeat(np.arange(self.n_patients), 2)
        y = np.repeat(rng.integers(0, 2, self.n_patients), 2)
        x = rng.integers(0, 200, (len(y), 1, self.size, self.size), dtype=np.uint8)
        x[..., : self.size // 2] += (50 * y[:, None, None, None]).astype(np.uint8)
        groups = {"sex": np.where(patients % 2, "F", "M")}
        return Dataset(
            records=Records(x, y, patients, groups),
            source=np.full(len(y), "all"),
            name="plugin_name",
            classes=("no", "yes"),
            fingerprint=hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest(),
            simulated=True,
        )

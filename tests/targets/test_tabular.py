"""The tabular target."""

import numpy as np

from medleak.targets.datasets.tabular import BreastCancer


def test_breast_cancer():
    data = BreastCancer().load()
    x = data.records.x
    assert x.shape == (569, 30)
    assert x.dtype == np.float32
    assert np.abs(x.mean(0)).max() < 0.02
    assert np.abs(x.std(0) - 1).max() < 0.02
    assert np.bincount(data.records.y).tolist() == [212, 357]
    assert data.classes == ("malignant", "benign")
    assert data.unit == "patient"
    assert len(np.unique(data.records.patients)) == 569
    assert data.fingerprint == BreastCancer().load().fingerprint

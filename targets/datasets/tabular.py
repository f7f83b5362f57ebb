"""Tables: patients described by numbers instead of images."""

from __future__ import annotations

import numpy as np

from medleak.api import Dataset, DatasetSource, Records
from medleak.core.keys import array_digest, lasting_digest

# Mean and standard deviation of each feature over the published table, three significant digits.
# They are constants: a scaler fitted to the members would be a release of its own.
SCALE = np.array(
    [
        (14.1, 3.52),  # mean radius
        (19.3, 4.3),  # mean texture
        (92.0, 24.3),  # mean perimeter
        (655.0, 352.0),  # mean area
        (0.0964, 0.0141),  # mean smoothness
        (0.104, 0.0528),  # mean compactness
        (0.0888, 0.0796),  # mean concavity
        (0.0489, 0.0388),  # mean concave points
        (0.181, 0.0274),  # mean symmetry
        (0.0628, 0.00705),  # mean fractal dimension
        (0.405, 0.277),  # radius error
        (1.22, 0.551),  # texture error
        (2.87, 2.02),  # perimeter error
        (40.3, 45.5),  # area error
        (0.00704, 0.003),  # smoothness error
        (0.0255, 0.0179),  # compactness error
        (0.0319, 0.0302),  # concavity error
        (0.0118, 0.00616),  # concave points error
        (0.0205, 0.00826),  # symmetry error
        (0.00379, 0.00264),  # fractal dimension error
        (16.3, 4.83),  # worst radius
        (25.7, 6.14),  # worst texture
        (107.0, 33.6),  # worst perimeter
        (881.0, 569.0),  # worst area
        (0.132, 0.0228),  # worst smoothness
        (0.254, 0.157),  # worst compactness
        (0.272, 0.208),  # worst concavity
        (0.115, 0.0657),  # worst concave points
        (0.29, 0.0618),  # worst symmetry
        (0.0839, 0.018),  # worst fractal dimension
    ]
)


class BreastCancer(DatasetSource):
    """Wisconsin diagnostic breast cancer: 30 features of the nuclei in a fine-needle aspirate.

    Features are standardised by constants, ``(v - mean) / sd``. Each of the 569 rows has an
    identifier of its own in the source, and is taken as one patient. It comes with scikit-learn:
    no network is needed.

    Shapes: ``x`` ``(569, 30)`` float32; ``y`` 0 malignant, 1 benign.
    """

    version = 1
    paper = "Street et al. 1993, Nuclear feature extraction for breast tumor diagnosis, SPIE 1905"

    def load(self) -> Dataset:
        from sklearn.datasets import load_breast_cancer

        table = load_breast_cancer()
        x = ((table.data - SCALE[:, 0]) / SCALE[:, 1]).astype(np.float32)
        y = table.target.astype(np.int64)
        return Dataset(
            records=Records(x, y, np.arange(len(y), dtype=np.int64)),
            source=np.full(len(y), "all"),
            name="breast_cancer",
            classes=("malignant", "benign"),
            fingerprint=lasting_digest(["breast_cancer", self.version, array_digest(x, y)]),
            citation=f"{self.paper}; CC BY 4.0",
        )


__all__ = ["BreastCancer"]

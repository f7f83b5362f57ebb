"""Model-inversion metrics: whether images of a class are recognised, and which real images they resemble.

An evaluator, another network trained on other records of the same classes, recognises the images. The
class is the unit: images of one class succeed or fail together. Recognition may come from what a whole
class has in common. Information about individuals shows where images are more similar to training
images than to others of the same class.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np

from medleak.api import Estimate, InversionTruth, InvertedImages, Metric
from medleak.metrics import image_matching as _matching
from medleak.metrics.statistics import clustered as _clustered
from medleak.metrics.statistics.clustered import Sample
from medleak.metrics.statistics.intervals import difference


class InversionMetric(Metric):
    """Base: `values` is left to write, one for each picture.

    The interval at `level` is Student's t over classes, cut to the range of the values, ``least`` to
    ``most``; with a single class there is none.
    """

    goal: ClassVar[str] = "inversion"
    version: ClassVar[int] = 1
    method: ClassVar[str] = "mean over classes; t over classes"
    least: ClassVar[float] = -np.inf
    most: ClassVar[float] = np.inf

    def __init__(self, *, level: float = 0.95):
        self.level = level

    @abstractmethod
    def values(self, output: InvertedImages, secret: InversionTruth) -> np.ndarray:
        """One value a picture, ``(K, M)``."""

    def refusal(self, output: InvertedImages) -> str:
        """Why nothing can be measured on these pictures, or ""."""
        return "" if len(output.classes) else "no classes"

    def sample(self, output: InvertedImages, secret: InversionTruth) -> Sample:
        """The values with their classes."""
        values = np.asarray(self.values(output, secret), dtype=np.float64)
        classes = np.repeat(output.classes, values.shape[1])
        return Sample(values.ravel(), classes, classes)

    def interval(self, sample: Sample) -> tuple[float, float]:
        """``low, high``, NaN where there is none."""
        return _clustered.mean_interval(sample, self.level)

    def __call__(self, output: InvertedImages, secret: InversionTruth) -> Estimate:
        """Measure; ``n`` is the number of classes."""
        if refusal := self.refusal(output):
            return Estimate(None, None, None, 0, self.level, self.method, refusal)
        sample = self.sample(output, secret)
        ends = np.clip(self.interval(sample), self.least, self.most)
        return self._measured(sample.mean, ends, len(output.classes))

    def excess(
        self, output: InvertedImages, baseline: InvertedImages, secret: InversionTruth
    ) -> Estimate:
        """How much higher the metric is on `output` than on `baseline`, pictures of the same classes."""
        if refusal := self.refusal(output):
            return Estimate(None, None, None, 0, self.level, self.method, refusal)
        ours, theirs = (self.values(one, secret).mean(axis=1) for one in (output, baseline))
        paired = Sample(ours - theirs, output.classes, output.classes)
        width = self.most - self.least
        ends = np.clip(self.difference(output, baseline, secret, paired), -width, width)
        return self._measured(paired.mean, ends, len(output.classes))

    def difference(
        self,
        output: InvertedImages,
        baseline: InvertedImages,
        secret: InversionTruth,
        paired: Sample,
    ) -> tuple[float, float]:
        """Interval of the mean difference."""
        return _clustered.mean_interval(paired, self.level)

    def _measured(self, value: float, ends: np.ndarray, n: int) -> Estimate:
        low, high = (float(end) if np.isfinite(end) else None for end in ends)
        flag = f"{n} classes" if n < FEW else ""
        return Estimate(float(value), low, high, n, self.level, self.method, flag)


FEW = 10
"""Classes below which the figures carry a flag."""


class Recognised(InversionMetric):
    """Share of pictures whose class is among the evaluator's `k` likeliest: attack accuracy, acc@k.

    `k` is cut to one less than the number of outputs, because all of them hold every class. Ties count
    by chance. (Zhang et al. 2020, The secret revealer, CVPR.)
    """

    method: ClassVar[str] = "mean over classes; Clopper-Pearson at the effective number of classes"
    least: ClassVar[float] = 0.0
    most: ClassVar[float] = 1.0

    def __init__(self, *, k: int = 1, level: float = 0.95):
        self.k = k
        self.level = level

    def invalid_parameters(self) -> list[str]:
        return [] if self.k >= 1 else [f"k {self.k}: at least 1 is needed"]

    def values(self, output: InvertedImages, secret: InversionTruth) -> np.ndarray:
        scores = np.asarray(output.scores)
        k = min(self.k, scores.shape[-1] - 1)
        own = np.take_along_axis(scores, output.classes[:, None, None], axis=2)
        above, level = (scores > own).sum(axis=2), (scores == own).sum(axis=2)
        return np.clip((k - above) / level, 0.0, 1.0)

    def interval(self, sample: Sample) -> tuple[float, float]:
        return _clustered.share_interval(sample, self.level)

    def difference(
        self,
        output: InvertedImages,
        baseline: InvertedImages,
        secret: InversionTruth,
        paired: Sample,
    ) -> tuple[float, float]:
        """Paired by class; as of independent shares, which errs on the wide side, where few classes differ."""
        if np.count_nonzero(paired.values) >= _clustered.ENOUGH:
            return _clustered.mean_interval(paired, self.level)
        ours, theirs = (self.sample(one, secret) for one in (output, baseline))
        units = [_clustered.share_units(sample, self.level) for sample in (ours, theirs)]
        return difference(ours.mean, units[0], theirs.mean, units[1], self.level)


class KNNDistance(InversionMetric):
    """Distance of a picture from the nearest image of its class that was trained on; lower is leakier.

    Squared Euclidean, between penultimate activations of the evaluator, over their number.
    """

    higher_is_leakier: ClassVar[bool] = False
    least: ClassVar[float] = 0.0

    def values(self, output: InvertedImages, secret: InversionTruth) -> np.ndarray:
        found = []
        for target, features in zip(output.classes, output.features, strict=True):
            own = secret.features[secret.y == target].astype(np.float64)
            gaps = _matching.squared_distances(features.astype(np.float64), own)
            found.append(gaps.min(axis=1))
        return np.array(found)


class NearestSSIM(InversionMetric):
    """Structural similarity to the most similar image of the class.

    Args:
        among: "trained" (on), "others" of the same class, or "gap": the first less the second, which is
            0 but for chance where the images reveal only the class, not its training records. Both
            terms use the same number of images.
    """

    least: ClassVar[float] = -1.0
    most: ClassVar[float] = 1.0

    def __init__(self, *, among: str = "gap", level: float = 0.95):
        self.among = among
        self.level = level

    def invalid_parameters(self) -> list[str]:
        from medleak.core.suggestions import unknown

        known = ("trained", "others", "gap")
        return [] if self.among in known else [unknown("among", self.among, known)]

    def refusal(self, output: InvertedImages) -> str:
        side = min(output.images.shape[-2:])
        small = f"images of {side} pixels are smaller than the window of {_matching.WINDOW}"
        return super().refusal(output) or (small if side < _matching.WINDOW else "")

    def values(self, output: InvertedImages, secret: InversionTruth) -> np.ndarray:
        found = []
        for target, images in zip(output.classes, output.images, strict=True):
            sides = [secret.images[secret.y == target], secret.others[secret.others_y == target]]
            n = min(MOST, *map(len, sides))
            trained, others = (_nearest(images, side[:n]) for side in sides)
            found.append(
                {"trained": trained, "others": others, "gap": trained - others}[self.among]
            )
        return np.array(found)


MOST = 200
"""Images of a class that each picture is compared with, on either side."""


def _nearest(images: np.ndarray, among: np.ndarray) -> np.ndarray:
    """SSIM with the most similar of `among` ``(N, C, H, W)``, for each of `images`; NaN without any."""
    if not len(among):
        return np.full(len(images), np.nan)
    among = among.astype(np.float64)
    return np.array(
        [
            _matching.ssim(np.broadcast_to(image.astype(np.float64), among.shape), among).max()
            for image in images
        ]
    )

"""Reconstruction metrics: how similar rebuilt images are to the originals, and which patients they identify.

The rebuilt images of an observation are assigned to its originals one to one, at the least total squared
error; a trial that failed is a bad image, never a missing one. Patients have equal weight, with several
records of a patient averaged, and intervals treat both observations and patients as clusters: images
rebuilt from one observation succeed or fail together.

Likeness and identity disagree: a blurred mean has a good PSNR and names nobody, and a noisy image may
name its patient. Read both, together with the controls of `medleak.metrics.baselines`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from medleak.api import Estimate, Guarantee, Metric, Reconstructions, ReconstructionTruth
from medleak.metrics import image_matching as _matching
from medleak.metrics.image_matching import Matched
from medleak.metrics.privacy.reconstruction_robustness import rero
from medleak.metrics.statistics import clustered as _clustered
from medleak.metrics.statistics.clustered import Sample
from medleak.metrics.statistics.intervals import difference, two_sided

FEW = 10
"""Observations below which the figures carry a flag."""


class ReconstructionMetric(Metric):
    """Base: `values` is left to write, one for each original.

    `level` is that of the two-sided interval: Student's t over clusters, cut to the range of the values,
    ``least`` to ``most``. With a single observation there is none.
    """

    goal: ClassVar[str] = "reconstruction"
    version: ClassVar[int] = 1
    method: ClassVar[str] = "mean over patients; t, clustered by observation and by patient"
    least: ClassVar[float] = -np.inf
    most: ClassVar[float] = np.inf

    def __init__(self, *, level: float = 0.95):
        self.level = level

    @abstractmethod
    def values(self, matched: Matched, output: Reconstructions) -> np.ndarray:
        """One value an original, ``(M,)``."""

    def refusal(self, output: Reconstructions) -> str:
        """Why nothing can be measured on these images, or ""."""
        return "" if int(np.sum(output.n_records)) else "no observations"

    def interval(self, sample: Sample, level: float) -> tuple[float, float]:
        """``low, high`` at `level`, NaN where there is none."""
        return _clustered.mean_interval(sample, level)

    def __call__(self, output: Reconstructions, secret: ReconstructionTruth) -> Estimate:
        """Measure; ``n`` is the number of patients.

        Raises:
            DataError: output and secret do not fit, or pixels are not finite.
        """
        refusal = self.refusal(output)
        if refusal:
            return Estimate(None, None, None, 0, self.level, self.method, refusal)
        sample = self.sample(output, secret)
        return self._estimate(sample.mean, self.interval(sample, self.level), sample)

    def sample(self, output: Reconstructions, secret: ReconstructionTruth) -> Sample:
        """The values, by observation and place in it, with their observations and patients."""
        matched = _matching.match(output, secret)
        return Sample(self.values(matched, output), matched.trials, matched.patients)

    def lower_bound(
        self, output: Reconstructions, secret: ReconstructionTruth, level: float = 0.999
    ) -> float | None:
        """One-sided lower bound at `level`; None where not measured."""
        if self.refusal(output):
            return None
        low = self.interval(self.sample(output, secret), two_sided(level))[0]
        return float(max(low, self.least)) if np.isfinite(low) else None

    def excess(
        self, output: Reconstructions, baseline: Reconstructions, secret: ReconstructionTruth
    ) -> Estimate:
        """How much higher the metric is on `output` than on `baseline`, original by original.

        `baseline` holds what the adversary has without the observation, for the same originals: see
        `medleak.metrics.baselines`.
        """
        refusal = self.refusal(output)
        if refusal:
            return Estimate(None, None, None, 0, self.level, self.method, refusal)
        ours, theirs = self.sample(output, secret), self.sample(baseline, secret)
        paired = Sample(ours.values - theirs.values, ours.trials, ours.patients)
        width = self.most - self.least
        low, high = np.clip(self.difference(ours, theirs, paired), -width, width)
        return self._measured(paired.mean, (low, high), paired)

    def difference(self, ours: Sample, theirs: Sample, paired: Sample) -> tuple[float, float]:
        """Interval of the mean difference."""
        return _clustered.mean_interval(paired, self.level)

    def _estimate(self, value: float, ends: tuple[float, float], sample: Sample) -> Estimate:
        low, high = np.clip(ends, self.least, self.most)
        return self._measured(value, (low, high), sample)

    def _measured(self, value: float, ends: tuple[float, float], sample: Sample) -> Estimate:
        low, high = (float(end) if np.isfinite(end) else None for end in ends)
        n, trials = len(np.unique(sample.patients)), len(np.unique(sample.trials))
        flag = f"{trials} observation{'s' * (trials > 1)}" if trials < FEW else ""
        return Estimate(value, low, high, n, self.level, self.method, flag)


class MSE(ReconstructionMetric):
    """Mean squared pixel error, of values in 0..1; lower is leakier."""

    higher_is_leakier: ClassVar[bool] = False
    least: ClassVar[float] = 0.0

    def values(self, matched: Matched, output: Reconstructions) -> np.ndarray:
        return _matching.mse(matched.rebuilt, matched.originals)


class PSNR(ReconstructionMetric):
    """Mean over images of ``-10 log10 MSE``, in dB, each at most `cap`.

    The mean of the images' PSNR, not the PSNR of their mean error. Without the cap a single exact image
    makes the mean infinite. A mean of hits (some 70 dB) and misses (some 10) describes neither: read
    `Recovered` as well.
    """

    def __init__(self, *, cap: float = 100.0, level: float = 0.95):
        self.cap = cap
        self.level = level

    @property
    def most(self) -> float:
        """No interval goes beyond the cap."""
        return self.cap

    def invalid_parameters(self) -> list[str]:
        return (
            [] if 0 < self.cap < np.inf else [f"cap {self.cap}: a positive number of dB is needed"]
        )

    def values(self, matched: Matched, output: Reconstructions) -> np.ndarray:
        return _matching.psnr(matched.rebuilt, matched.originals, self.cap)


class SSIM(ReconstructionMetric):
    """Mean structural similarity, 1 for an exact image.

    Conventions: `medleak.metrics.image_matching.ssim`. Images smaller than its window are not measured.
    """

    least: ClassVar[float] = -1.0
    most: ClassVar[float] = 1.0

    def refusal(self, output: Reconstructions) -> str:
        return super().refusal(output) or _too_small(output)

    def values(self, matched: Matched, output: Reconstructions) -> np.ndarray:
        return _matching.ssim(matched.rebuilt, matched.originals)


class _Share(ReconstructionMetric):
    """Base of shares of patients: Clopper-Pearson intervals at an effective number of units."""

    method: ClassVar[str] = (
        "mean over patients; Clopper-Pearson at the effective number of units, "
        "clustered by observation and by patient"
    )
    least: ClassVar[float] = 0.0
    most: ClassVar[float] = 1.0

    def interval(self, sample: Sample, level: float) -> tuple[float, float]:
        return _clustered.share_interval(sample, level)

    def difference(self, ours: Sample, theirs: Sample, paired: Sample) -> tuple[float, float]:
        """As of independent shares, which errs on the wide side where the same patients are easy."""
        units = [_clustered.share_units(sample, self.level) for sample in (ours, theirs)]
        return difference(ours.mean, units[0], theirs.mean, units[1], self.level)

    def lower_bound(
        self, output: Reconstructions, secret: ReconstructionTruth, level: float = 0.999
    ) -> float | None:
        """`medleak.metrics.statistics.clustered.share_lower_bound`: valid whatever the dependence within trials."""
        if self.refusal(output):
            return None
        return _clustered.share_lower_bound(self.sample(output, secret), level)


class Identified(_Share):
    """Share of rebuilt images whose nearest gallery image is the true patient's.

    The gallery holds records of all labels: one restricted to the true label would give away the label.
    Nearest is by squared error, after each image is brought to mean 0 and variance 1 (`standardise`, the
    default): ordering by correlation. Attacks lose brightness and contrast first, which say little about
    who is shown; raw errors then draw every faint reconstruction to the same few faint images. Raw
    errors are right only where intensities themselves are the reconstruction (`standardise=False`).
    With `k` above 1 the true patient has to be among the `k` nearest. Ties count by chance.

    Chance is `chance`. As rebuilt images are assigned with the truth at hand, an attack that names B
    different patients for a batch of B may reach B times that by luck: the baseline to compare with is
    the same metric on images rebuilt without this observation.
    """

    def __init__(self, *, k: int = 1, standardise: bool = True, level: float = 0.95):
        self.k = k
        self.standardise = standardise
        self.level = level

    def invalid_parameters(self) -> list[str]:
        return [] if self.k >= 1 else [f"k {self.k}: at least 1 is needed"]

    def values(self, matched: Matched, output: Reconstructions) -> np.ndarray:
        prepare = _matching.standardised if self.standardise else np.asarray
        gallery = prepare(np.asarray(output.gallery, dtype=np.float64))
        patients = np.asarray(output.patients)
        return _matching.hits(prepare(matched.rebuilt), matched.patients, gallery, patients, self.k)

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """`medleak.metrics.privacy.reconstruction_robustness.rero` at a prior-only success of `prior`.

        An image names one patient, so that the prior can be counted; it may be like many, which is why
        `Recovered` has no ceiling. None without `prior`: only who drew the records knows what can be guessed without the observation,
        and whether the guarantees speak of this draw: see `medleak.metrics.privacy.reconstruction_robustness`.
        """
        return None if prior is None else rero(guarantees, prior)


class Recovered(_Share):
    """Share of rebuilt images at least as like their original as a stated threshold.

    `measure` "ssim" or "psnr" (dB) has to be at least `threshold`. A threshold means something only
    above what the best image of somebody else reaches, even chosen with the truth at hand:
    `medleak.metrics.baselines.reach` says how far that is. On chest X-rays of 28 pixels, the nearest of
    2000 other patients has a median SSIM of .80, and .90 at most among 150; but 22 dB in the median and
    28 dB at most, so that 20 dB would call the mean image a recovery. Hence SSIM .9. It is strict: white
    noise of deviation .05 already fails it.
    """

    def __init__(self, *, measure: str = "ssim", threshold: float = 0.9, level: float = 0.95):
        self.measure = measure
        self.threshold = threshold
        self.level = level

    def invalid_parameters(self) -> list[str]:
        from medleak.core.suggestions import unknown

        known = ("ssim", "psnr")
        return [] if self.measure in known else [unknown("measure", self.measure, known)]

    def refusal(self, output: Reconstructions) -> str:
        small = _too_small(output) if self.measure == "ssim" else ""
        return super().refusal(output) or small

    def values(self, matched: Matched, output: Reconstructions) -> np.ndarray:
        if self.measure == "ssim":
            likeness = _matching.ssim(matched.rebuilt, matched.originals)
            return (likeness >= self.threshold).astype(np.float64)
        error = _matching.mse(matched.rebuilt, matched.originals)
        return (error <= 10 ** (-self.threshold / 10)).astype(np.float64)


def chance(patients: np.ndarray, k: int = 1) -> float:
    """Share identified by an image that has nothing to do with the gallery: ``k / patients``."""
    return min(1.0, k / len(np.unique(patients)))


def _too_small(output: Reconstructions) -> str:
    side = min(np.shape(output.gallery)[-2:])
    window = _matching.WINDOW
    return (
        f"images of {side} pixels are smaller than the window of {window}" if side < window else ""
    )

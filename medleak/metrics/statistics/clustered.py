"""Means of values that are dependent twice over: by observation and by patient.

Images rebuilt from one observation succeed or fail together, and a patient may be behind several
observations. Each patient weighs the same; intervals treat both groupings as clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medleak.metrics.statistics.intervals import clopper_pearson

ENOUGH = 5
"""Observations with a hit, and with a miss, from which their own variance is believed."""


@dataclass(frozen=True)
class Sample:
    """One value an image, ``(M,)`` each: the value, its observation and its patient."""

    values: np.ndarray
    trials: np.ndarray
    patients: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """``(M,)``, sum 1: every patient has the same weight, divided among that patient's images."""
        _, inverse, counts = np.unique(self.patients, return_inverse=True, return_counts=True)
        return 1 / (len(counts) * counts[inverse])

    @property
    def mean(self) -> float:
        """The mean over patients of each patient's mean."""
        return float(np.average(self.values, weights=self.weights))  # exactly 1 where all are 1

    def units(self) -> float:
        """Kish's effective number of observations, or of patients where that is smaller.

        As if all images of an observation said the same: never too many.
        """
        return min(_kish(self.weights, self.trials), _kish(self.weights, self.patients))

    def variance(self) -> float:
        """Variance of the mean, clustered by observation and by patient; NaN with one of either.

        ``V = V_observation + V_patient - V_both``, and no less than either alone. (Cameron et al. 2011,
        Robust inference with multiway clustering, Journal of Business & Economic Statistics.)
        """
        residual = self.weights * (self.values - self.mean)
        trial, patient = _index(self.trials), _index(self.patients)
        pair = _index(trial * (patient.max() + 1) + patient)
        by_trial, by_patient, by_both = (_spread(residual, g) for g in (trial, patient, pair))
        return float(np.max([by_trial, by_patient, by_trial + by_patient - by_both]))


def mean_interval(sample: Sample, level: float) -> tuple[float, float]:
    """Student's t with ``units - 1`` degrees of freedom; NaN with a single observation."""
    from scipy.stats import t

    units = sample.units()
    if units < 1.5:
        return float("nan"), float("nan")
    width = t.ppf((1 + level) / 2, units - 1) * np.sqrt(sample.variance())
    return sample.mean - width, sample.mean + width


def share_units(sample: Sample, level: float) -> float:
    """Effective number of units behind a share: what its own clustered variance says of them.

    ``p (1 - p) / V``, less for the estimation of V, but never below `Sample.units` (the worst case) nor
    above the number of patients. Where hits, or misses, come from fewer than `ENOUGH` observations V
    is not to be trusted, and the worst case holds. (Korn & Graubard 1998, Confidence intervals for
    proportions with small expected number of positive counts, Survey Methodology.)
    """
    from scipy.stats import norm, t

    worst, p = sample.units(), sample.mean
    hits, misses = (
        len(np.unique(sample.trials[x > 0])) for x in (sample.values, 1 - sample.values)
    )
    if worst < 1.5 or min(hits, misses) < ENOUGH:
        return worst
    variance, upper = sample.variance(), (1 + level) / 2
    shrink = (norm.ppf(upper) / t.ppf(upper, worst - 1)) ** 2
    most = float(len(np.unique(sample.patients)))
    return most if variance <= 0 else float(np.clip(p * (1 - p) / variance * shrink, worst, most))


def share_interval(sample: Sample, level: float) -> tuple[float, float]:
    """Clopper-Pearson at `share_units`."""
    units = share_units(sample, level)
    low, high = clopper_pearson(sample.mean * units, units, level)
    return float(low), float(high)


def share_lower_bound(sample: Sample, level: float) -> float:
    """One-sided lower bound of a share from `Sample.units` values in 0..1, whatever their distribution.

    A sum of independent values in 0..1 exceeds a point at most e times as often as a binomial of the
    same mean; the tail is made that much smaller. (Bentkus 2004, On Hoeffding's inequalities, Annals of
    Probability.)
    """
    units, tail = sample.units(), (1 - level) / np.e
    return float(clopper_pearson(sample.mean * units, units, 1 - 2 * tail)[0])


def _kish(weights: np.ndarray, groups: np.ndarray) -> float:
    return float(1 / (np.bincount(_index(groups), weights=weights) ** 2).sum())


def _index(groups: np.ndarray) -> np.ndarray:
    return np.unique(groups, return_inverse=True)[1]


def _spread(residual: np.ndarray, index: np.ndarray) -> float:
    sums = np.bincount(index, weights=residual)
    n = len(sums)
    return float(n / (n - 1) * (sums**2).sum()) if n > 1 else float("nan")

"""Intervals that cover: equal-tailed, by patients, at small samples and near 0 and 1.

Every function takes the two-sided `level`; a one-sided bound at level L is one end of the two-sided
interval at ``2 L - 1`` (`two_sided`). Several records of one patient count as Kish's effective number
of units, ``(sum m)^2 / sum m^2`` for patients with ``m`` records: as if a patient's records all said
the same, hence never too many.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from medleak.metrics.statistics.roc import auc, roc, tpr_at


def two_sided(level: float) -> float:
    """The two-sided level whose lower end is the one-sided lower bound at `level`."""
    return 2 * level - 1


def crossfit_level(level: float) -> float:
    """The level whose normal quantile is sqrt(2) that of `level`, for cross-fitted statistics.

    Cross-fitting lets each pair of patients speak twice, once with either in the fitting part. Near
    chance, where all that folds share is noise, that doubles the variance that a count of independent
    units would have.
    """
    from scipy.stats import norm

    return float(1 - 2 * norm.sf(np.sqrt(2) * norm.ppf((1 + level) / 2)))


def effective_units(patients: np.ndarray) -> float:
    """Kish's effective number of patients behind these records; patients with equally many count 1."""
    counts = np.unique(patients, return_counts=True)[1].astype(float)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0


def clopper_pearson(
    k: np.ndarray | float, n: np.ndarray | float, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Exact interval of a proportion: `k` of `n` units (either may be fractional), arrays allowed.

    Its lower end at ``two_sided(L)`` is the one-sided lower bound at L. (Clopper & Pearson 1934,
    The use of confidence or fiducial limits, Biometrika.)
    """
    from scipy.stats import beta

    k, n = np.broadcast_arrays(np.asarray(k, dtype=float), np.asarray(n, dtype=float))
    tail = (1 - level) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k <= 0, 0.0, beta.ppf(tail, k, n - k + 1))
        high = np.where(k >= n, 1.0, beta.ppf(1 - tail, k + 1, n - k))
    return low, high


def difference(
    p1: float, n1: float, p0: float, n0: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval of ``p1 - p0`` for two independent proportions over `n1` and `n0` units.

    Each side joins the distances of the Clopper-Pearson limits in quadrature. (Newcombe 1998, Interval
    estimation for the difference between independent proportions, Statistics in Medicine; there with
    Wilson's limits.)
    """
    low1, high1 = clopper_pearson(p1 * n1, n1, level)
    low0, high0 = clopper_pearson(p0 * n0, n0, level)
    low = p1 - p0 - np.hypot(p1 - low1, high0 - p0)
    high = p1 - p0 + np.hypot(high1 - p1, p0 - low0)
    return float(max(low, -1.0)), float(min(high, 1.0))


def auc_interval(
    scores: np.ndarray, member: np.ndarray, patients: np.ndarray, level: float = 0.95
) -> tuple[float, float]:
    """The wider, at each end, of two intervals of the AUC.

    DeLong's variance, by patients, on the logit scale follows the data but vanishes as the AUC nears
    1; Newcombe's inversion of Hanley and McNeil's variance does not, but assumes a shape. (DeLong et
    al. 1988, Biometrics; Obuchowski 1997, Biometrics; Newcombe 2006, Statistics in Medicine.)
    """
    from scipy.stats import norm

    z = float(norm.ppf((1 + level) / 2))
    value = auc(scores, member)
    units = effective_units(patients[member]), effective_units(patients[~member])
    low, high = _newcombe(value, *units, z), 1 - _newcombe(1 - value, *units, z)
    error = delong_error(scores, member, patients)
    if 0 < value < 1 and np.isfinite(error):
        centre, width = np.log(value / (1 - value)), z * error / (value * (1 - value))
        low = min(low, float(1 / (1 + np.exp(width - centre))))
        high = max(high, float(1 / (1 + np.exp(-width - centre))))
    return low, high


def delong_error(scores: np.ndarray, member: np.ndarray, patients: np.ndarray) -> float:
    """Standard error of the AUC by patients; DeLong's where each patient has one record.

    NaN with fewer than two patients in a class.
    """
    return clustered_error(delong_parts(scores, member, patients), patients)


def delong_parts(scores: np.ndarray, member: np.ndarray, patients: np.ndarray) -> np.ndarray:
    """What each record adds to the error of the AUC, ``(N,)``; NaN with fewer than two patients in a class.

    With ``V`` the share of the other class that a record is ordered rightly against, a patient's part
    is ``sum (V - AUC) / n_class`` over their records.
    """
    from scipy.stats import rankdata

    member = np.asarray(member, dtype=bool)
    n1, n0 = int(member.sum()), int((~member).sum())
    units1, units0 = len(np.unique(patients[member])), len(np.unique(patients[~member]))
    if min(units1, units0) < 2:
        return np.full(len(member), np.nan)
    joint = rankdata(scores)
    right = np.empty(len(joint))
    right[member] = (joint[member] - rankdata(scores[member])) / n0
    right[~member] = 1 - (joint[~member] - rankdata(scores[~member])) / n1
    part = right - right[member].mean()
    part[member] *= np.sqrt(units1 / (units1 - 1)) / n1
    part[~member] *= np.sqrt(units0 / (units0 - 1)) / n0
    return part


def clustered_error(parts: np.ndarray, patients: np.ndarray) -> float:
    """Standard error from each record's part of it: those of a patient err together."""
    inverse = np.unique(patients, return_inverse=True)[1]
    return float(np.sqrt((np.bincount(inverse, weights=parts) ** 2).sum()))


def paired_difference(
    ours: tuple[float, float, float],
    theirs: tuple[float, float, float],
    correlation: float,
) -> tuple[float, float]:
    """Interval of the difference of two estimates, ``value, low, high`` each, on the same patients.

    Distances of the limits are joined as the errors are correlated, so that the result covers where
    each of the two does. (Zou 2007, Toward using confidence intervals to compare correlations,
    Psychological Methods.)
    """
    (a, low1, high1), (b, low0, high0) = ours, theirs

    def joined(one: float, other: float) -> float:
        return float(np.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other)))

    return a - b - joined(a - low1, high0 - b), a - b + joined(high1 - a, b - low0)


def _newcombe(value: float, n1: float, n0: float, z: float) -> float:
    """Lower end: the A below `value` with ``value - A = z sqrt(V(A))``, by bisection."""
    low, high = 0.0, value
    for _ in range(60):
        a = (low + high) / 2
        spread = 1 + ((n1 + n0) / 2 - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        if value - a > z * np.sqrt(a * (1 - a) * spread / (n1 * n0)):
            low = a
        else:
            high = a
    return low


def tpr_interval(
    scores: np.ndarray,
    member: np.ndarray,
    patients: np.ndarray,
    fpr: np.ndarray | float,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the true TPR at a true FPR of `fpr`, whose threshold is itself estimated.

    Two errors are joined in quadrature at each end: Clopper-Pearson's for the share of members at the
    estimated threshold, and how far that share moves when the threshold moves to the end of its own
    distribution-free interval (binomial quantiles of how many non-members the true one flags). With
    ``N`` non-members the lower end is 0 unless ``(1 - fpr)^N`` is below ``(1 - level) / 2``: no
    threshold is then known to be safe.

    Returns:
        ``low, high``, shaped like `fpr`.
    """
    curve = roc(scores, member)
    tail = (1 - level) / 2
    inner, outer = _thresholds(curve, patients[~member], fpr, tail)
    value, units = tpr_at(*curve, fpr), effective_units(patients[member])
    low, high = clopper_pearson(value * units, units, level)
    low = value - np.hypot(value - low, value - inner)
    high = value + np.hypot(high - value, outer - value)
    return np.maximum(low, 0.0), np.minimum(high, 1.0)


def tpr_lower_bound(
    scores: np.ndarray,
    member: np.ndarray,
    patients: np.ndarray,
    fpr: float,
    level: float = 0.999,
) -> float:
    """One-sided lower bound of the true TPR at a true FPR of `fpr`, valid for any distributions.

    The threshold's end and Clopper-Pearson's each take half of ``1 - level``, so that no shape of the
    curve can break the bound: it is wider than `tpr_interval`, and made for accusing a guarantee.
    """
    curve = roc(scores, member)
    tail = (1 - level) / 2
    inner, _ = _thresholds(curve, patients[~member], fpr, tail)
    units = effective_units(patients[member])
    return float(clopper_pearson(inner * units, units, 1 - 2 * tail)[0])


def _thresholds(
    curve: tuple[np.ndarray, np.ndarray], patients: np.ndarray, fpr: np.ndarray | float, tail: float
) -> tuple[np.ndarray, np.ndarray]:
    """Empirical TPR at the strict and the lax end of the threshold, each missed with chance `tail`."""
    from scipy.stats import binom

    # Whole units, rounded down: fewer trials have the wider binomial quantiles.
    n = int(effective_units(patients) + 1e-9)
    fewest, most = binom.ppf(tail, n, fpr), binom.ppf(1 - tail, n, fpr)
    inner = np.where(fewest > 0, tpr_at(*curve, np.maximum(fewest - 1, 0) / n), 0.0)
    return inner, tpr_at(*curve, np.minimum(most, n) / n)


def cluster_bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray],
    clusters: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    level: float = 0.95,
    n_boot: int = 1000,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile interval from resampling clusters (patients) within strata.

    Percentiles are those of Student's t with as many degrees of freedom as there are clusters, less
    one, scaled by ``sqrt(n / (n - 1))``: plain percentiles are too narrow in small samples. (Hesterberg
    2015, What teachers should know about the bootstrap, The American Statistician.)

    Args:
        statistic: maps weights ``(B, N)``, how often each record was drawn, to ``(B,)`` or ``(B, S)``;
            NaN marks a resample on which it is undefined.
        clusters: ``(N,)``, the patient of each record.
        strata: ``(N,)``, such as membership, drawn from separately so that no class is ever empty;
            a cluster belongs to the stratum of its first record.

    Returns:
        ``low, high``, each ``()`` or ``(S,)``; NaN where no resample defines the statistic.
    """
    from scipy.stats import norm, t

    names, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
    stratum = np.zeros(len(names)) if strata is None else np.asarray(strata)[first]
    members = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    chunk = max(1, 4_000_000 // max(len(inverse), 1))
    draws = []
    for start in range(0, n_boot, chunk):
        n = min(chunk, n_boot - start)
        counts = np.zeros((n, len(names)))
        for index in members:
            counts[:, index] = rng.multinomial(len(index), np.full(len(index), 1 / len(index)), n)
        draws.append(np.asarray(statistic(counts[:, inverse]), dtype=float))
    n = len(names)
    tail = (1 - level) / 2
    if n > 2:
        tail = float(norm.cdf(np.sqrt(n / (n - 1)) * t.ppf(tail, n - 1)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        low, high = np.nanquantile(np.concatenate(draws), [tail, 1 - tail], axis=0)
    return low, high

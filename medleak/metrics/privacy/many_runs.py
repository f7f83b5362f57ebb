"""Bounds on epsilon from many runs: one secret bit each, a canary in or out, independent of each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from medleak.api import DataError
from medleak.metrics.privacy.epsilon_bounds import (
    CANARY_TOO,
    GAUSSIAN,
    INDEPENDENT_TRIALS,
    OTHER_HALF,
    Bound,
    gaussian_epsilon,
)
from medleak.metrics.statistics.intervals import clopper_pearson


@dataclass(frozen=True)
class Counts:
    """Errors of one fixed rule over independent trials.

    Attributes:
        fp, n_out: trials without the canary that were taken for ones with it, of how many.
        fn, n_in: trials with the canary that were taken for ones without it, of how many.
    """

    fp: int
    n_out: int
    fn: int
    n_in: int

    def upper(self, level: float) -> tuple[float, float]:
        """Clopper-Pearson upper limits of FPR and FNR, which hold together at `level`."""
        return (
            float(clopper_pearson(self.fp, self.n_out, level)[1]),
            float(clopper_pearson(self.fn, self.n_in, level)[1]),
        )

    def __str__(self) -> str:
        return (
            f"{self.fp} of {self.n_out} false positives, {self.fn} of {self.n_in} false negatives"
        )


def trials_epsilon(counts: Counts, *, delta: float = 0.0, level: float = 0.95) -> Bound:
    r"""Clopper-Pearson bound over independent trials, both directions.

    .. math::
        \hat\epsilon = \max\Big(0, \ln\frac{1 - \overline{FNR} - \delta}{\overline{FPR}},
                                   \ln\frac{1 - \overline{FPR} - \delta}{\overline{FNR}}\Big)

    with the upper limits each at error ``(1 - level) / 2``: both directions use the same two limits, so
    that their maximum needs no further correction. (Nasr et al. 2021, Adversary instantiation: lower
    bounds for differentially private machine learning, IEEE S&P.)
    """
    fpr, fnr = counts.upper(level)
    epsilon = float(_odds(fpr, fnr, delta))
    method = f"Clopper-Pearson over trials: {counts}"
    return Bound(epsilon, delta, level, method, (INDEPENDENT_TRIALS,))


def trials_gaussian(counts: Counts, *, delta: float, level: float = 0.95) -> Bound:
    r"""Bound over independent trials of a Gaussian-like mechanism: far tighter, if it is one.

    .. math::
        \hat\mu = \Phi^{-1}(1 - \overline{FPR}) - \Phi^{-1}(\overline{FNR})

    turned into epsilon at `delta`. (Nasr et al. 2023, Tight auditing of differentially private machine
    learning, USENIX Security; Dong et al. 2022, Gaussian differential privacy, JRSS B.)
    """
    fpr, fnr = counts.upper(level)
    mu = float(_mu(fpr, fnr))
    method = f"Gaussian DP over trials: {counts}"
    epsilon = gaussian_epsilon(mu, delta)
    return Bound(epsilon, delta, level, method, (INDEPENDENT_TRIALS, GAUSSIAN), mu)


def count_on_other_half(
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    delta: float = 0.0,
    level: float = 0.95,
    gaussian: bool = False,
    seed: int = 0,
) -> Counts:
    """Choose the rule "score >= t" on a random half of the trials, and count its errors on the other.

    On the first half t has the largest bound; a bound at that same t and half would be above the truth
    too often (at epsilon = 0 in half of all audits, with one public tool).

    Args:
        inside, outside: one score a trial with, and without, the canary, ``(T1,)`` and ``(T0,)``.
        gaussian: whether the bound to come is `trials_gaussian`, else `trials_epsilon`.

    Raises:
        DataError: fewer than two trials of a kind, or a NaN score.
    """
    inside, outside = np.asarray(inside, dtype=float), np.asarray(outside, dtype=float)
    if min(len(inside), len(outside)) < 2:
        raise DataError(f"{len(inside)} trials with the canary, {len(outside)} without: too few")
    if np.isnan(inside).any() or np.isnan(outside).any():
        raise DataError("a trial's score is NaN")
    rng = np.random.default_rng(seed)
    inside, outside = rng.permutation(inside), rng.permutation(outside)
    half1, half0 = len(inside) // 2, len(outside) // 2
    t = _threshold(inside[:half1], outside[:half0], delta, level, gaussian)
    kept1, kept0 = inside[half1:], outside[half0:]
    return Counts(int((kept0 >= t).sum()), len(kept0), int((kept1 < t).sum()), len(kept1))


def audit_trials(
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    delta: float = 0.0,
    level: float = 0.95,
    gaussian: bool = False,
    seed: int = 0,
) -> Bound:
    """`trials_epsilon`, or `trials_gaussian`, at a threshold from the other half of the trials.

    See `count_on_other_half` for the arguments.
    """
    counts = count_on_other_half(
        inside, outside, delta=delta, level=level, gaussian=gaussian, seed=seed
    )
    bound = (trials_gaussian if gaussian else trials_epsilon)(counts, delta=delta, level=level)
    return replace(bound, assumes=(*bound.assumes, OTHER_HALF))


def audit_runs(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    delta: float = 0.0,
    level: float = 0.95,
    gaussian: bool = False,
) -> Bound:
    r"""The bound for one canary of many: it and its threshold come from every other run.

    Given who was in, the runs are trials of each canary j: the others' coins only mix neighbouring
    data sets, which (epsilon, delta)-DP allows, being convex. On the runs 1, 3, 5 ... the pair (j, t) of the
    largest bound is chosen, and the errors of "s_j >= t" are counted on the runs 0, 2, 4 ... alone:
    a maximum over canaries on the same runs would be above the truth nearly always. The price is half of
    the runs; T of them with a perfect rule give about :math:`\ln(T / 4) - \ln\ln(2 / (1 - level))`.

    Args:
        scores, member: ``(T, P)``, of each canary in each run; independent from run to run.
        gaussian: `trials_gaussian` in place of `trials_epsilon`.

    Raises:
        DataError: fewer than two runs, or a NaN score.
    """
    scores, member = np.asarray(scores, dtype=float), np.asarray(member, dtype=bool)
    if len(scores) < 2:
        raise DataError(f"{len(scores)} run: canary and threshold need runs of their own")
    if np.isnan(scores).any():
        raise DataError("a run's score is NaN")
    j, t = _rule(scores[1::2], member[1::2], delta, level, gaussian)
    flagged, inside = scores[::2, j] >= t, member[::2, j]
    n_in, n_out = int(inside.sum()), int((~inside).sum())
    counts = Counts(int(flagged[~inside].sum()), n_out, int((~flagged[inside]).sum()), n_in)
    bound = (trials_gaussian if gaussian else trials_epsilon)(counts, delta=delta, level=level)
    return replace(bound, assumes=(*bound.assumes, CANARY_TOO))


def least_runs(level: float = 0.95, delta: float = 0.0) -> int:
    """Fewest runs from which `audit_runs` can be above zero: 21 at 95%, 43 at 99.9%.

    A rule without errors on n1 trials with the canary and n0 without has a bound above zero where
    ``a^(1/n1) + a^(1/n0) > 1 + delta``, with ``a = (1 - level) / 2``; half of the runs are counted.
    """
    a, n = (1 - level) / 2, 2
    while max(a ** (1 / k) + a ** (1 / (n - k)) for k in range(1, n)) <= 1 + delta:
        n += 1
    return 2 * n - 1


def _threshold(
    inside: np.ndarray, outside: np.ndarray, delta: float, level: float, gaussian: bool
) -> float:
    scores = np.concatenate([inside, outside])[:, None]
    member = (np.arange(len(scores)) < len(inside))[:, None]
    return _rule(scores, member, delta, level, gaussian)[1]


def _rule(
    scores: np.ndarray, member: np.ndarray, delta: float, level: float, gaussian: bool
) -> tuple[int, float]:
    """The canary j and threshold t whose rule "s_j >= t" has the largest bound on these runs."""
    # By canary, so that among equals the last one is the highest threshold of a canary.
    order = np.argsort(scores.T, axis=1, kind="stable")
    ranked = np.take_along_axis(scores.T, order, axis=1)
    truth = np.take_along_axis(member.T, order, axis=1)
    n_in = truth.sum(axis=1, keepdims=True)
    fn = np.cumsum(truth, axis=1) - truth
    n_out = truth.shape[1] - n_in
    fp = n_out - (np.arange(truth.shape[1]) - fn)
    fpr = _upper(fp, np.broadcast_to(n_out, fp.shape), level)
    fnr = _upper(fn, np.broadcast_to(n_in, fn.shape), level)
    found = _mu(fpr, fnr) if gaussian else _odds(fpr, fnr, delta)
    # Equal scores fall together: only the first of them is a threshold.
    found[:, 1:][ranked[:, 1:] == ranked[:, :-1]] = -1.0
    # Where no rule shows anything yet, the two errors still say which one leans most.
    best = int(np.lexsort((-(fpr + fnr).ravel(), found.ravel()))[-1])
    j, place = np.unravel_index(best, found.shape)
    return int(j), float(ranked[j, place])


def _upper(k: np.ndarray, n: np.ndarray, level: float) -> np.ndarray:
    """Clopper-Pearson upper limits of many counts, of which few differ."""
    code = k * (int(n.max(initial=0)) + 1) + n
    codes, at = np.unique(code, return_inverse=True)
    each = clopper_pearson(*np.divmod(codes, int(n.max(initial=0)) + 1), level)[1]
    return each[at].reshape(code.shape)


def _mu(fpr: np.ndarray | float, fnr: np.ndarray | float) -> np.ndarray | np.floating:
    from scipy.special import ndtri

    return np.maximum(0.0, -ndtri(fpr) - ndtri(fnr))


def _odds(
    fpr: np.ndarray | float, fnr: np.ndarray | float, delta: float
) -> np.ndarray | np.floating:
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(np.maximum(1 - fnr - delta, 0)) - np.log(fpr)
        other = np.log(np.maximum(1 - fpr - delta, 0)) - np.log(fnr)
    return np.maximum(0.0, np.maximum(one, other))

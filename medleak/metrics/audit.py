"""Lower bounds on epsilon from attacks: what a differential-privacy claim must at least have been.

A bound says: were the mechanism (epsilon, delta)-DP with a smaller epsilon, guesses as good as these
would come with probability ``1 - level`` at most. It holds for any attack, under the assumptions that
each `Bound` names; a weak attack makes it small, never wrong. Two kinds of evidence are not to be mixed:

- *trials*: many runs, one secret bit each (a canary in or out), independent of each other;
- *one run*: many canaries, each in or out by its own fair coin, in a single model (or in a few).

Adjacency is add-or-remove throughout, which is what the coins play: a promise about replacing a record
is another one. A threshold is never chosen on the trials that it is judged by, and the number of
guesses in a run is fixed before anything is seen, or paid for (Bonferroni).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medleak.api import DataError
from medleak.metrics.intervals import clopper_pearson

INDEPENDENT_TRIALS = "each trial is a run of the whole training, independent of the others"
OTHER_HALF = "the threshold was chosen on trials that are not counted"
FAIR_COINS = "each canary is in the training set by its own fair coin"
FIXED_GUESSES = "the numbers of guesses were fixed before the scores were seen"
GAUSSIAN = "the mechanism's trade-off curve is that of a Gaussian mechanism"

MOST_EPSILON = 60.0
"""Where searches end: an odds ratio that no count of trials or guesses can reach."""


@dataclass(frozen=True)
class Bound:
    """A one-sided lower bound.

    Attributes:
        epsilon: the bound, for `delta`; 0 where nothing was found.
        delta: the claim's delta that it allows for.
        level: one minus the probability of a bound above the truth.
        method: in words, with its counts.
        assumes: what must hold, in words.
        mu: the bound of the Gaussian parameter, where one was computed.
    """

    epsilon: float
    delta: float
    level: float
    method: str
    assumes: tuple[str, ...]
    mu: float | None = None


# --------------------------------------------------------------------------- many runs


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


def _threshold(
    inside: np.ndarray, outside: np.ndarray, delta: float, level: float, gaussian: bool
) -> float:
    candidates = np.unique(np.concatenate([inside, outside]))
    fp = len(outside) - np.searchsorted(np.sort(outside), candidates, side="left")
    fn = np.searchsorted(np.sort(inside), candidates, side="left")
    fpr = clopper_pearson(fp, len(outside), level)[1]
    fnr = clopper_pearson(fn, len(inside), level)[1]
    found = _mu(fpr, fnr) if gaussian else _odds(fpr, fnr, delta)
    # Where no rule shows anything yet, the two errors still say which one leans most.
    return float(candidates[np.lexsort((-(fpr + fnr), found))[-1]])


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


def gaussian_delta(mu: float, epsilon: float) -> float:
    r"""Smallest delta of a mu-Gaussian-DP mechanism at `epsilon` (Dong et al. 2022, corollary 2.13).

    .. math::
        \Phi\Big(-\frac\epsilon\mu + \frac\mu2\Big) - e^\epsilon \Phi\Big(-\frac\epsilon\mu - \frac\mu2\Big)
    """
    from scipy.special import log_ndtr, ndtr

    if mu <= 0:
        return 0.0
    second = np.exp(epsilon + log_ndtr(-epsilon / mu - mu / 2))
    return float(ndtr(-epsilon / mu + mu / 2) - second)


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon >= 0 at which a mu-Gaussian-DP mechanism has `delta`; infinite at delta 0."""
    from scipy.optimize import brentq

    if mu <= 0 or gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    if delta <= 0:
        return float("inf")
    most = 1.0
    while gaussian_delta(mu, most) > delta:
        most *= 2
    return float(brentq(lambda epsilon: gaussian_delta(mu, epsilon) - delta, 0.0, most))


# --------------------------------------------------------------------------- one run


@dataclass(frozen=True)
class Guesses:
    """What was guessed in one run.

    Attributes:
        n: canaries, guessed about or not.
        made: guesses.
        right: right ones.
    """

    n: int
    made: int
    right: int

    def __str__(self) -> str:
        return f"{self.right} of {self.made} guesses right, {self.n} canaries"


def guess(
    scores: np.ndarray, member: np.ndarray, *, top: int, bottom: int, seed: int = 0
) -> Guesses:
    """Call the `top` highest scores members and the `bottom` lowest ones non-members.

    Ties are broken by a fixed shuffle of the positions: by position alone, equal scores would be guessed
    right wherever members stand first in a file.

    Args:
        scores, member: ``(N,)``.

    Raises:
        DataError: more guesses than canaries.
    """
    scores, member = np.asarray(scores, dtype=float), np.asarray(member, dtype=bool)
    n = len(scores)
    if top + bottom > n:
        raise DataError(f"{top} + {bottom} guesses about {n} canaries")
    order = np.lexsort((np.random.default_rng(seed).permutation(n), scores))
    right = int((~member[order[:bottom]]).sum() + member[order[n - top :]].sum())
    return Guesses(n, top + bottom, right)


def one_run_p_value(found: Guesses, *, epsilon: float, delta: float = 0.0) -> float:
    r"""Largest probability of so many right guesses under (epsilon, delta)-DP.

    With v of r guesses right about m canaries and :math:`q = 1 / (1 + e^{-\epsilon})`,

    .. math::
        p = \min(1, \beta + 2 m \delta \alpha), \quad \beta = \Pr[Bin(r, q) \ge v], \quad
        \alpha = \max_{1 \le i \le v} \frac{\Pr[v - i \le Bin(r, q) < v]}{i}

    (Steinke et al. 2023, Privacy auditing with one (1) training run, NeurIPS.)
    """
    from scipy.special import bdtr, expit

    v, r, q = found.right, found.made, expit(epsilon)
    below = float(bdtr(v - 1, r, q)) if v > 0 else 0.0
    beta = _upper_tail(v, r, q)
    if delta <= 0 or v == 0:
        return min(1.0, beta)
    i = np.arange(1, v + 1)
    lowest = np.where(i < v, bdtr(np.maximum(v - i - 1, 0), r, q), 0.0)
    alpha = float(((below - lowest) / i).max())
    return float(min(1.0, beta + 2 * found.n * delta * alpha))


def _upper_tail(v: int, r: int, q: float) -> float:
    from scipy.special import bdtrc

    return 1.0 if v <= 0 else float(bdtrc(v - 1, r, q))


def one_run_epsilon(
    found: Guesses, *others: Guesses, delta: float = 0.0, level: float = 0.95
) -> Bound:
    r"""The smallest epsilon that the guesses about one run do not reject; see `one_run_p_value`.

    With `others`, guesses about further runs of the same mechanism, the p-value is
    :math:`\min(1, 2 \bar p)`: valid however the runs depend on each other, as leave-one-out targets do,
    which are attacked with one another's members known. (Vovk & Wang 2020, Combining p-values via
    averaging, Biometrika.)
    """
    runs = (found, *others)

    def p_value(epsilon: float) -> float:
        each = [one_run_p_value(one, epsilon=epsilon, delta=delta) for one in runs]
        return each[0] if not others else min(1.0, 2 * sum(each) / len(each))

    epsilon = _smallest(lambda e: p_value(e) >= 1 - level, MOST_EPSILON)
    right = sum(one.right for one in runs) / len(runs)
    told = f"one run: {found}"
    if others:
        told = f"{len(runs)} runs, twice the mean p-value: {right:g} of {found.made} guesses right in the mean, {found.n} canaries"
    return Bound(epsilon, delta, level, told, (FAIR_COINS, FIXED_GUESSES))


def audit_one_run(
    scores: np.ndarray,
    member: np.ndarray,
    *,
    shares: Sequence[Sequence[float]],
    delta: float = 0.0,
    level: float = 0.95,
    bound: Callable[..., Bound] = one_run_epsilon,
) -> Bound:
    """The largest bound over a list of shares to guess about, each at ``1 - (1 - level) / J``.

    Args:
        scores, member: ``(N,)``, or ``(T, N)`` of several runs; members drawn by independent fair coins.
        shares: J pairs, the shares of canaries to call members and non-members. The list must not
            depend on the scores; every entry is paid for.
        bound: `one_run_epsilon`; for a single run also `fdp_epsilon` or `fdp_gaussian`.
    """
    runs = list(zip(np.atleast_2d(scores), np.atleast_2d(member), strict=True))
    each = 1 - (1 - level) / len(shares)
    tried = []
    for pair in shares:
        top, bottom = counts_of(np.shape(scores)[-1], pair)
        found = [guess(*run, top=top, bottom=bottom) for run in runs]
        tried.append(bound(*found, delta=delta, level=each))
    best = max(tried, key=lambda one: one.epsilon)
    if len(shares) == 1:
        return best
    return replace(
        best, level=level, method=f"{best.method}; best of {len(shares)} plans, Bonferroni"
    )


def counts_of(n: int, pair: Sequence[float]) -> tuple[int, int]:
    """How many of `n` canaries to call members and non-members: rounded down, but at least one each
    where the share is above zero and there are two."""
    top, bottom = (max(int(n * share + 1e-9), 1) if share > 0 else 0 for share in pair)
    return min(top, n - min(bottom, n // 2)), min(bottom, n // 2)


# --------------------------------------------------------------------------- one run, f-DP


def fdp_rejects(found: Guesses, inverse: Callable[[float], float], *, level: float = 0.95) -> bool:
    r"""Whether so many right guesses have probability below ``1 - level`` under f-DP.

    Let :math:`p_j` be the probability of exactly j right guesses of r about m canaries. For one canary,
    being guessed right while c - 1 others are is bounded by being guessed wrong while c - 1 others are
    right, through the trade-off curve; averaged over the canaries (the curve is concave),

    .. math::
        \sum_{j \ge c} \frac jm p_j \le
            \bar f\Big(\sum_{j \ge c - 1} \frac{r - j}m p_j\Big) \quad \text{for all } c \ge 1,

    with :math:`\bar f` the largest TPR at each FPR. Starting from a mass ``1 - level`` at `right`, the
    constraints are followed downwards with as little mass as they allow; more than one in all is a
    contradiction. `inverse` must hold for both directions (add and remove).

    Args:
        inverse: TPR -> the smallest FPR at which it is allowed.

    (Mahloujifar et al. 2025, Auditing f-differential privacy in one run, ICML.)
    """
    r, n, mass = found.made, found.n, 1 - level
    right = mass * found.right / n
    wrong = mass * (r - found.right) / n
    for j in range(found.right - 1, -1, -1):
        needed = max(wrong, inverse(right))
        right += j / (r - j) * (needed - wrong)
        wrong = needed
        if right + wrong > r / n:
            return True
    return False


def approximate_inverse(epsilon: float, delta: float) -> Callable[[float], float]:
    """TPR -> least FPR under (epsilon, delta)-DP, both directions."""
    grow = float(np.exp(epsilon))

    def inverse(tpr: float) -> float:
        return max(0.0, (tpr - delta) / grow, 1 - delta - grow * (1 - tpr))

    return inverse


def gaussian_inverse(mu: float) -> Callable[[float], float]:
    """TPR -> least FPR under mu-Gaussian DP."""
    from scipy.special import ndtr, ndtri

    def inverse(tpr: float) -> float:
        return float(ndtr(ndtri(tpr) - mu))

    return inverse


def fdp_epsilon(found: Guesses, *, delta: float = 0.0, level: float = 0.95) -> Bound:
    """The smallest epsilon whose (epsilon, delta) curve is not rejected; see `fdp_rejects`.

    No assumption beyond `one_run_epsilon`'s; a little below it at delta 0, above it where ``n delta``
    is not small.
    """
    epsilon = _smallest(
        lambda e: not fdp_rejects(found, approximate_inverse(e, delta), level=level), MOST_EPSILON
    )
    return Bound(epsilon, delta, level, f"f-DP in one run: {found}", (FAIR_COINS, FIXED_GUESSES))


def fdp_gaussian(found: Guesses, *, delta: float, level: float = 0.95) -> Bound:
    """The smallest mu whose Gaussian curve is not rejected, as epsilon at `delta`; see `fdp_rejects`."""
    mu = _smallest(lambda m: not fdp_rejects(found, gaussian_inverse(m), level=level), 20.0)
    method = f"Gaussian DP in one run: {found}"
    epsilon = gaussian_epsilon(mu, delta)
    return Bound(epsilon, delta, level, method, (FAIR_COINS, FIXED_GUESSES, GAUSSIAN), mu)


def _smallest(holds: Callable[[float], bool], most: float) -> float:
    """Where the monotone `holds` becomes true on ``[0, most]``, by bisection, from below."""
    if holds(0.0):
        return 0.0
    low, high = 0.0, most
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return low

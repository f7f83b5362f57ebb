"""Bounds on epsilon from one run: many canaries, each in or out by its own fair coin, in one model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from medleak.api import DataError
from medleak.metrics.privacy.epsilon_bounds import (
    FAIR_COINS,
    FIXED_GUESSES,
    GAUSSIAN,
    Bound,
    gaussian_epsilon,
)

MOST_EPSILON = 60.0
"""Where searches end: an odds ratio that no count of guesses can reach."""


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
        # Of many runs, few differ.
        one_p = functools.cache(functools.partial(one_run_p_value, epsilon=epsilon, delta=delta))
        each = [one_p(one) for one in runs]
        return each[0] if not others else min(1.0, 2 * sum(each) / len(each))

    epsilon = _smallest(lambda e: p_value(e) >= 1 - level, MOST_EPSILON)
    right = sum(one.right for one in runs) / len(runs)
    method = f"one run: {found}"
    if others:
        method = f"{len(runs)} runs, twice the mean p-value: {right:g} of {found.made} guesses right in the mean, {found.n} canaries"
    return Bound(epsilon, delta, level, method, (FAIR_COINS, FIXED_GUESSES))


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

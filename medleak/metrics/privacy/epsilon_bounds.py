"""A lower bound on epsilon with its assumptions, and the Gaussian mechanism's epsilon and delta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

INDEPENDENT_TRIALS = "each trial is a run of the whole training, independent of the others"
OTHER_HALF = "the threshold was chosen on trials that are not counted"
CANARY_TOO = "canary and threshold were chosen on runs that are not counted"
FAIR_COINS = "each canary is in the training set by its own fair coin"
FIXED_GUESSES = "the numbers of guesses were fixed before the scores were seen"
GAUSSIAN = "the mechanism's trade-off curve is that of a Gaussian mechanism"


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

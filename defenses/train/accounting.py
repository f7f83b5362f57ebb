"""Privacy accounting of the Poisson-subsampled Gaussian mechanism, add/remove adjacency.

One step adds ``N(0, (sigma C)^2)`` to a sum of vectors of norm at most ``C`` over a Poisson sample
of rate `q`; `steps` of them are composed. The accountant is chosen by where each is valid:

- "PLD" (Koskela et al. 2020; Doroshenko et al. 2022) up to epsilon `PLD_LIMIT`; its discretisation
  is proportional to epsilon and errs on the safe side;
- "RDP" (Mironov 2017; Mironov et al. 2019) beyond it;
- "nominal (RDP)" where sampling no longer amplifies: the smallest order 1.1 binds, epsilon is about
  ``1.1 steps / (2 sigma^2)`` whatever `q` is, and the number is a name rather than a protection.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from medleak.api import ConfigError

PLD_LIMIT = 700
"""Beyond it e^epsilon leaves double precision, and dp-accounting answers infinity."""
_TOLERANCE = 1e-4
_UNAMPLIFIED = 0.99


@functools.lru_cache(maxsize=256)
def calibrate(epsilon: float, delta: float, q: float, steps: int) -> tuple[float, str]:
    """The smallest noise multiplier that spends at most `epsilon`, and the accountant's name.

    The result is within a relative 1e-4 above the exact root, and
    ``epsilon_of(sigma, ...) <= epsilon`` always holds.

    Raises:
        ConfigError: a parameter out of range, named with its value.
    """
    _check(delta, q, steps)
    if not epsilon > 0 or math.isinf(epsilon):
        raise ConfigError(f"epsilon {epsilon:g} must be positive and finite")
    if epsilon > PLD_LIMIT:
        start = math.sqrt(1.1 * steps / (2 * epsilon))
        sigma = _smallest_sigma(lambda s: rdp_epsilon(s, delta, q, steps), epsilon, start)
        return sigma, _rdp_name(sigma, delta, q, steps)
    grid, start = _grid(epsilon), _central_limit(epsilon, delta, q, steps)
    return _smallest_sigma(lambda s: pld_epsilon(s, delta, q, steps, grid), epsilon, start), "PLD"


@functools.lru_cache(maxsize=256)
def epsilon_of(sigma: float, delta: float, q: float, steps: int) -> tuple[float, str]:
    """The epsilon at `delta` that `steps` steps of noise multiplier `sigma` spend, and by whom.

    Raises:
        ConfigError: a parameter out of range, named with its value.
    """
    _check(delta, q, steps)
    if not sigma > 0 or math.isinf(sigma):
        raise ConfigError(f"noise multiplier {sigma:g} must be positive and finite")
    rdp = rdp_epsilon(sigma, delta, q, steps)
    if rdp <= 100 * PLD_LIMIT:  # RDP overshoots by less than that
        guess = pld_epsilon(sigma, delta, q, steps, _grid(min(rdp, PLD_LIMIT)))
        # A guess just above a boundary may come from the grid below it.
        grids = {_grid(guess), _grid(guess / 1.05)} if guess < math.inf else set()
        epsilon = min((pld_epsilon(sigma, delta, q, steps, g) for g in grids), default=math.inf)
        if epsilon <= PLD_LIMIT:
            return epsilon, "PLD"
    return rdp, _rdp_name(sigma, delta, q, steps)


def group(epsilon: float, delta: float, k: int) -> tuple[float, float]:
    """``(k epsilon, delta (e^(k epsilon) - 1) / (e^epsilon - 1))``: the same promise for `k` records.

    delta is infinite where it overflows; from 1 on, nothing is promised (Dwork & Roth 2014, 2.2).
    """
    log_growth = (k - 1) * epsilon + math.log1p(-math.exp(-k * epsilon))
    log_growth -= math.log1p(-math.exp(-epsilon))
    grown = math.log(delta) + log_growth
    return k * epsilon, math.exp(grown) if grown < 700 else math.inf


def pld_epsilon(sigma: float, delta: float, q: float, steps: int, grid: float) -> float:
    """Epsilon by privacy loss distributions on multiples of `grid`; never too small."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    step = pld.from_gaussian_mechanism(sigma, sampling_prob=q, value_discretization_interval=grid)
    with np.errstate(over="ignore"):
        return float(step.self_compose(steps).get_epsilon_for_delta(delta))


def rdp_epsilon(sigma: float, delta: float, q: float, steps: int) -> float:
    """Epsilon by Rényi orders from 1.1 up; sampling never makes it worse than no sampling."""
    from absl import logging
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.rdp import RdpAccountant

    def spend(event: object) -> float:
        return float(RdpAccountant().compose(event, steps).get_epsilon(delta))

    before = logging.get_verbosity()
    # Orders whose series does not converge are left out with a warning each: still an upper bound.
    logging.set_verbosity(logging.ERROR)
    try:
        gaussian = GaussianDpEvent(sigma)
        return min(spend(gaussian), spend(PoissonSampledDpEvent(q, gaussian)))
    finally:
        logging.set_verbosity(before)


def _rdp_name(sigma: float, delta: float, q: float, steps: int) -> str:
    spent, unsampled = (rdp_epsilon(sigma, delta, rate, steps) for rate in (q, 1.0))
    return "nominal (RDP)" if q < 1 and spent >= _UNAMPLIFIED * unsampled else "RDP"


def _grid(epsilon: float) -> float:
    """1e-4 of the nearest power of ten, the same for close answers, so that they compare exactly."""
    return max(1e-4 * 10.0 ** round(math.log10(max(epsilon, 0.1))), 1e-5)


def _check(delta: float, q: float, steps: int) -> None:
    if not 0 < delta < 1:
        raise ConfigError(f"delta {delta:g} must lie strictly between 0 and 1")
    if not 0 < q <= 1:
        raise ConfigError(f"sampling rate {q:g} must lie in (0, 1]")
    if steps < 1:
        raise ConfigError(f"steps {steps} must be at least 1")


def _central_limit(epsilon: float, delta: float, q: float, steps: int) -> float:
    """A noise multiplier to start from: ``mu = q sqrt(steps (e^(1 / sigma^2) - 1))`` (Bu et al. 2020).

    Usually within a few hundredths of the root: each evaluation by PLD that it saves takes a tenth of
    a second or more, in each worker anew.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    def excess(log_mu: float) -> float:
        mu = math.exp(log_mu)
        first = norm.logcdf(-epsilon / mu + mu / 2)
        second = epsilon + norm.logcdf(-epsilon / mu - mu / 2)
        spent = first + math.log1p(-math.exp(min(second - first, -1e-12)))
        return spent - math.log(delta)

    mu = math.exp(brentq(excess, math.log(1e-3 * min(epsilon, 1)), math.log(100), xtol=1e-3))
    # Where sampling is rare the limit is far off, and an evaluation at too little noise slow.
    return max(1 / math.sqrt(math.log1p(mu**2 / (q**2 * steps))), 0.7)


def _smallest_sigma(spend: Callable[[float], float], epsilon: float, start: float) -> float:
    """Bracket from `start` by growing steps, then solve ``spend(sigma) = epsilon`` in logs."""
    from scipy.optimize import brentq

    def excess(log_sigma: float) -> float:
        # Above the noise that makes epsilon zero, a floor keeps the logarithm finite.
        return math.log(max(spend(math.exp(log_sigma)), 1e-9 * epsilon) / epsilon)

    excess = functools.cache(excess)
    low = high = math.log(start)
    width = 0.02
    while excess(high) > 0:
        low, high, width = high, high + width, 2 * width
    while excess(low) <= 0:
        low, high, width = low - width, low, 2 * width
    root = brentq(excess, low, high, xtol=_TOLERANCE / 4)
    while excess(root) > 0:
        root += _TOLERANCE / 4
    return math.exp(root)

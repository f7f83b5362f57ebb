"""Privacy profiles of mechanisms by name: every YAML in ``conf/mechanism/``, medleak's own and plugins'."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Mechanism
from medleak.config.registry import Registry

MECHANISMS: Registry[Mechanism] = Registry("mechanism", Mechanism)

MAX_LOSS = 500.0
"""Largest expected privacy loss for which a PLD is attempted; beyond, the roof is 1 wherever it
matters, while the grids of the PLD grow without bound."""


class PoissonGaussian(Mechanism):
    """Gaussian noise of `sigma` sensitivities on the sum of a Poisson sample at rate `q`, `steps` times.

    Its privacy loss distribution is composed numerically, rounded pessimistically.
    """

    name = "poisson_gaussian"
    version = 1

    def profile(self, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
        """None without `q`, `sigma` and `steps`, or where the loss is too large for a grid."""
        q, sigma, steps = (parameters.get(name) for name in ("q", "sigma", "steps"))
        if q is None or sigma is None or steps is None:
            return None
        if not (0 < q <= 1 and sigma > 0 and np.isfinite(sigma) and steps >= 1):
            return None
        return _composed(float(q), float(sigma), int(steps))


@functools.lru_cache(maxsize=256)
def _composed(q: float, sigma: float, steps: int) -> tuple[np.ndarray, np.ndarray] | None:
    mean, deviation = _loss_moments(q, sigma)
    if not np.isfinite(mean) or steps * mean > MAX_LOSS or deviation <= 0:
        return None
    from dp_accounting.pld import privacy_loss_distribution as pld

    # Rounding is pessimistic, so that any grid is valid; a twentieth of one step's deviation costs
    # under .001 of TPR, and the grid has some hundreds of points a step whatever sigma and q.
    interval = float(np.clip(deviation / 20, 1e-6, 1e-2))
    step = pld.from_gaussian_mechanism(
        sigma,
        sampling_prob=q,
        value_discretization_interval=interval,
        pessimistic_estimate=True,
    )
    composed = step.self_compose(steps)
    spread = deviation * np.sqrt(steps)
    most = min(steps * mean + 12 * spread, 700.0)
    epsilon = np.unique(
        np.concatenate([np.linspace(0, most, 1200), np.geomspace(1e-4, 1, 200) * most])
    )
    delta = np.clip(composed.get_delta_for_epsilon(epsilon), 0.0, 1.0)
    return epsilon, delta


def _loss_moments(q: float, sigma: float) -> tuple[float, float]:
    """Mean and standard deviation of one step's privacy loss where the record is in."""
    if sigma < 1e-2:
        return float("inf"), float("inf")
    z = np.linspace(-10, 10, 4001)
    mass = np.exp(-(z**2) / 2)
    mass /= mass.sum()

    def loss(x: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.logaddexp(np.log1p(-q), np.log(q) + (2 * x - 1) / (2 * sigma**2))

    out, inside = loss(sigma * z), loss(sigma * z + 1)
    mean = float(((1 - q) * out + q * inside) @ mass)
    second = float(((1 - q) * out**2 + q * inside**2) @ mass)
    return mean, float(np.sqrt(max(second - mean**2, 0.0)))

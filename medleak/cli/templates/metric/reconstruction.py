"""Plugin title: say here what it measures."""

from __future__ import annotations

from math import sqrt

import numpy as np

from medleak.api import Estimate, Metric, Reconstructions, ReconstructionTruth


class PluginName(Metric):
    """One less the mean absolute error of the image that comes nearest, message by message.

    Args:
        level: of the two-sided interval, by the normal approximation.
    """

    goal = "reconstruction"
    higher_is_leakier = True

    def __init__(self, *, level: float = 0.95):
        self.level = level

    def __call__(self, output: Reconstructions, secret: ReconstructionTruth) -> Estimate:
        from scipy.stats import norm

        values = np.zeros(len(output.images))
        for t, n in enumerate(output.n_records):
            originals = output.gallery[secret.positions[t, :n]]
            errors = np.abs(output.images[t, :n, None] - originals[None]).mean(axis=(2, 3, 4))
            values[t] = 1 - errors.min(axis=0).mean()
        n, method = len(values), "normal"
        if n < 2:
            return Estimate(None, None, None, n, self.level, method, "too few")
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        half = float(norm.ppf((1 + self.level) / 2)) * spread / sqrt(n)
        return Estimate(mean, mean - half, mean + half, n, self.level, method)

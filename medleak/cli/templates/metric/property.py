"""Plugin title: say here what it measures."""

from __future__ import annotations

from math import sqrt

from medleak.api import Estimate, Metric, PropertyScores, PropertyTruth


class PluginName(Metric):
    """Share of targets whose share is guessed, by the sign of the score.

    Args:
        level: of the two-sided interval, by the normal approximation.
    """

    goal = "property"
    higher_is_leakier = True

    def __init__(self, *, level: float = 0.95):
        self.level = level

    def __call__(self, output: PropertyScores, secret: PropertyTruth) -> Estimate:
        from scipy.stats import norm

        values = ((output.scores > 0) == secret.high).astype(float)
        n, method = len(values), "normal"
        if n < 2:
            return Estimate(None, None, None, n, self.level, method, "too few")
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        half = float(norm.ppf((1 + self.level) / 2)) * spread / sqrt(n)
        return Estimate(mean, mean - half, mean + half, n, self.level, method)

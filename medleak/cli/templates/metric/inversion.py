"""Plugin title: say here what it measures."""

from __future__ import annotations

from math import sqrt

from medleak.api import Estimate, InversionTruth, InvertedImages, Metric


class PluginName(Metric):
    """Share of pictures that the evaluator takes for their class, class by class.

    Args:
        level: of the two-sided interval, by the normal approximation.
    """

    goal = "inversion"
    higher_is_leakier = True

    def __init__(self, *, level: float = 0.95):
        self.level = level

    def __call__(self, output: InvertedImages, secret: InversionTruth) -> Estimate:
        from scipy.stats import norm

        right = output.scores.argmax(axis=2) == output.classes[:, None]
        values = right.mean(axis=1)
        n, method = len(values), "normal"
        if n < 2:
            return Estimate(None, None, None, n, self.level, method, "too few")
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        half = float(norm.ppf((1 + self.level) / 2)) * spread / sqrt(n)
        return Estimate(mean, mean - half, mean + half, n, self.level, method)

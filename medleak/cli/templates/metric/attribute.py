"""Plugin title: say here what it measures."""

from __future__ import annotations

from math import sqrt

import numpy as np

from medleak.api import AttributeScores, AttributeTruth, Estimate, Metric


class PluginName(Metric):
    """Share of patients whose value is guessed.

    Args:
        level: of the two-sided interval, by the normal approximation.
    """

    goal = "attribute"
    higher_is_leakier = True

    def __init__(self, *, level: float = 0.95):
        self.level = level

    def __call__(self, output: AttributeScores, secret: AttributeTruth) -> Estimate:
        from scipy.stats import norm

        right = output.scores.argmax(axis=1) == secret.value
        _, place = np.unique(output.patients, return_inverse=True)
        values = np.bincount(place, right) / np.bincount(place)  # a patient counts once
        n, method = len(values), "normal"
        if n < 2:
            return Estimate(None, None, None, n, self.level, method, "too few")
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        half = float(norm.ppf((1 + self.level) / 2)) * spread / sqrt(n)
        return Estimate(mean, mean - half, mean + half, n, self.level, method)

"""Metrics: pure functions of an answer and the truth."""

from __future__ import annotations

from math import sqrt

import numpy as np

from medleak.api import Estimate, MembershipScores, MembershipTruth, Metric


class StandardisedGap(Metric):
    """Mean score of members less that of non-members, in standard deviations (Cohen's d).

    One patient counts once, by the mean over the patient's records. Hedges & Olkin 1985.
    """

    goal = "membership"

    def __init__(self, *, level: float = 0.95):
        self.level = level

    def __call__(self, output: MembershipScores, secret: MembershipTruth) -> Estimate:
        from scipy.stats import norm

        groups = [_per_patient(output, secret.member == side) for side in (True, False)]
        n1, n0 = map(len, groups)
        n, method = n1 + n0, "normal"
        spread = sqrt(sum(((g - g.mean()) ** 2).sum() for g in groups if len(g)) / max(n - 2, 1))
        if min(n1, n0) < 2 or spread == 0:
            return Estimate(None, None, None, n, self.level, method, "too few, or no spread")
        d = float((groups[0].mean() - groups[1].mean()) / spread)
        half = float(norm.ppf((1 + self.level) / 2)) * sqrt(n / (n1 * n0) + d**2 / (2 * n))
        return Estimate(d, d - half, d + half, n, self.level, method)


def _per_patient(output: MembershipScores, keep: np.ndarray) -> np.ndarray:
    _, place = np.unique(output.patients[keep], return_inverse=True)
    return np.bincount(place, output.scores[keep]) / np.maximum(np.bincount(place), 1)


class ShareError(Metric):
    """Mean absolute difference of the told from the true share over the classes; less is leakier."""

    goal = "example_shares"
    higher_is_leakier = False

    def __call__(self, output: np.ndarray, secret: np.ndarray) -> Estimate:
        told = np.asarray(output, dtype=np.float64)
        error = float(np.abs(told / told.sum() - secret).mean())
        return Estimate(error, None, None, len(secret), method="one run", flag="no interval")

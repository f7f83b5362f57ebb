"""Membership metrics: how well scores tell members from non-members, with intervals by patient.

No threshold here is chosen on the labels that it is scored on. Intervals treat patients as independent
units, given the release.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from medleak.api import Curve, Estimate, Guarantee, MembershipScores, MembershipTruth, Metric
from medleak.api.goal import Subgroup
from medleak.metrics.groups import at_level
from medleak.metrics.privacy import upper_bounds as upper_bounds
from medleak.metrics.statistics import intervals
from medleak.metrics.statistics import roc as curves
from medleak.metrics.statistics.crossfit import crossfit_flags

MIN_GROUP = 10
"""Fewest members, and fewest non-members, that a subgroup's figures may rest on."""


class MembershipMetric(Metric):
    """Base of the scalar metrics: `measure` and `upper_bound` are left to write.

    `level` is that of the two-sided interval. A sample without members or without non-members is "not
    measured", never zero.
    """

    goal: ClassVar[str] = "membership"
    version: ClassVar[int] = 1
    method: ClassVar[str] = ""
    undefined: ClassVar[str] = "undefined on this sample"

    def __init__(self, *, level: float = 0.95):
        self.level = level

    @abstractmethod
    def measure(
        self, scores: np.ndarray, member: np.ndarray, patients: np.ndarray
    ) -> tuple[float, float, float]:
        """``value, low, high`` at `level`; NaN where undefined."""

    def flag(self, member: np.ndarray, patients: np.ndarray) -> str:
        """A warning to print next to the figure."""
        return ""

    def refusal(self, member: np.ndarray, patients: np.ndarray) -> str:
        """Why nothing can be measured on this sample, or ""."""
        return _too_few(member, patients, 1)

    def __call__(self, output: MembershipScores, secret: MembershipTruth) -> Estimate:
        """Measure; ``n`` is the number of patients."""
        scores, member, patients = _arrays(output, secret)
        n = len(np.unique(patients))
        refusal = self.refusal(member, patients)
        if refusal:
            return Estimate(None, None, None, n, self.level, self.method, refusal)
        value, low, high = self.measure(scores, member, patients)
        if not np.isfinite(value):
            return Estimate(None, None, None, n, self.level, self.method, self.undefined)
        flag = self.flag(member, patients)
        return Estimate(float(value), float(low), float(high), n, self.level, self.method, flag)

    def lower_bound(
        self, output: MembershipScores, secret: MembershipTruth, level: float = 0.999
    ) -> float | None:
        """One-sided lower bound at `level`; None where not measured."""
        return at_level(self, intervals.two_sided(level))(output, secret).low


class AUC(MembershipMetric):
    """Area under the ROC, ``P(S1 > S0) + P(S1 = S0) / 2``; .5 is chance.

    Interval: `medleak.metrics.statistics.intervals.auc_interval`.
    """

    method: ClassVar[str] = "ranks; wider of logit DeLong and Newcombe, by patient"

    def measure(self, scores, member, patients):
        value = curves.auc(scores, member)
        return value, *intervals.auc_interval(scores, member, patients, self.level)

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """Integral of the roof."""
        roof = upper_bounds.roof(guarantees)
        return None if roof is None else roof.auc()


class _CrossFitted(MembershipMetric):
    """Base of what is read at a threshold fitted on the other folds' patients."""

    def __init__(self, *, n_folds: int = 5, seed: int = 0, level: float = 0.95):
        self.n_folds = n_folds
        self.seed = seed
        self.level = level

    def refusal(self, member: np.ndarray, patients: np.ndarray) -> str:
        return _too_few(member, patients, 2)

    def rates(self, scores, member, patients) -> tuple[float, float, float, float]:
        """``TPR, units, FPR, units`` at the cross-fitted thresholds."""
        n_folds = min(self.n_folds, *_counts(member, patients))
        flagged = crossfit_flags(scores, member, patients, n_folds=n_folds, seed=self.seed)
        return (
            float(flagged[member].mean()),
            intervals.effective_units(patients[member]),
            float(flagged[~member].mean()),
            intervals.effective_units(patients[~member]),
        )


class BalancedAccuracy(_CrossFitted):
    """``(TPR + 1 - FPR) / 2`` at a threshold that never saw the patients it judges; .5 is chance.

    The largest value over all thresholds would be tuned on the audited labels and lie above .5 without
    any leak. Here each fold's threshold maximises TPR - FPR on the other folds (patient-disjoint, fixed
    `seed`): without a leak the expected value is .5, and the value may fall below it. The interval
    allows for the dependence between folds: `medleak.metrics.statistics.intervals.crossfit_level`.
    """

    method: ClassVar[str] = (
        "cross-fitted threshold; Clopper-Pearson limits in quadrature at twice the variance, by patient"
    )

    def measure(self, scores, member, patients):
        tpr, n1, fpr, n0 = self.rates(scores, member, patients)
        level = intervals.crossfit_level(self.level)
        low, high = intervals.difference(tpr, n1, fpr, n0, level)
        return tuple((1 + advantage) / 2 for advantage in (tpr - fpr, low, high))

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """``(1 + delta(0)) / 2``: the best of all thresholds."""
        roof = upper_bounds.roof(guarantees)
        return None if roof is None else roof.balanced_accuracy()


class Advantage(BalancedAccuracy):
    """``TPR - FPR = 2 balanced accuracy - 1`` at the same cross-fitted threshold; 0 is chance.

    May be negative. (Yeom et al. 2018, Privacy risk in machine learning, CSF.)
    """

    def measure(self, scores, member, patients):
        return tuple(2 * x - 1 for x in super().measure(scores, member, patients))

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """``delta(0)``, the total variation distance."""
        best = super().upper_bound(guarantees)
        return None if best is None else 2 * best - 1


class PrecisionAtPrior(_CrossFitted):
    """Share of true members among the flagged records, if a share `prior` of the challenge were members.

    ``prior TPR / (prior TPR + (1 - prior) FPR)`` at the cross-fitted threshold of `BalancedAccuracy`;
    chance is `prior`. The interval is a rectangle: Clopper-Pearson of TPR and of FPR, each end at half
    the error. (Jayaraman et al. 2021, Revisiting membership inference under realistic assumptions,
    PoPETs.)
    """

    method: ClassVar[str] = "cross-fitted threshold; Clopper-Pearson rectangle, by patient"
    undefined: ClassVar[str] = "nobody was flagged"

    def __init__(self, *, prior: float = 0.5, n_folds: int = 5, seed: int = 0, level: float = 0.95):
        self.prior = prior
        self.n_folds = n_folds
        self.seed = seed
        self.level = level

    def measure(self, scores, member, patients):
        tpr, n1, fpr, n0 = self.rates(scores, member, patients)
        level = (1 + self.level) / 2
        low1, high1 = intervals.clopper_pearson(tpr * n1, n1, level)
        low0, high0 = intervals.clopper_pearson(fpr * n0, n0, level)
        return self._precision(tpr, fpr), self._precision(low1, high0), self._precision(high1, low0)

    def _precision(self, tpr: float, fpr: float) -> float:
        flagged = self.prior * tpr + (1 - self.prior) * fpr
        return float(self.prior * tpr / flagged) if flagged > 0 else float("nan")

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """Vacuous where members may be flagged at no false positive, as with any delta > 0."""
        roof = upper_bounds.roof(guarantees)
        return None if roof is None else roof.precision(self.prior)


class TPRAtFPR(MembershipMetric):
    """Largest TPR of a threshold whose FPR is at most `fpr`; chance is `fpr`.

    Flagged "N*FPR < 10" where fewer than ten false positives of non-member patients define the
    threshold. With `pooled_only` nothing is measured on a sample where not even one would; pooled
    leave-one-out targets, where nearly every patient is a non-member once, have about twice as many.
    Interval: `medleak.metrics.statistics.intervals.tpr_interval`. (Carlini et al. 2022, Membership inference attacks from
    first principles, IEEE S&P.)
    """

    method: ClassVar[str] = (
        "no interpolation; Clopper-Pearson and the threshold's order statistics in quadrature, by patient"
    )

    def __init__(self, *, fpr: float = 0.01, pooled_only: bool = False, level: float = 0.95):
        self.fpr = fpr
        self.pooled_only = pooled_only
        self.level = level

    def refusal(self, member: np.ndarray, patients: np.ndarray) -> str:
        refusal = _too_few(member, patients, 1)
        if not refusal and self.pooled_only and self._expected(member, patients) < 1:
            return "N*FPR < 1: too few patients"
        return refusal

    def flag(self, member: np.ndarray, patients: np.ndarray) -> str:
        return "N*FPR < 10" if self._expected(member, patients) < 10 else ""

    def _expected(self, member: np.ndarray, patients: np.ndarray) -> float:
        # The product of a count and a decimal fraction (1000 * .01) must not fall short by one bit.
        return round(_counts(member, patients)[1] * self.fpr, 9)

    def measure(self, scores, member, patients):
        value = curves.tpr_at(*curves.roc(scores, member), self.fpr)
        return value, *intervals.tpr_interval(scores, member, patients, self.fpr, self.level)

    def lower_bound(
        self, output: MembershipScores, secret: MembershipTruth, level: float = 0.999
    ) -> float | None:
        """`medleak.metrics.statistics.intervals.tpr_lower_bound`; None where not measured."""
        scores, member, patients = _arrays(output, secret)
        if self.refusal(member, patients):
            return None
        return intervals.tpr_lower_bound(scores, member, patients, self.fpr, level)

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """The roof at `fpr`."""
        roof = upper_bounds.roof(guarantees)
        return None if roof is None else float(roof.tpr(self.fpr))


class ROCCurve(Metric):
    """TPR at FPRs spaced evenly on a log axis from 1e-3 to 1 and on a linear one, and at 0.

    Each point as `TPRAtFPR`; the band is pointwise, not simultaneous.
    """

    goal: ClassVar[str] = "membership"
    version: ClassVar[int] = 1
    is_curve: ClassVar[bool] = True

    def __init__(self, *, level: float = 0.95):
        self.level = level

    def __call__(self, output: MembershipScores, secret: MembershipTruth) -> Curve | Estimate:
        """The curve, or a "not measured" estimate where a class is empty."""
        scores, member, patients = _arrays(output, secret)
        n = len(np.unique(patients))
        refusal = _too_few(member, patients, 1)
        if refusal:
            return Estimate(None, None, None, n, self.level, TPRAtFPR.method, refusal)
        x = np.unique(np.concatenate([np.geomspace(1e-3, 1, 46), np.linspace(0, 1, 21)]))
        y = curves.tpr_at(*curves.roc(scores, member), x)
        low, high = intervals.tpr_interval(scores, member, patients, x, self.level)
        points = [tuple(values.tolist()) for values in (x, y, low, high)]
        return Curve(*points, n=n, level=self.level, method=f"pointwise; {TPRAtFPR.method}")


def subgroups(
    scored: MembershipScores, secret: MembershipTruth, groups: Mapping[str, np.ndarray]
) -> dict[str, Subgroup]:
    """``{"sex=F": its part}`` for each subgroup of each column; "" (unknown) is left out.

    One with fewer than `MIN_GROUP` member or non-member patients is marked as too few.
    """
    found = {}
    for group, mask in _masks(groups):
        part = scored.take(mask)
        truth = MembershipTruth(np.asarray(secret.member, dtype=bool)[mask])
        too_few = _too_few(truth.member, part.patients, MIN_GROUP)
        found[group] = Subgroup(part, truth, len(np.unique(part.patients)), too_few)
    return found


def _masks(groups: Mapping[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    return [
        (f"{column}={value}", np.asarray(values) == value)
        for column, values in groups.items()
        for value in sorted(set(np.asarray(values).tolist()))
        if value != ""
    ]


def _arrays(
    output: MembershipScores, secret: MembershipTruth
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scores = np.asarray(output.scores, dtype=np.float64)
    return scores, np.asarray(secret.member, dtype=bool), np.asarray(output.patients)


def _counts(member: np.ndarray, patients: np.ndarray) -> tuple[int, int]:
    """Member patients and non-member patients."""
    return len(np.unique(patients[member])), len(np.unique(patients[~member]))


def _too_few(member: np.ndarray, patients: np.ndarray, least: int) -> str:
    n1, n0 = _counts(member, patients)
    if min(n1, n0) >= least:
        return ""
    if least == 1:
        return "no members" if n1 == 0 else "no non-members"
    return f"too few: {n1} member{'s' * (n1 != 1)}, {n0} non-member{'s' * (n0 != 1)}"

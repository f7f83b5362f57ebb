"""Audited epsilon as a metric of every row: what a promise must at least have been."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from medleak.api import DataError, Estimate, Guarantee, MembershipScores, MembershipTruth, Metric
from medleak.metrics.groups import at_level
from medleak.metrics.privacy.epsilon_bounds import Bound
from medleak.metrics.privacy.many_runs import audit_runs, least_runs
from medleak.metrics.privacy.one_run import audit_one_run
from medleak.metrics.privacy.upper_bounds import VIOLATION_LEVEL, privacy_profile
from medleak.metrics.statistics.roc import per_patient

UNFAIR = 1e-3
"""Members whose number is less likely than this under fair coins were not drawn by fair coins."""


def by_run(
    scores: np.ndarray,
    member: np.ndarray,
    patients: np.ndarray,
    run: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Joint scores and membership of each patient in each run, ``(T, P)``.

    Args:
        run: which run each score is about, ``(N,)``; None is a single one.

    Raises:
        DataError: a patient who is both member and non-member of one run, or runs that do not ask
            about the same patients.
    """
    scores, member = np.asarray(scores, dtype=float), np.asarray(member, dtype=bool)
    patients = np.asarray(patients)
    run = np.zeros(len(scores), dtype=int) if run is None else np.asarray(run)
    order = np.argsort(run, kind="stable")
    starts = np.flatnonzero(np.diff(run[order])) + 1
    parts = [per_patient(scores[i], patients[i], member[i]) for i in np.split(order, starts)]
    if any(not np.array_equal(part[1], parts[0][1]) for part in parts):
        raise DataError("the runs do not ask about the same patients")
    return np.stack([part[0] for part in parts]), np.stack([part[2] for part in parts])


MOST = "the most that these guesses can show"
"""Flags a bound that a perfect attack would not have raised: epsilon may be far larger."""


class AuditedEpsilon(Metric):
    r"""Base: a one-sided lower bound on epsilon at `level`, for the claim's `delta`.

    The value is the bound itself, ``low`` the same, ``high`` unknown: an audit cannot show that epsilon
    is small. Patients are the canaries; a patient's scores in a run are averaged.

    Adjacency: a patient's records are all added or all left out, so that the bound is about add-or-remove
    of one patient. It is to be compared with a promise for patients, or with one for records only where
    nobody has more than one (as `medleak.metrics.privacy.upper_bounds.applicable` sees to); a replace-one promise
    is another claim.
    """

    needs_whole_runs: ClassVar[bool] = True
    method: ClassVar[str] = ""
    delta: float
    level: float

    @abstractmethod
    def missing(self, member: np.ndarray, *, independent: bool) -> str:
        """Why runs with these members ``(T, P)`` cannot be audited, or ""."""

    @abstractmethod
    def audited(self, scores: np.ndarray, member: np.ndarray) -> Bound:
        """The bound from joint scores and membership, ``(T, P)`` each; see `by_run`."""

    @abstractmethod
    def units(self, member: np.ndarray) -> int:
        """What `Estimate.n` counts."""

    def invalid_parameters(self) -> list[str]:
        if 0 <= self.delta < 1:
            return []
        return [f"delta is {self.delta!r}: a number in 0..1 is needed"]

    def __call__(self, output: MembershipScores, secret: MembershipTruth) -> Estimate:
        """Measure; ``high`` is None."""
        scores, member = by_run(output.scores, secret.member, output.patients, output.run)
        n = self.units(member)
        why = _one_sort(member) or self.missing(member, independent=output.independent)
        if why:
            return Estimate(None, None, None, n, self.level, self.method, why)
        bound = self.audited(scores, member).epsilon
        # An attack that knew everybody would have shown this much: what stops there is the plan.
        most = self.audited(member.astype(float), member).epsilon
        flag = f"{MOST}, {most:.2f}" if 0 < most <= bound else ""
        return Estimate(bound, bound, None, n, self.level, self.method, flag)

    def lower_bound(
        self, output: MembershipScores, secret: MembershipTruth, level: float = VIOLATION_LEVEL
    ) -> float | None:
        """The bound at the one-sided `level`; None where not measured."""
        return at_level(self, level)(output, secret).low

    def upper_bound(
        self, guarantees: Sequence[Guarantee], prior: float | None = None
    ) -> float | None:
        """The smallest epsilon promised for add-or-remove at this metric's delta.

        A promise with a larger delta counts through its mechanism's privacy profile, where it has one.
        """
        claims = [
            claim
            for g in guarantees
            if g.kind == "dp" and g.adjacency == "add/remove"
            for claim in self._claims(g)
        ]
        return min(claims, default=None)

    def _claims(self, guarantee: Guarantee) -> list[float]:
        if guarantee.epsilon is None:
            return []
        if (guarantee.delta or 0.0) <= self.delta:
            return [float(guarantee.epsilon)]
        profile = privacy_profile(guarantee.mechanism)
        if profile is None:
            return []
        epsilon, delta = profile
        return [float(epsilon[delta <= self.delta].min())] if (delta <= self.delta).any() else []


def _one_sort(member: np.ndarray) -> str:
    if member.all() or not member.any():
        return "no non-members" if member.size and member.all() else "no members"
    return ""


class OneRunEpsilon(AuditedEpsilon):
    r"""Audited epsilon from the membership scores of one run, each patient in it by a fair coin.

    Guesses are fixed beforehand as `shares` of the patients; see `audit_one_run`. Pooled leave-one-out
    targets are a run each, and may depend on each other. See `AuditedEpsilon` for value and adjacency.

    Not measured where the number of members would be improbable under fair coins: guesses would be right
    for the base rate alone. A fixed-size split by halves passes, though its coins are not independent.
    Natural patients are weak canaries, so that zero is the usual value, and says little.

    Args:
        shares: pairs, the shares to call members (highest scores) and non-members (lowest).
        delta: of the claim; a promise with a larger delta is converted, or no ceiling.
        level: one-sided.

    ``n`` is the number of patients. (Steinke et al. 2023, Privacy auditing with one (1) training run,
    NeurIPS.)
    """

    version: ClassVar[int] = 1
    method: ClassVar[str] = (
        "one run, fixed guesses, Bonferroni over their list; one-sided lower bound, by patient"
    )

    def __init__(
        self,
        *,
        shares: Sequence[Sequence[float]] = ((0.02, 0.0), (0.1, 0.1), (0.25, 0.25)),
        delta: float = 1e-5,
        level: float = 0.95,
    ):
        self.shares = shares
        self.delta = delta
        self.level = level

    def invalid_parameters(self) -> list[str]:
        found = []
        for pair in self.shares:
            if len(pair) != 2 or min(pair) < 0 or not 0 < sum(pair) <= 1:
                found.append(f"shares hold {list(pair)}: two numbers from 0, at most 1 together")
        if not self.shares:
            found.append("shares are empty: give at least one pair")
        return found + super().invalid_parameters()

    def refusal(self, member: np.ndarray, patients: np.ndarray) -> str:
        """Why a single run with these members ``(N,)`` cannot be audited, or ""."""
        truth = by_run(member, member, patients)[1]
        return _one_sort(truth) or self.missing(truth)

    def missing(self, member: np.ndarray, *, independent: bool = True) -> str:
        from scipy.stats import binomtest

        if binomtest(int(member.sum()), member.size).pvalue < UNFAIR:
            return f"{member.sum()} of {member.size} are members: not drawn by fair coins"
        return ""

    def audited(self, scores: np.ndarray, member: np.ndarray) -> Bound:
        return audit_one_run(scores, member, shares=self.shares, delta=self.delta, level=self.level)

    def units(self, member: np.ndarray) -> int:
        return member.shape[1]


class ManyRunEpsilon(AuditedEpsilon):
    r"""Audited epsilon from many independent runs, by Clopper-Pearson on one patient of them.

    On every other run the patient and the threshold of the largest bound are chosen, on the remaining
    runs their errors are counted, in both directions; see `medleak.metrics.privacy.many_runs.audit_runs`. No coin
    need be fair, but runs must not know each other's members: not measured where targets shadow each other.
    T runs show at most about ``ln(T / 15)`` at 95%, and nothing below `least_runs` (21), where it is not
    measured. See `AuditedEpsilon` for value and adjacency.

    Args:
        gaussian: assume the trade-off curve of a Gaussian mechanism, as DP-SGD's nearly is after many
            steps: far tighter, and void where it is not one.
        delta: of the claim; a promise with a larger delta is converted, or no ceiling.
        level: one-sided.

    ``n`` is the number of runs. (Jagielski et al. 2020, Auditing differentially private machine learning,
    NeurIPS; Nasr et al. 2021, Adversary instantiation, IEEE S&P; Nasr et al. 2023, Tight auditing of
    differentially private machine learning, USENIX Security.)
    """

    version: ClassVar[int] = 1
    method: ClassVar[str] = (
        "many runs, patient and threshold from the other half; one-sided Clopper-Pearson bound"
    )

    def __init__(self, *, gaussian: bool = False, delta: float = 1e-5, level: float = 0.95):
        self.gaussian = gaussian
        self.delta = delta
        self.level = level

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters()
        if self.gaussian and self.delta == 0:
            found.append("gaussian needs a delta above 0: epsilon is infinite at 0")
        return found

    def missing(self, member: np.ndarray, *, independent: bool) -> str:
        runs, least = len(member), least_runs(self.level, self.delta)
        if runs == 1:
            return "one run"
        if not independent:
            return "runs shadow each other"
        return f"{runs} runs, {least} needed" if runs < least else ""

    def audited(self, scores: np.ndarray, member: np.ndarray) -> Bound:
        given = {"delta": self.delta, "level": self.level, "gaussian": self.gaussian}
        return audit_runs(scores, member, **given)

    def units(self, member: np.ndarray) -> int:
        return len(member)

"""Audited epsilon as a metric of every row: what a promise must at least have been."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from medleak.api import Estimate, Guarantee, Scored, Secret
from medleak.metrics.audit import Bound, audit_one_run
from medleak.metrics.ceilings import VIOLATION_LEVEL, privacy_profile
from medleak.metrics.membership import MembershipMetric
from medleak.metrics.roc import per_patient

UNFAIR = 1e-3
"""Members whose number is less likely than this under fair coins were not drawn by fair coins."""


def by_run(
    scores: np.ndarray, member: np.ndarray, patients: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Joint scores and membership of each patient in each run, ``(T, P)``.

    Several targets pooled in one sample repeat the same records in the same order: a patient may be in
    the training set of one and not of another. Without such a patient there is a single run.

    Raises:
        DataError: a patient who is both member and non-member of one run.
    """
    scores, member = np.asarray(scores, dtype=float), np.asarray(member, dtype=bool)
    _, at, counts = np.unique(patients, return_inverse=True, return_counts=True)
    inside = np.bincount(at, weights=member)
    runs = 1
    if ((inside > 0) & (inside < counts)).any():
        most = int(np.gcd.reduce(counts))  # as many runs as the rarest pattern allows
        runs = max(t for t in range(1, most + 1) if most % t == 0 and _repeats(at, t))
    joint = [
        per_patient(*part)
        for part in zip(
            *(np.split(values, runs) for values in (scores, np.asarray(patients), member)),
            strict=True,
        )
    ]
    return np.stack([one[0] for one in joint]), np.stack([one[2] for one in joint])


def _repeats(values: np.ndarray, times: int) -> bool:
    return bool((values.reshape(times, -1) == values[: len(values) // times]).all())


class OneRunEpsilon(MembershipMetric):
    r"""Audited epsilon: a one-sided lower bound at `level` from the membership scores of one run.

    The value is the bound itself, ``low`` the same, ``high`` unknown: an audit cannot show that epsilon
    is small. Patients are the canaries (a patient's scores are averaged), each in the training set by
    its own fair coin. Guesses are fixed beforehand as `shares` of them; see `audit_one_run`. Pooled
    leave-one-out targets are told apart again, and are a run each; see `by_run`.

    Adjacency: a patient's records are all added or all left out, so that the bound is about add-or-remove
    of one patient. It is to be compared with a promise for patients, or with one for records only where
    nobody has more than one (as `medleak.metrics.ceilings.applicable` sees to); a replace-one promise
    is another claim.

    Not measured where the number of members would be improbable under fair coins: guesses would be right
    for the base rate alone. A fixed-size split by halves passes, though its coins are not independent.
    Natural patients are weak canaries, so that zero is the usual value, and says little.

    Args:
        shares: pairs, the shares to call members (highest scores) and non-members (lowest).
        delta: of the claim; a promise with a larger delta is converted, or no ceiling.
        level: one-sided.

    (Steinke et al. 2023, Privacy auditing with one (1) training run, NeurIPS.)
    """

    version: ClassVar[int] = 1
    needs_whole_runs: ClassVar[bool] = True
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

    def faults(self) -> list[str]:
        found = []
        for pair in self.shares:
            if len(pair) != 2 or min(pair) < 0 or not 0 < sum(pair) <= 1:
                found.append(f"shares hold {list(pair)}: two numbers from 0, at most 1 together")
        if not self.shares:
            found.append("shares are empty: give at least one pair")
        if not 0 <= self.delta < 1:
            found.append(f"delta is {self.delta!r}: a number in 0..1 is needed")
        return found

    def refusal(self, member: np.ndarray, patients: np.ndarray) -> str:
        from scipy.stats import binomtest

        refusal = super().refusal(member, patients)
        if refusal:
            return refusal
        truth = by_run(member, member, patients)[1]
        if binomtest(int(truth.sum()), truth.size).pvalue < UNFAIR:
            return f"{truth.sum()} of {truth.size} are members: not drawn by fair coins"
        return ""

    def measure(
        self, scores: np.ndarray, member: np.ndarray, patients: np.ndarray
    ) -> tuple[float, float, float]:
        bound = self.bound(scores, member, patients)
        return bound.epsilon, bound.epsilon, float("inf")

    def bound(self, scores: np.ndarray, member: np.ndarray, patients: np.ndarray) -> Bound:
        """The bound with its method and assumptions."""
        joint, truth = by_run(scores, member, patients)
        return audit_one_run(joint, truth, shares=self.shares, delta=self.delta, level=self.level)

    def __call__(self, output: Scored, secret: Secret) -> Estimate:
        """Measure; ``n`` is the number of patients, ``high`` None."""
        return replace(super().__call__(output, secret), high=None)

    def lower_bound(
        self, output: Scored, secret: Secret, level: float = VIOLATION_LEVEL
    ) -> float | None:
        """The bound at the one-sided `level`; None where not measured."""
        return type(self)(shares=self.shares, delta=self.delta, level=level)(output, secret).low

    def ceiling(self, guarantees: Sequence[Guarantee]) -> float | None:
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

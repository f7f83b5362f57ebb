"""Property metrics: how often the share of a value in a training set is identified, over many targets.

All targets are drawn from the same patients. If some of them happen to be easier to learn from, and happen
to have the value, then every target of the higher share differs from those of the lower one, whatever
the value has to do with it: with one set of patients an attack may always be right, with another always
wrong. Intervals by target alone would find leaks where there are none, so these allow for the patients.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from medleak.api import Estimate, Metric, PropertyScores, PropertyTruth
from medleak.metrics.statistics.intervals import auc_interval, clopper_pearson
from medleak.metrics.statistics.roc import auc


class PropertyMetric(Metric):
    r"""Base: `measure` is left to write. `level` is that of the two-sided interval.

    On the probit scale the distances of the limits, by target, are joined in quadrature with
    :math:`z \sqrt{k r}`, where r is `PropertyScores.shared` and k what the metric makes of it. A promise about
    single patients says nothing of a share of them: no ceiling.
    """

    goal: ClassVar[str] = "property"
    version: ClassVar[int] = 1
    method: ClassVar[str] = ""
    part: ClassVar[float] = 1.0

    def __init__(self, *, level: float = 0.95):
        self.level = level

    @abstractmethod
    def measure(self, scores: np.ndarray, high: np.ndarray) -> tuple[float, float, float]:
        """``value, low, high`` given the patients, by target."""

    def __call__(self, output: PropertyScores, secret: PropertyTruth) -> Estimate:
        """Measure; ``n`` is the number of targets."""
        scores, high = np.asarray(output.scores, float), np.asarray(secret.high, bool)
        n = len(high)
        if high.all() or not high.any():
            flag = f"all {n} targets have the same share"
            return Estimate(None, None, None, n, self.level, self.method, flag)
        value, *ends = self.measure(scores, high)
        low, top = self._widened(value, ends, output.shared, int(high.sum()) * int((~high).sum()))
        return Estimate(value, low, top, n, self.level, self.method)

    def _widened(
        self, value: float, ends: Sequence[float], shared: float, pairs: int
    ) -> tuple[float, float]:
        from scipy.stats import norm

        least = 0.5 / pairs  # a perfect order of few targets is not infinitely far from chance
        centre, low, high = norm.ppf(np.clip([value, *ends], [least, 0, 0], [1 - least, 1, 1]))
        more = norm.ppf((1 + self.level) / 2) ** 2 * self.part * shared
        down, up = (max(d, 0.0) ** 2 + more for d in (centre - low, high - centre))
        return float(norm.cdf(centre - np.sqrt(down))), float(norm.cdf(centre + np.sqrt(up)))


class PropertyAUC(PropertyMetric):
    """Area under the ROC over targets: how often one of the higher share outranks one of the lower."""

    method: ClassVar[str] = (
        "ranks; wider of logit DeLong and Newcombe, by target, and the patients whom targets share"
    )
    part: ClassVar[float] = 0.5

    def measure(self, scores, high):
        return auc(scores, high), *auc_interval(scores, high, np.arange(len(high)), self.level)


class PropertyAccuracy(PropertyMetric):
    """Share of targets whose share is guessed right; a score above 0 says the higher one."""

    method: ClassVar[str] = (
        "threshold 0; Clopper-Pearson, by target, and the patients whom targets share"
    )
    part: ClassVar[float] = 0.25

    def measure(self, scores, high):
        right, n = int(((scores > 0) == high).sum()), len(high)
        low, top = clopper_pearson(right, n, self.level)
        return right / n, float(low), float(top)

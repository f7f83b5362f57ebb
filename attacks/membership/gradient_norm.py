"""The white-box attack on the norm of the gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    Knowledge,
    ProblemSpec,
    Records,
    Release,
    ThreatModel,
    task_of,
)
from medleak.attacks._arguments import whole
from medleak.attacks._whitebox import gradient_squares
from medleak.attacks.membership._queries import known
from medleak.attacks.membership._shadows import too_few
from medleak.attacks.membership._supervised import examples, learned
from medleak.attacks.membership.modified_entropy import thresholds

SMALLEST = 1e-300
"""Squared norm that stands for zero."""


class GradientNorm(Attack):
    r"""Norm of the loss's gradient in the weights: training has driven it towards zero for members.

    .. math:: s(x, y) = \tau_y - \log \lVert \nabla_\theta \ell(f_\theta(x), y) \rVert

    in double precision, dropout off. With shadows :math:`\tau_y` is the threshold that best tells their
    own members and non-members of class y (a class without both takes that of all classes); without
    them it is 0. A multi-label task has one gradient per record, of the summed loss, and one threshold.

    Args:
        per_layer: norms of each weight and bias apart, weighed by a logistic regression that is
            learned on the shadows (Nasr et al. feed layers to a network); needs a shadow.
        n_teachers: shadows that thresholds or weights are learned on, the first ones: each costs as
            much as the target.
    """

    version = 2
    requires = ThreatModel(
        goal="membership", access="weights", knowledge=("architecture", "labels", "shadows")
    )
    paper = "Nasr et al. 2019, Comprehensive Privacy Analysis of Deep Learning, IEEE S&P"

    def __init__(self, *, per_layer: bool = False, n_teachers: int = 4):
        self.per_layer = per_layer
        self.n_teachers = n_teachers

    def invalid_parameters(self) -> list[str]:
        found = whole("n_teachers", self.n_teachers)
        if not isinstance(self.per_layer, bool):
            found.append(f"per_layer {self.per_layer!r} must be true or false")
        return found

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return too_few(knowledge, 1, "weighing layers") if self.per_layer else []

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        knowledge, own = self._knowledge, self._log_norms(release, challenge.records)
        if not knowledge.shadows:
            return -own[:, 0]
        who = "GradientNorm"
        seen, member = examples(
            lambda s, records: self._log_norms(s.release, records),
            challenge,
            knowledge,
            who,
            most=self.n_teachers,
        )
        if self.per_layer:
            return learned("logistic", seen, member)(own)
        found = thresholds(seen, member, self._classes(known(knowledge, challenge, who).y))
        tau = [found.get(int(c), found[None]) for c in self._classes(challenge.y)[:, 0]]
        return np.array(tau) - own[:, 0]

    def _log_norms(self, release: Release, records: Records) -> np.ndarray:
        """Per parameter ``(N, P)``, or of all together ``(N, 1)``."""
        network = self._knowledge.network(release.weights)
        squares = gradient_squares(network, records.x, records.y, task=self._task)
        if not self.per_layer:
            squares = squares.sum(axis=1, keepdims=True)
        return 0.5 * np.log(np.maximum(squares, SMALLEST))

    def _classes(self, y: np.ndarray) -> np.ndarray:
        """Class of each record, ``(N, 1)``; all in one where a record has several labels."""
        return y[:, None] if self._task.one_class else np.zeros((len(y), 1), dtype=np.int64)

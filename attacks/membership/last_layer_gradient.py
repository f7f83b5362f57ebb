"""The white-box attack on the gradient of the last layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import (  # fmt: skip
    Attack,
    Challenge,
    Knowledge,
    ProblemSpec,
    Records,
    Release,
    Task,
    ThreatModel,
    task_of,
)
from medleak.attacks._arguments import no_masks
from medleak.attacks._whitebox import last_layer
from medleak.attacks.membership._shadows import too_few
from medleak.attacks.membership._supervised import examples, learned

SMALLEST = 1e-100
"""Norm that stands for zero."""
OTHERS = 2
"""Wrong classes that are looked at, the most probable first."""


class LastLayerGradient(Attack):
    r"""A classifier on the gradient of the last linear layer, learned on shadows.

    .. math:: \nabla_W \ell = (p - y)\, h^\top, \qquad \nabla_b \ell = p - y

    with h the features that enter the layer. Hidden units of two networks do not correspond, so the
    gradient is summed up by what does: the logarithms of :math:`\lVert p - y \rVert` and
    :math:`\lVert h \rVert` (their sum is that of the gradient's norm); the residual :math:`p - y` of
    the true class, as a logit, and of the most probable wrong ones; the cosines of h with the layer's
    own rows for these classes; and the class. In a multi-label task: residual and cosine of each
    label. The log-odds of a logistic regression on them, learned on the shadows' own members and
    non-members (challenge records with ``pool=audit``, auxiliary ones with ``pool=auxiliary``), are
    the score.

    Raises:
        MedleakError: the network does not end in a linear layer.
    """

    version = 1
    requires = ThreatModel(
        goal="membership", access="weights", knowledge=("architecture", "labels", "shadows")
    )
    paper = "Nasr et al. 2019, Comprehensive Privacy Analysis of Deep Learning, IEEE S&P"

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return too_few(knowledge, 1, "a learned attack") + no_masks("LastLayerGradient", problem)

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        own = self._features(release, challenge.records)
        seen = examples(
            lambda s, records: self._features(s.release, records),
            challenge,
            self._knowledge,
            "LastLayerGradient",
        )
        return learned("logistic", *seen)(own)

    def _features(self, release: Release, records: Records) -> np.ndarray:
        network = self._knowledge.network(release.weights)
        n_outputs = self._knowledge.problem.n_outputs
        return features(*last_layer(network, records.x, n_outputs), records.y, task=self._task)


def features(
    h: np.ndarray, weight: np.ndarray, z: np.ndarray, y: np.ndarray, *, task: Task
) -> np.ndarray:
    """What the last layer's gradient tells across networks, ``(N, F)``.

    Args:
        h: features that enter the layer, ``(N, D)``.
        weight: of the layer, ``(C, D)``.
        z: the network's answers, ``(N, C)``.
        y: ``(N,)`` classes or ``(N, C)`` labels.
    """
    log_p, truth = task.log_probabilities(z), task.one_hot(y, z.shape[1])
    residual = np.exp(log_p if task.one_class else log_p[..., 1]) - truth
    length = np.maximum(np.linalg.norm(h, axis=1), SMALLEST)
    rows = np.maximum(np.linalg.norm(weight, axis=1), SMALLEST)
    cosine = h @ weight.T / (length[:, None] * rows)
    size = np.maximum(np.linalg.norm(residual, axis=1), SMALLEST)
    found = [np.log(size)[:, None], np.log(length)[:, None], task.logit_score(log_p, y)]
    if not task.one_class:
        return np.concatenate([*found, residual, cosine], axis=1)
    own = np.arange(z.shape[1]) == y[:, None]
    wrong = np.argsort(np.where(own, np.inf, -z), axis=1, kind="stable")[:, :OTHERS]
    wrong = wrong[:, : z.shape[1] - 1]
    shown = np.concatenate([y[:, None], wrong], axis=1)
    found += [np.take_along_axis(residual, wrong, axis=1)]
    found += [np.take_along_axis(cosine, shown, axis=1), own.astype(np.float64)]
    return np.concatenate(found, axis=1)

"""The modified-entropy attack with class-conditional thresholds."""

from __future__ import annotations

import numpy as np

from medleak.api import (  # fmt: skip
    Attack,
    Challenge,
    Knowledge,
    MedleakError,
    Release,
    ThreatModel,
    task_of,
)
from medleak.attacks._kernels import best_threshold
from medleak.attacks.membership._shadows import each


class ModifiedEntropy(Attack):
    r"""Modified entropy against a threshold per class, learned on shadows.

    .. math::
        M(p, y) = -(1 - p_y) \log p_y - \sum_{j \ne y} p_j \log(1 - p_j), \qquad
        s(x, y) = \tau_y - M(p(x), y)

    :math:`\tau_y` maximises TPR - FPR over the shadows' own members and non-members of class y, on
    challenge records (``pool=audit``) or auxiliary records (``pool=auxiliary``), never on the audited
    membership. A class without both takes the threshold of all classes together; without shadows
    :math:`\tau = 0`. A multi-label task has a threshold per label and value; scores add up over labels. Of a
    mask M is the mean over pixels, with one threshold for all images: an extension, for the paper is about
    classifiers (attacks on segmentation average a pixel's score over the image, as Chobola et al. 2023 the loss).

    Raises:
        MedleakError: ``pool=auxiliary`` without auxiliary records.
    """

    version = 1
    requires = ThreatModel(goal="membership", access="scores", knowledge=("labels", "shadows"))
    paper = "Song & Mittal 2021, Systematic Evaluation of Privacy Risks of Machine Learning Models, USENIX Security"

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        entropy = self._task.modified_entropy(release.scores(challenge.x), challenge.y)
        wanted = self._task.classes(challenge.y)
        tau = self._thresholds(challenge, wanted) if self._knowledge.shadows else {}
        lookup = np.array([tau.get(c, 0.0) for c in range(wanted.max(initial=0) + 1)])
        return (lookup[wanted] - entropy).sum(axis=1)

    def _thresholds(self, challenge: Challenge, wanted: np.ndarray) -> dict[int, float]:
        audit = self._knowledge.pool == "audit"
        records = challenge.records if audit else self._knowledge.auxiliary
        if records is None or not len(records):
            raise MedleakError("pool=auxiliary, but the target has no auxiliary records")
        values, member = [], []
        for shadow in each(self._knowledge):
            entropy = self._task.modified_entropy(shadow.release.scores(records.x), records.y)
            values.append(entropy.astype(np.float32))
            member.append(shadow.member if audit else shadow.auxiliary_member)
        found = thresholds(np.stack(values), np.stack(member), self._task.classes(records.y))
        return {int(c): found.get(int(c), found[None]) for c in np.unique(wanted)}


def thresholds(
    values: np.ndarray, member: np.ndarray, classes: np.ndarray
) -> dict[int | None, float]:
    """Best threshold per class, and of all classes under None.

    Args:
        values: entropies of K shadows, ``(K, N, L)``.
        member: which records each was trained on, ``(K, N)``.
        classes: class of each label, ``(N, L)``.
    """
    inside = np.broadcast_to(member[..., None], values.shape)
    overall = best_threshold(values.ravel(), inside.ravel())
    found: dict[int | None, float] = {None: 0.0 if overall is None else overall}
    for c in np.unique(classes):
        own = classes == c
        tau = best_threshold(values[:, own].ravel(), inside[:, own].ravel())
        if tau is not None:
            found[int(c)] = tau
    return found

"""The meta-classifier: a property of a training set, learned on what shadows look like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from medleak.api import Knowledge, PropertyChallenge, Shadow
from medleak.metrics.guessing import learned


def meta_classifier_scores(
    own: np.ndarray,
    observe: Callable[[Shadow], np.ndarray],
    knowledge: Knowledge,
    challenge: PropertyChallenge,
) -> np.ndarray:
    """Log-odds of the higher share, ``(1,)``, of a target whose features are `own` ``(F,)``.

    Logistic regression on the features of the shadows, which `observe` gives; its penalty is chosen on
    shadows that were held out.
    """
    seen = []
    for shadow in knowledge.shadows:
        seen.append(observe(shadow))
        knowledge.progress(len(seen) / len(knowledge.shadows))
    high = challenge.shadow_high.astype(np.int64)
    if high.all() or not high.any():
        return np.zeros(1)
    seed = int(knowledge.rng.integers(2**31))
    log_p = learned(np.stack(seen), high, np.arange(len(high)), n_values=2, seed=seed)(own[None])
    return log_p[:, 1] - log_p[:, 0]

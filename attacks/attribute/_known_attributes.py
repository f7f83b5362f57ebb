"""What is held of a record whose attribute is hidden, as numbers; alike for auxiliary ones."""

from __future__ import annotations

import numpy as np

from medleak.api import AttributeChallenge, ProblemSpec, Release, task_of

FLOOR = -30.0
"""Log-probability that stands for zero: so that a rounded score does not drown the others."""


def outcomes(log_p: np.ndarray) -> np.ndarray:
    """Log-odds of each outcome, ``(N, C)`` or of each label ``(N, L)``."""
    log_p = np.maximum(log_p, FLOOR)
    if log_p.ndim == 3:
        return log_p[..., 1] - log_p[..., 0]
    return log_p - np.log1p(-np.exp(np.minimum(log_p, -1e-12)))


def with_label(features: np.ndarray, y: np.ndarray, problem: ProblemSpec) -> np.ndarray:
    """`features` ``(N, F)``, the label, and both together: what an answer means depends on the label."""
    label = task_of(problem.task).one_hot(y, problem.n_outputs)
    products = (features[:, :, None] * label[:, None, :]).reshape(len(features), -1)
    return np.concatenate([features, label, products], axis=1)


def table(challenge: AttributeChallenge, release: Release) -> tuple[np.ndarray, np.ndarray] | None:
    """Of a table, the other features and the answers to each value filled in, ``(M, F)`` and ``(N, F)``.

    None for images.
    """
    if challenge.x is None:
        return None
    known, hidden = challenge.known.x, challenge.x
    rest = [i for i in range(hidden.shape[1]) if i != challenge.column]
    parts = [(known[:, rest], hidden[:, rest])]
    for centre in challenge.centres if challenge.column is not None else ():
        parts.append(
            tuple(
                outcomes(release.scores(_filled(x, challenge.column, centre)))
                for x in (known, hidden)
            )
        )
    ours, theirs = zip(*parts, strict=True)
    return np.concatenate(ours, axis=1), np.concatenate(theirs, axis=1)


def _filled(x: np.ndarray, column: int, value: float) -> np.ndarray:
    filled = x.copy()
    filled[:, column] = value
    return filled

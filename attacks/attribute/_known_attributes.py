"""Features that the adversary has of each record, hidden attribute or not, as arrays of numbers."""

from __future__ import annotations

import numpy as np

from medleak.api import AttributeChallenge, ProblemSpec, Release, task_of

FLOOR = -30.0
"""Least log-probability: a score that was rounded to zero would otherwise dominate the others."""


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
    """Features of the M known and the N challenge records of a table, ``(M, F)`` and ``(N, F)``.

    They are the other columns, and the model's answers to the record with each value filled in.
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

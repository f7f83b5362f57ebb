"""Batches of auxiliary records, to learn on what is behind a message."""

from __future__ import annotations

import numpy as np

N_BATCHES = 300
GROUPS = 6
"""Into which auxiliary patients are dealt: a batch is drawn within one, so that others are unseen."""


def majority(value: np.ndarray, n_values: int) -> int:
    """The value that most of the records have; -1 where two have as many, or none is known."""
    counts = np.bincount(value[value >= 0], minlength=n_values)
    best = int(counts.argmax())
    return best if counts[best] and (counts == counts[best]).sum() == 1 else -1


def drawn(
    value: np.ndarray, patients: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batches of `size` records, the same number of each majority as far as they come.

    Args:
        value: ``(M,)`` int, of each record.
        patients: ``(M,)``.

    Returns:
        Positions ``(B, size)``, the majority's value ``(B,)``, and the group of patients ``(B,)`` of each.
    """
    names, inverse = np.unique(patients, return_inverse=True)
    group = rng.permutation(np.arange(len(names)) % GROUPS)[inverse]
    n_values, batches = int(value.max()) + 1, []
    for i in range(N_BATCHES):
        wanted, mine = i % n_values, np.flatnonzero(group == (i // n_values) % GROUPS)
        # The value that is to prevail has a share of its own, from even to all of the batch.
        own, share = value[mine] == wanted, rng.uniform(1 / n_values, 1)
        odds = own * share / max(own.sum(), 1) + ~own * (1 - share) / max((~own).sum(), 1)
        batches.append(rng.choice(mine, size, p=odds / odds.sum()))
    rows = np.stack(batches)
    truth = np.array([majority(value[row], n_values) for row in rows])
    known = truth >= 0
    return rows[known], truth[known], group[rows[known, 0]]

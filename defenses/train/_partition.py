"""Which patients belong to which hospital."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from medleak.api import ConfigError, Records, multiclass, task_of
from medleak.core.keys import rng_for, seed_for

if TYPE_CHECKING:
    from medleak.defenses.train.federated import Federated


def partition(
    records: Records, plan: Federated, *, n_outputs: int, seed: int, task: str = multiclass.name
) -> list[np.ndarray]:
    """Positions of each client's records; by patient, and independent of who else is a member.

    Raises:
        ConfigError: `plan.site` is no subgroup column.
    """
    n = plan.n_clients
    if plan.partition == "natural":
        if plan.site not in records.groups:
            known = ", ".join(records.groups) or "none"
            raise ConfigError(f"partition=natural: no column '{plan.site}' (columns: {known})")
        _, first, at = np.unique(records.patients, return_index=True, return_inverse=True)
        # A patient is the hospital's where the first scan was taken; a hospital's place is its name's.
        homes = records.groups[plan.site][first].tolist()
        owner = np.array([seed_for("site", name) % n for name in homes])[at]
        return [np.flatnonzero(owner == client) for client in range(n)]
    shares = np.full((n_outputs, n), 1 / n)
    if plan.partition == "dirichlet":
        shares = rng_for("shares", seed).dirichlet(np.full(n, plan.alpha), size=n_outputs)
    label = task_of(task).classes(records.y)[:, 0]
    patients, first, at = np.unique(records.patients, return_index=True, return_inverse=True)
    draws = np.array([rng_for("client", seed, int(patient)).random() for patient in patients])
    edges = np.cumsum(shares, axis=1)[label[first], :-1]
    owner = (draws[:, None] >= edges).sum(axis=1)[at]
    return [np.flatnonzero(owner == client) for client in range(n)]

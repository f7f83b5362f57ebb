"""Guarantees of a noisy sum of clipped messages, for clients and for the patients behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from medleak.api import Guarantee, ProblemSpec

ZERO_OUT = "zero-out"
"""Neighbours: a client's messages, or noughts in their place."""

PUBLIC = (
    "how many clients took part in a round, and with how many records, is public",
    "no amplification by sampling is counted: a client may take part in every round",
)
"""What the accounting of all noisy sums takes for granted."""


def both_units(
    promise: Guarantee,
    problem: ProblemSpec,
    price: Callable[[float], tuple[float, str, Mapping[str, Any]]],
) -> list[Guarantee]:
    """`promise` for a client, and the same for a patient.

    One patient more or less changes a client's message from one vector of norm at most C to another:
    by up to 2 C, where a client that is left out changes the sum by up to C.

    Args:
        price: largest change in units of C -> epsilon, accountant and mechanism.
    """
    found = []
    for unit, adjacency, change in (
        ("client", ZERO_OUT, 1.0),
        ("patient" if problem.unit == "patient" else "record", "add/remove", 2.0),
    ):
        epsilon, accountant, mechanism = price(change)
        found.append(
            replace(
                promise,
                unit=unit,
                adjacency=adjacency,
                epsilon=epsilon,
                accountant=accountant,
                mechanism=mechanism,
            )
        )
    patient = "a patient's records all belong to one client, whoever else is there"
    found[1] = replace(found[1], assumptions=(*found[1].assumptions, patient))
    return found


def delta_of(delta: float | None, problem: ProblemSpec) -> float:
    """`delta`, or ``1 / (10 n)``, n the expected number of member patients."""
    return 1 / (10 * problem.n_patients) if delta is None else float(delta)

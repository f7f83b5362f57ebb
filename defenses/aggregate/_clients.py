"""What aggregators share: broken messages, clipping, and the cost of sending the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

import numpy as np

from medleak.api import MedleakError

VANISHED = "vanished before its message arrived"

FLOAT_BYTES = 4
"""The model travels in single precision."""


def with_model(cost: Mapping[str, float], length: int, clients: int) -> dict[str, float]:
    """`cost`, and the model that the server sends to each client in a round."""
    sent = cost.get("server_bytes", 0.0) + FLOAT_BYTES * length * clients
    return {**cost, "server_bytes": float(sent)}


def common_length(messages: Mapping[int, np.ndarray]) -> int:
    """P: the length of most messages, which a round's model prescribes.

    Raises:
        MedleakError: no message, or no length that most of them have.
    """
    lengths = Counter(np.shape(message) for message in messages.values())
    if not lengths:
        raise MedleakError("no client takes part in the round")
    shape, count = lengths.most_common(1)[0]
    if len(shape) != 1 or 2 * count <= len(messages):
        found = ", ".join(str(shape) for shape in sorted(lengths))
        raise MedleakError(f"the clients' messages have no common shape (P,): {found}")
    return shape[0]


def flaw(message: np.ndarray, length: int) -> str:
    """Why `message` cannot be summed; empty where it can."""
    if np.shape(message) != (length,):
        return f"its message has shape {np.shape(message)}, not ({length},)"
    broken = np.count_nonzero(~np.isfinite(message))
    return f"{broken} of {length} values are no finite numbers" if broken else ""


def unsendable(
    messages: Mapping[int, np.ndarray], dropped: Collection[int], length: int
) -> dict[int, str]:
    """Client -> why its message does not arrive: it vanished, or noticed a flaw itself."""
    found = {client: why for client in messages if (why := flaw(messages[client], length))}
    return found | {client: VANISHED for client in messages if client in dropped}


def clipped(message: np.ndarray, clip: float) -> np.ndarray:
    """`message` shortened to norm `clip` where it is longer."""
    norm = float(np.linalg.norm(message))
    return message if norm <= clip else message * (clip / norm)

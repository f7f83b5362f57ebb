"""What an adversary saw of a training run, message by message on disk, and the truth behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import LocalTraining, MedleakError, Observation
from medleak.core.keys import digest
from medleak.core.store import Artefact, Store

KIND = "messages"


class ObservationRecorder:
    """Writes each observed message into the store; `kept` tells what, for the facts of the run.

    Args:
        key: of the run.
        positions: of the training records in the pool that they were drawn from, ``(N,)``.
    """

    def __init__(self, store: Store, key: str, positions: np.ndarray):
        self._store, self._key, self._positions = store, key, positions
        self.kept: list[dict[str, Any]] = []

    def __call__(self, seen: Observation, records: np.ndarray) -> None:
        facts = {
            "round": seen.round,
            "clients": list(seen.clients),
            "n_records": seen.n_records,
            "local": vars(seen.local),
        }
        arrays = {f"sent/{name}": array for name, array in seen.sent.items()}
        arrays |= {f"update/{name}": array for name, array in seen.update.items()}
        arrays |= {f"hidden/{name}": array for name, array in seen.hidden.items()}
        arrays["records"] = self._positions[records].astype(np.int64)
        self._store.save(KIND, _name(self._key, len(self.kept)), facts, arrays)
        self.kept.append({"round": seen.round, "n_records": len(records)})


class Messages(Sequence[Observation]):
    """Observed messages, each read when it is asked for: what an attack is given."""

    def __init__(self, read: Callable[[int], Observation], n: int):
        self._read, self._n = read, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, i: int) -> Observation:
        return self._read(range(self._n)[i])


class ObservationLog:
    """The observed messages of a stored run, and the truth behind them; for the bench alone."""

    def __init__(self, store: Store, key: str):
        self._store, self._key = store, key

    @property
    def contents(self) -> Sequence[Mapping[str, Any]]:
        """ "round" and the true "n_records" of each message."""
        return self._store.facts("runs", self._key)[0].get("messages", ())

    @property
    def messages(self) -> Messages:
        """The observations alone."""
        return Messages(self._observation, len(self.contents))

    def _observation(self, i: int) -> Observation:
        message = self._message(i)
        facts = message.facts
        return Observation(
            facts["round"],
            tuple(facts["clients"]),
            facts["n_records"],
            _part(message.arrays, "sent/"),
            _part(message.arrays, "update/"),
            LocalTraining(**facts["local"]),
            _part(message.arrays, "hidden/"),
        )

    def clients(self, i: int) -> tuple[int, ...]:
        """Whose updates are in message `i`, without its arrays."""
        return tuple(self._store.facts(KIND, _name(self._key, i))[0]["clients"])

    def truth(self, i: int) -> np.ndarray:
        """Positions of the records behind message `i` in the pool."""
        return self._message(i).arrays["records"]

    def _message(self, i: int) -> Artefact:
        message = self._store.get(KIND, _name(self._key, i))
        if message is None:
            raise MedleakError(
                f"message {i} of run {self._key[:12]} is gone: `medleak cache prune` the runs"
            )
        return message


def _name(key: str, i: int) -> str:
    return digest([KIND, key, i])


def _part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

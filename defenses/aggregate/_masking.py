"""A round of secure aggregation between real clients and a server, and what it costs."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from medleak.api import Aggregator, Guarantee, Trainer
from medleak.defenses.train._recipes import number, whole
from medleak.defenses.train.federated import need_federation

SERVER = "server"


class Terms(NamedTuple):
    """Of a round: shares needed, length and type of the vectors, the chance to vanish late."""

    threshold: int
    length: int
    dtype: np.dtype
    vanish: float


class Summed(NamedTuple):
    """A modular sum, whose vectors are in it, why the others' are not, and the cost."""

    total: np.ndarray
    survivors: tuple[int, ...]
    excluded: dict[int, str]
    cost: dict[str, float]


class Ledger:
    """Seconds and bytes of each client and of the server."""

    def __init__(self) -> None:
        self._seconds: Counter[int | str] = Counter()
        self._bytes: Counter[int | str] = Counter()

    @contextmanager
    def timed(self, who: int | str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds[who] += time.perf_counter() - start

    def sent(self, who: int | str, message: bytes) -> bytes:
        self._bytes[who] += len(message)
        return message

    def cost(self) -> dict[str, float]:
        """See `medleak.api.Aggregated`; of the clients, the one that sent or worked most."""
        found = {}
        for unit, count in (("bytes", self._bytes), ("seconds", self._seconds)):
            found[f"client_{unit}"] = float(max(count[who] for who in count if who != SERVER))
            found[f"server_{unit}"] = float(count[SERVER])
        return found


def masked_sum(
    clients: Sequence[int],
    vector: Callable[[int], np.ndarray],
    terms: Terms,
    *,
    mute: Mapping[int, str],
    rng: np.random.Generator,
) -> Summed:
    """One round of the protocol among `clients`, of which those in `mute` send no vector.

    Args:
        vector: what a client sends: unsigned integers ``(P,)``, summed modulo their width.
        mute: client -> why it falls silent after the exchange of keys.
        rng: draws who vanishes before the unmasking.

    Raises:
        MedleakError: too few survivors, or too few of them left to unmask.
    """
    from medleak.defenses.aggregate._bonawitz import Client, Server

    book = Ledger()
    party = {name: Client(place, terms.threshold) for place, name in enumerate(clients)}
    server = Server(clients, terms.threshold, terms.length, terms.dtype)

    def ask(name: int, step: Callable[..., bytes], *arguments: object) -> bytes:
        with book.timed(name):
            return book.sent(name, step(*arguments))

    def masked(name: int, inbox: bytes) -> bytes:
        return party[name].mask(inbox, vector(name))

    adverts = {name: ask(name, party[name].advertise) for name in clients}
    with book.timed(SERVER):
        directory = server.directory(adverts)
    parcels = {}
    for name in clients:
        book.sent(SERVER, directory)
        parcels[name] = ask(name, party[name].share, directory)
    with book.timed(SERVER):
        inboxes = server.inboxes(parcels)

    excluded = dict(mute)
    for name, inbox in inboxes.items():
        book.sent(SERVER, inbox)
        if name in mute:
            continue
        message = ask(name, masked, name, inbox)
        with book.timed(SERVER):
            if why := server.collect(name, message):
                excluded[name] = why
    with book.timed(SERVER):
        request = server.survivors()

    survivors = tuple(name for name in clients if name not in excluded)
    late = rng.random(len(survivors)) < terms.vanish
    reveals = {}
    for name, gone in zip(survivors, late, strict=True):
        book.sent(SERVER, request)
        if not gone:
            reveals[name] = ask(name, party[name].reveal, request)
    with book.timed(SERVER):
        total = server.unmask(reveals)
    return Summed(total, survivors, excluded, book.cost())


def needed(stage: Aggregator, clients: int) -> int:
    """How many of that many clients must survive: ``max(minimum, ceil(threshold n))``."""
    return max(stage.minimum, math.ceil(stage.threshold * clients - 1e-9))


def masking_faults(stage: Aggregator) -> list[str]:
    """What is wrong with `threshold`, `minimum` or `vanish`."""
    found = []
    if not (number(stage.threshold) and 0.5 < stage.threshold <= 1):
        found.append(f"threshold must be above .5 and at most 1, not {stage.threshold!r}")
    if not whole(stage.minimum, 2):
        found.append(f"minimum must be a whole number of at least 2, not {stage.minimum!r}")
    if not (number(stage.vanish) and 0 <= stage.vanish < 1):
        found.append(f"vanish must be from 0 to below 1, not {stage.vanish!r}")
    return found


def too_few(stage: Aggregator, trainer: Trainer) -> list[str]:
    """Why the rounds of a federated `trainer` are too small for `stage`; another has none."""
    if need_federation(stage, trainer) or in_a_round(trainer) >= stage.minimum:
        return []
    return [
        f"{in_a_round(trainer)} of {trainer.n_clients} clients take part in a round: "
        f"{stage.minimum} are needed for a sum"
    ]


def in_a_round(trainer: Trainer) -> int:
    """How many clients take part in a round."""
    return max(1, int(trainer.participation * trainer.n_clients + 0.5))


def masking_guarantee(stage: Aggregator, trainer: Trainer) -> Guarantee:
    """What masking promises of single messages; nothing about their sum."""
    expected = in_a_round(trainer)
    fewest = needed(stage, expected)
    return Guarantee(
        kind="secure aggregation",
        unit="client",
        protects_from=f"the server, who reads the sum over {fewest} or more of {expected} clients",
        assumptions=(
            f"fewer than {fewest} of a round's {expected} clients help the server; the messages of "
            "those who do can be taken out of the sum",
            "the server is curious, but follows the protocol and sends all clients the same model",
            "the clients' public keys are their own",
            "what the sum says of a client is not hidden",
        ),
        adversaries=("server",),
    )

"""Aggregation by multi-party computation: three servers, none of which sees a message."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import numpy as np

from medleak.api import Aggregated, Aggregator, Guarantee, MedleakError, ProblemSpec, Trainer
from medleak.defenses.aggregate import _mpc
from medleak.defenses.aggregate._clients import common_length, unsendable, with_model
from medleak.defenses.aggregate._masking import Ledger, in_a_round, too_few
from medleak.defenses.train._recipes import number, refuse, whole
from medleak.defenses.train.federated import need_federation


class MPCAggregation(Aggregator):
    """Sums messages that are shared among three servers: real processes that run MPyC.

    Each client sends a Shamir share of its message to each server (any two shares give the message,
    one is independent of it); the servers add theirs and open the sum to one another. So no single
    server learns a message, where two that collude learn all of them: an *honest majority*. With
    masks (`SecureAggregation`) one server is enough; here clients need no keys of each other, and may
    vanish without a further round.

    Messages are multiples of 2^-26 modulo the prime 2^61 - 1, clipped to ``+-2^34 / n`` for n clients:
    the sum of m survivors is off by at most ``m 2^-27`` (7.5e-9 each), and is the same in every run.

    Excluded are clients that vanish (`dropped`) or notice that their message is broken. Fewer than
    `minimum` survivors fail the round: the sum over one client is its message. A server that dies or
    is late fails it, too. The servers are started anew in each round, which takes about a second and
    counts as "setup_seconds".

    Args:
        minimum: fewest clients in a sum.
        deadline: seconds that the servers may take to start, and then to sum.

    Paper: Schoenmakers, MPyC: Secure Multiparty Computation in Python, 2018; Shamir, How to Share a
    Secret, CACM 1979.
    """

    slot = "aggregate"
    version = 1
    paper = "Schoenmakers, MPyC: Secure Multiparty Computation in Python, 2018"
    hides = {"updates": "messages are shared among three servers, which open only their sum"}

    def __init__(self, *, minimum: int = 3, deadline: float = 120.0):
        self.minimum = minimum
        self.deadline = deadline

    def invalid_parameters(self) -> list[str]:
        found = []
        if not whole(self.minimum, 2):
            found.append(f"minimum {self.minimum!r} must be a whole number of at least 2")
        if not (number(self.deadline) and self.deadline > 0):
            found.append(f"deadline {self.deadline!r} must be a positive number of seconds")
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        return need_federation(self, trainer) or too_few(self, trainer)

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        return [
            Guarantee(
                kind="secret sharing",
                unit="client",
                protects_from="each of three servers, which read the sum over "
                f"{self.minimum} or more of {in_a_round(trainer)} clients",
                assumptions=(
                    "no two of the three servers collude",
                    "the servers are curious, but follow the protocol",
                    "links are encrypted (in this simulation they are loopback, and are not)",
                    "what the sum says of a client is not hidden",
                ),
                adversaries=("server",),
            )
        ]

    def aggregate(
        self,
        messages: Mapping[int, np.ndarray],
        *,
        dropped: Collection[int],
        rng: np.random.Generator,
    ) -> Aggregated:
        """The sum over the survivors; shares come from the operating system, not from `rng`.

        `Aggregated.cost` counts what one server sends ("server_bytes": to the others, and the model to
        the clients), and has "setup_seconds" and "clipped_values".

        Raises:
            ConfigError: any of the faults; MPyC is missing.
            MedleakError: too few survivors, messages without a common length, a server that died,
                failed or was late.
        """
        refuse(self, self.invalid_parameters())
        _mpc.require(type(self).__name__)
        length = common_length(messages)
        excluded = unsendable(messages, dropped, length)
        survivors = tuple(client for client in sorted(messages) if client not in excluded)
        if len(survivors) < self.minimum:
            raise MedleakError(
                f"{len(survivors)} of {len(messages)} clients are left, {self.minimum} are needed "
                "for a sum"
            )
        book, shares, most = Ledger(), [], _mpc.SUM_LIMIT / len(messages)
        for client in survivors:
            with book.timed(client):
                shares.append(_mpc.split_sum(np.clip(messages[client], -most, most)))
            book.sent(client, b"".join(share.tobytes() for share in shares[-1]))
        outside = sum(np.count_nonzero(np.abs(messages[c]) > most) for c in survivors)
        start = time.perf_counter()
        with _mpc.Parties(self.deadline) as parties:
            setup_seconds = time.perf_counter() - start
            answers = parties.ask(
                [
                    {"job": np.array("sum"), "shares": np.stack(own)}
                    for own in zip(*shares, strict=True)
                ]
            )
        cost = {
            **book.cost(),
            "server_seconds": max(float(answer["seconds"]) for answer in answers),
            "server_bytes": max(float(answer["bytes"]) for answer in answers),
            "setup_seconds": setup_seconds,
            "clipped_values": float(outside),
        }
        total = answers[0]["total"]
        return Aggregated(total, survivors, excluded, with_model(cost, length, len(messages)))

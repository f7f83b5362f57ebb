"""Answer questions that nobody sees: three servers compute on shares of record and weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from medleak.api import Guarantee, ProblemSpec, Trainer
from medleak.defenses.aggregate import _mpc
from medleak.defenses.serve._square_networks import Answer, PrivateInference, SquareNetwork
from medleak.defenses.train._recipes import number


class MPCInference(PrivateInference):
    """Serves a square network (`HECNN`, `HEMLP`) on secret shares, with MPyC: three real processes.

    The owner of the model shares the weights among three servers, the client shares a record, the
    servers compute shares of the logits, which only the client joins. No single server learns the
    record, the weights or the answer; two that collude learn everything (an *honest majority*). Fixed-
    point numbers of 24 bits behind the point modulo 2^127 - 1; errors of a logit are about 1e-5.

    The client, who is the adversary of this release, sees scores and no weights. **They leak of the
    training patients what plain answers leak**: membership inference on scores is unchanged. The
    release's views answer from the plain network, the *plaintext surrogate*; `verify_surrogate` asks the servers for the proof
    that the two agree.

    Args:
        deadline: seconds that the servers may take to start, and for one answer.

    Paper: Schoenmakers, MPyC: Secure Multiparty Computation in Python, 2018.
    """

    slot = "serve"
    version = 1
    paper = "Schoenmakers, MPyC: Secure Multiparty Computation in Python, 2018"
    hides = {"weights": "three servers hold shares of the parameters, which nobody else is sent"}

    def __init__(self, *, deadline: float = 120.0):
        self.deadline = deadline

    def invalid_parameters(self) -> list[str]:
        if number(self.deadline) and self.deadline > 0:
            return []
        return [f"deadline {self.deadline!r} must be a positive number of seconds"]

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        return [
            Guarantee(
                kind="secret sharing",
                unit="record",
                protects_from="each of three servers, which learns nothing of the records asked about",
                assumptions=(
                    "no two of the three servers collude",
                    "the servers are curious, but follow the protocol",
                    "links are encrypted (in this simulation they are loopback, and are not)",
                    "of the training patients, the answers tell what plain ones tell",
                ),
                adversaries=("server",),
            )
        ]

    @contextmanager
    def session(self, network: SquareNetwork) -> Iterator[SharedSession]:
        """Three servers with shares of `network`, ended afterwards.

        Raises:
            ConfigError: MPyC is missing.
            MedleakError: a server that died, failed or was late.
        """
        _mpc.require("MPCInference")
        with _mpc.Parties(self.deadline) as parties:
            yield SharedSession(network, parties)


class SharedSession:
    """A client of three servers, to which the owner of `network` has just sent its shares."""

    def __init__(self, network: SquareNetwork, parties: _mpc.Parties):
        self._parties = parties
        named = {}
        for k, layer in enumerate(network.layers):
            named |= {f"w{k}": _mpc.split(layer.weight.T), f"b{k}": _mpc.split(layer.bias)}
        self.setup_bytes = sum(share.nbytes for shares in named.values() for share in shares)
        self._ask("load", named)

    def ask(self, entry: np.ndarray) -> Answer:
        """Share one entry ``(inputs,)``, have it evaluated, join the logits."""
        shares = _mpc.split(entry)
        answers = self._ask("evaluate", {"x": shares})
        replies = [answer["share"] for answer in answers]
        sent, received = (sum(part.nbytes for part in parts) for parts in (shares, replies))
        between = sum(int(answer["bytes"]) for answer in answers)
        return Answer(_mpc.join(replies), sent, received, between)

    def _ask(self, job: str, named: dict[str, list[np.ndarray]]) -> list[dict[str, np.ndarray]]:
        return self._parties.ask(
            [
                {"job": np.array(job), **{name: shares[i] for name, shares in named.items()}}
                for i in range(_mpc.PARTIES)
            ]
        )

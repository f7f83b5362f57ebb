"""Homomorphic aggregation: the server adds ciphertexts that only somebody else can open."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping

import numpy as np

from medleak.api import Aggregated, Aggregator, Guarantee, MedleakError, ProblemSpec, Trainer
from medleak.defenses.aggregate._ckks import SECURITY, KeyHolder, add, encrypt, require, rounded
from medleak.defenses.aggregate._clients import FLOAT_BYTES, common_length, unsendable
from medleak.defenses.aggregate._masking import SERVER, Ledger, in_a_round, too_few
from medleak.defenses.train._recipes import number, refuse, whole
from medleak.defenses.train.federated import need_federation

HOLDERS = ("authority", "clients")
PARTS = ("first", "last")


class CKKSAggregation(Aggregator):
    """Sums messages under CKKS; really encrypted, serialised, added and decrypted.

    The key holder draws a key pair, clients encrypt to the public key, the server adds ciphertexts,
    the key holder opens the sum and passes it to the clients, who step their models themselves. So
    **no decryption reaches the server**, against whom CKKS would otherwise not be secure (it is
    IND-CPA, not IND-CPA-D: Li & Micciancio, EUROCRYPT 2021); and the server alone learns nothing at
    all. What the adversary of this release sees, the sum, is what the clients see.

    The holder is an "authority" that never receives a single message, or the "clients" with one key
    among them: then any client that helps the server opens every message. Keys are drawn anew in each
    round.

    Values are clipped to ``+-2^12 / n`` for n clients ("clipped_values" counts those that were outside)
    and rounded to multiples of 2^-26, of which the decrypted sum is again one: it equals the sum of the
    rounded messages exactly, and the sum of m survivors' messages up to ``m 2^-27`` (7.5e-9 each).

    Excluded are clients that vanish (`dropped`) or notice that their message is broken. Fewer than
    `minimum` survivors fail the round: the sum over one client is its message.

    Args:
        key_holder: "authority" or "clients".
        minimum: fewest clients in a sum.

    Paper: Cheon et al., Homomorphic Encryption for Arithmetic of Approximate Numbers, ASIACRYPT 2017;
    in federated training: Zhang et al., BatchCrypt, USENIX ATC 2020.
    """

    slot = "aggregate"
    version = 1
    paper = (
        "Cheon et al., Homomorphic Encryption for Arithmetic of Approximate Numbers, ASIACRYPT 2017"
    )
    hides = {
        "updates": "the server adds ciphertexts, and only their sum is ever opened",
        "aggregate": "no decryption reaches the server",
    }

    def __init__(self, *, key_holder: str = "authority", minimum: int = 3):
        self.key_holder = key_holder
        self.minimum = minimum

    def invalid_parameters(self) -> list[str]:
        found = []
        if self.key_holder not in HOLDERS:
            found.append(
                f"key_holder {self.key_holder!r} must be one of {', '.join(HOLDERS)}: a server with "
                "the key would read every message"
            )
        if not whole(self.minimum, 2):
            found.append(f"minimum {self.minimum!r} must be a whole number of at least 2")
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        return need_federation(self, trainer) or too_few(self, trainer)

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        trusted = {
            "authority": "the authority opens no single message, and does not help the server",
            "clients": "no client helps the server: each of them has the key",
        }
        return [
            Guarantee(
                kind="ind-cpa",
                unit="client",
                protects_from="the server, which sees ciphertexts of "
                f"{in_a_round(trainer)} clients and of their sum",
                assumptions=(
                    *SECURITY,
                    trusted[self.key_holder],
                    "no decryption reaches the server",
                    "what the sum says of a client is not hidden from the clients",
                ),
                adversaries=("server",),
            )
        ]

    def encrypted(self, length: int) -> slice:
        """The entries of a message that are encrypted."""
        return slice(0, length)

    def aggregate(
        self,
        messages: Mapping[int, np.ndarray],
        *,
        dropped: Collection[int],
        rng: np.random.Generator,
    ) -> Aggregated:
        """The sum over the survivors; keys and noise come from the operating system, not from `rng`.

        `Aggregated.cost` also has "key_holder_seconds", "key_holder_bytes" (the opened sum, sent to the
        clients by an authority), "setup_bytes" (the public key) and "clipped_values".

        Raises:
            ConfigError: any of the faults; TenSEAL is missing.
            MedleakError: too few survivors, messages without a common length.
        """
        refuse(self, self.invalid_parameters())
        require(type(self).__name__)
        length = common_length(messages)
        excluded = unsendable(messages, dropped, length)
        survivors = tuple(client for client in sorted(messages) if client not in excluded)
        if len(survivors) < self.minimum:
            raise MedleakError(
                f"{len(survivors)} of {len(messages)} clients are left, {self.minimum} are needed "
                "for a sum"
            )
        sent = {client: rounded(messages[client], len(messages)) for client in survivors}
        total, cost = self._round(sent, len(messages), length)
        outside = [np.abs(messages[c] - sent[c]) > 1e-6 for c in survivors]
        cost["clipped_values"] = float(np.sum(outside))
        return Aggregated(total, survivors, excluded, cost)

    def _round(
        self, sent: Mapping[int, np.ndarray], n: int, length: int
    ) -> tuple[np.ndarray, dict[str, float]]:
        book, hidden = Ledger(), self.encrypted(length)
        start = time.perf_counter()
        holder = KeyHolder()
        public = holder.public()
        key_seconds = time.perf_counter() - start
        ciphers, shown = [], []
        for client, values in sent.items():
            with book.timed(client):
                ciphers.append(encrypt(public, values[hidden]))
            plain = np.delete(values, hidden).astype(np.float32)
            book.sent(client, b"".join(ciphers[-1]) + plain.tobytes())
            shown.append(plain)
        with book.timed(SERVER):
            summed = add(public, ciphers)
            total_shown = np.sum(shown, axis=0, dtype=np.float64)
        readers = n if self.key_holder == "clients" else 1
        for _ in range(readers):
            book.sent(SERVER, b"".join(summed))
        start = time.perf_counter()
        total = np.empty(length)
        total[hidden] = holder.open(summed, hidden.stop - hidden.start)
        total[np.delete(np.arange(length), hidden)] = total_shown
        key_seconds += time.perf_counter() - start
        opened = 0 if self.key_holder == "clients" else FLOAT_BYTES * length * n
        return total, {
            **book.cost(),
            "key_holder_seconds": key_seconds,
            "key_holder_bytes": float(opened),
            "setup_bytes": float(len(public)),
        }


class PartialCKKSAggregation(CKKSAggregation):
    """Encrypts a contiguous part of each message only: a hybrid, cheaper and weaker.

    The server reads the rest of every message. So no view is hidden: attacks on updates remain, on what
    is left to see. Which entries are encrypted is public (`visible`), and each observation says so. A
    message is the concatenation of the layers in the model's order: the last part holds the classifier,
    whose gradient gives the labels away, the first part what is nearest to the pixels. Choosing well
    what to encrypt is the point of FedML-HE.

    Args:
        share: of the entries, that are encrypted; above 0, below 1.
        part: "first" or "last" entries.
        key_holder, minimum: see `CKKSAggregation`.

    Paper: Jin et al., FedML-HE: An Efficient Homomorphic-Encryption-Based Privacy-Preserving Federated
    Learning System, 2023.
    """

    version = 2
    paper = "Jin et al., FedML-HE: An Efficient Homomorphic-Encryption-Based Privacy-Preserving Federated Learning System, 2023"
    hides = {}

    def __init__(
        self,
        *,
        share: float = 0.1,
        part: str = "last",
        key_holder: str = "authority",
        minimum: int = 3,
    ):
        super().__init__(key_holder=key_holder, minimum=minimum)
        self.share = share
        self.part = part

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters()
        if not (number(self.share) and 0 < self.share < 1):
            found.append(f"share {self.share!r} must be a number above 0 and below 1")
        if self.part not in PARTS:
            found.append(f"part {self.part!r} must be one of {', '.join(PARTS)}")
        return found

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        """None: the server reads the rest of each message."""
        return []

    def encrypted(self, length: int) -> slice:
        n = max(1, round(self.share * length))
        return slice(0, n) if self.part == "first" else slice(length - n, length)

    def seen(self, message: np.ndarray) -> np.ndarray:
        return message * self.visible(len(message))

    def visible(self, length: int) -> np.ndarray:
        seen = np.ones(length, dtype=bool)
        seen[self.encrypted(length)] = False
        return seen

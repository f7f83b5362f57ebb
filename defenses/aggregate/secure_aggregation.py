"""Secure aggregation: the server learns the sum of the clients' messages, and no single one."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from medleak.api import Aggregated, Aggregator, Guarantee, ProblemSpec, Trainer
from medleak.defenses.aggregate._clients import common_length, unsendable, with_model
from medleak.defenses.aggregate._fixed_point import WIDTHS, FixedPoint, unsigned
from medleak.defenses.aggregate._masking import (
    Terms,
    masked_sum,
    masking_faults,
    masking_guarantee,
    needed,
    too_few,
)
from medleak.defenses.train._recipes import number, refuse
from medleak.defenses.train.federated import need_federation


class SecureAggregation(Aggregator):
    """Sums messages under masks that only cancel in the sum; really encrypted, with real dropouts.

    The protocol of Bonawitz et al. with an honest-but-curious server (`_bonawitz`): X25519 key
    agreement, ChaCha20 masks, Shamir's shares of each client's mask key and seed, held by the others
    and encrypted to them. In a round of n clients ``t = max(minimum, ceil(threshold n))`` shares
    unmask, and with fewer than t survivors the round fails.

    Messages are sums of fixed-point numbers modulo 2^bits: every value is clipped to ``+-limit`` and
    rounded to ``limit / L``, ``L = floor((2^(bits-1) - 1) / n)``, so that the sum of n cannot overflow.
    The sum over m survivors is off by at most ``m limit / (2 L)``, about ``m n 2^-bits`` limits: 2.4e-8
    for 10 of 10 clients at 32 bits, 2.4e-4 for 1000, which want 64. `Aggregated.cost` also counts
    "clipped_values"; its "server_bytes" include the model for each client, in single precision.

    A client may vanish before its message arrives (`dropped`, or a message that is broken: a wrong
    length or no finite number, which the client itself notices), and then counts as excluded; or
    between its message and the unmasking (`vanish`), and then its message is in the sum. Keys come
    from the operating system's generator, are fresh in each round, and change nothing in the sum.

    What the sum itself says of a patient is not hidden, and a server that sends each client another
    model undoes the protection (Pasquini et al. 2022). The signatures that keep a server from naming
    different survivors to different clients are left out.

    Args:
        threshold: share of a round's clients that must survive, and whose help unmasks a message;
            above one half.
        minimum: fewest clients in a sum, whatever their share.
        limit: largest absolute value of a message's entry.
        bits: 32 or 64, the width of an entry.
        vanish: probability that a client vanishes between its message and the unmasking.

    Paper: Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS
    2017.
    """

    slot = "aggregate"
    version = 1
    paper = "Bonawitz et al., Practical Secure Aggregation for Privacy-Preserving Machine Learning, CCS 2017"
    hides = {"updates": "the server receives masked messages, of which only the sum can be read"}

    def __init__(
        self,
        *,
        threshold: float = 2 / 3,
        minimum: int = 3,
        limit: float = 64.0,
        bits: int = 32,
        vanish: float = 0.0,
    ):
        self.threshold = threshold
        self.minimum = minimum
        self.limit = limit
        self.bits = bits
        self.vanish = vanish

    def invalid_parameters(self) -> list[str]:
        found = masking_faults(self)
        if not (number(self.limit) and self.limit > 0):
            found.append(f"limit must be a positive finite number, not {self.limit!r}")
        if self.bits not in WIDTHS:
            found.append(f"bits must be 32 or 64, not {self.bits!r}")
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        return too_few(self, trainer)

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        return [] if need_federation(self, trainer) else [masking_guarantee(self, trainer)]

    def aggregate(
        self,
        messages: Mapping[int, np.ndarray],
        *,
        dropped: Collection[int],
        rng: np.random.Generator,
    ) -> Aggregated:
        """The sum over the survivors, within the error of the class.

        `rng` only draws who vanishes before the unmasking.

        Raises:
            ConfigError: any of the faults.
            MedleakError: too few survivors, messages without a common length.
        """
        refuse(self, self.invalid_parameters())
        length, n = common_length(messages), len(messages)
        form = FixedPoint(float(self.limit), self.bits, n)
        summed = masked_sum(
            sorted(messages),
            lambda client: form.encode(messages[client]),
            Terms(needed(self, n), length, unsigned(self.bits), self.vanish),
            mute=unsendable(messages, dropped, length),
            rng=rng,
        )
        outside = sum(
            np.count_nonzero(np.abs(messages[client]) > self.limit) for client in summed.survivors
        )
        cost = with_model(summed.cost, length, n) | {"clipped_values": float(outside)}
        return Aggregated(form.decode(summed.total), summed.survivors, summed.excluded, cost)

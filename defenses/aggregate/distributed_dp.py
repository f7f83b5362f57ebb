"""Distributed differential privacy: clients add discrete noise before their messages are masked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from medleak.api import Aggregated, Aggregator, Guarantee, MedleakError, ProblemSpec, Trainer
from medleak.defenses.aggregate import _discrete
from medleak.defenses.aggregate._clients import clipped, common_length, unsendable, with_model
from medleak.defenses.aggregate._fixed_point import signed, unsigned
from medleak.defenses.aggregate._masking import (
    Terms,
    masked_sum,
    masking_faults,
    masking_guarantee,
    needed,
    too_few,
)
from medleak.defenses.aggregate._promises import PUBLIC, both_units, delta_of
from medleak.defenses.aggregate.central_dp import dp_faults
from medleak.defenses.train._recipes import refuse, whole
from medleak.defenses.train.federated import need_federation

BITS = 32


class DistributedDP(Aggregator):
    """The Skellam mechanism under secure aggregation: a noisy sum that nobody ever sees without noise.

    Each client shortens its message to norm C, scales it to r grid steps, rounds at random until its
    norm is at most ``B = levels``, and adds Skellam noise of variance ``(sigma B)^2 / (t - c)``; the
    integers are summed modulo 2^32 as in `SecureAggregation`. r is slightly below B, and smaller the
    more parameters there are: rounding costs signal, never privacy. Of t survivors, the fewest that
    are ever unmasked, c collude and know their own noise: the others' sums to variance ``(sigma B)^2``
    or more, exactly Skellam, so that sigma is the multiplier of the noise on the sum, whoever drops
    out. Neither rounded Gaussians nor sums of discrete Gaussians have that property.

    Epsilon follows from the mechanism's Rényi divergence, composed over all rounds. Sampling of clients
    amplifies nothing, because the server knows who takes part. Integers and noise are within
    ``+-2^31 / n`` for n clients, by construction, so that sums cannot overflow. At sigma 0 nothing is
    promised but the masks.

    Args:
        noise_multiplier: sigma; epsilon follows.
        clip: C, the largest norm of a message.
        delta: None is ``1 / (10 n)``, n the expected number of member patients.
        levels: B; its product with sigma is at most 2^17.
        colluders: c, clients that may tell the server what they know, below `minimum`; 0 leaves out that
            even a curious client knows its own noise.
        threshold, minimum, vanish: as in `SecureAggregation`.

    Papers: Agarwal, Kairouz, Liu, The Skellam Mechanism for Differentially Private Federated Learning,
    NeurIPS 2021; Kairouz, Liu, Steinke, The Distributed Discrete Gaussian Mechanism for Federated
    Learning with Secure Aggregation, ICML 2021; Bonawitz et al., CCS 2017.
    """

    slot = "aggregate"
    version = 1
    private = True
    paper = "Agarwal, Kairouz, Liu, The Skellam Mechanism for Differentially Private Federated Learning, NeurIPS 2021"
    hides = {
        "updates": "the server receives masked, noisy messages, of which only the sum can be read"
    }

    def __init__(
        self,
        *,
        noise_multiplier: float = 1.0,
        clip: float = 1.0,
        delta: float | None = None,
        levels: int = 4096,
        colluders: int = 1,
        threshold: float = 2 / 3,
        minimum: int = 3,
        vanish: float = 0.0,
    ):
        self.noise_multiplier = noise_multiplier
        self.clip = clip
        self.delta = delta
        self.levels = levels
        self.colluders = colluders
        self.threshold = threshold
        self.minimum = minimum
        self.vanish = vanish

    def invalid_parameters(self) -> list[str]:
        found = dp_faults(self) + masking_faults(self)
        if not whole(self.levels, 2):
            found.append(f"levels must be a whole number of at least 2, not {self.levels!r}")
        if not whole(self.colluders, 0):
            found.append(f"colluders must be a whole number of at least 0, not {self.colluders!r}")
        if found:
            return found
        if self.colluders >= self.minimum:
            found.append(
                f"colluders {self.colluders} must be fewer than the minimum of {self.minimum} survivors"
            )
        if (self.noise_multiplier * self.levels) ** 2 > _discrete.MOST_VARIANCE:
            found.append(
                f"noise_multiplier x levels is {self.noise_multiplier * self.levels:g}: at most "
                f"{_discrete.MOST_VARIANCE**0.5:g}"
            )
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        return too_few(self, trainer)

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        if need_federation(self, trainer):
            return []
        masking = masking_guarantee(self, trainer)
        if not self.noise_multiplier:
            return [masking]
        delta = delta_of(self.delta, problem)
        deviation = self.noise_multiplier * self.levels

        def price(change: float) -> tuple[float, str, Mapping[str, Any]]:
            norm = change * self.levels
            mechanism = {
                "name": "skellam",
                "sigma": deviation / norm,
                "levels": self.levels,
                "steps": trainer.rounds,
            }
            epsilon = _discrete.epsilon_of(deviation**2, norm, delta, trainer.rounds)
            return epsilon, "RDP", mechanism

        promise = Guarantee(
            kind="dp",
            unit="client",
            delta=delta,
            protects_from="the server and everyone else",
            assumptions=(
                f"clients that tell the server their noise: at most {self.colluders}; the noise of the "
                "fewest survivors less these is counted",
                *masking.assumptions[1:3],
                *PUBLIC,
                "each client's noise is reproducible pseudo-random noise whose seed stays secret",
            ),
            adversaries=("outsider", "client", "server")
            if self.colluders
            else ("outsider", "server"),
        )
        return [masking, *both_units(promise, problem, price)]

    def added(self, message: np.ndarray) -> np.ndarray:
        """Clipped; the client's own noise, a part of all of it, is left in the sum."""
        return clipped(message, self.clip)

    def aggregate(
        self,
        messages: Mapping[int, np.ndarray],
        *,
        dropped: Collection[int],
        rng: np.random.Generator,
    ) -> Aggregated:
        """The noisy sum over the survivors, of messages as clipped and rounded.

        A client's rounding and noise come from a generator of its own, seeded by `rng`.

        Raises:
            ConfigError: any of the faults.
            MedleakError: too few survivors, messages without a common length, too few levels for the
                number of parameters, too many clients for 32 bits.
        """
        refuse(self, self.invalid_parameters())
        length, n = common_length(messages), len(messages)
        threshold, r = needed(self, n), _discrete.radius(self.levels, length)
        variance = (self.noise_multiplier * self.levels) ** 2 / (threshold - self.colluders)
        noise = _discrete.Skellam(variance)
        if n * (self.levels + noise.most) >= 2 ** (BITS - 1):
            raise MedleakError(
                f"the sum of {n} clients' integers of up to {self.levels + noise.most} does not fit "
                f"into {BITS} bits: fewer levels are needed"
            )
        scale = r / self.clip
        seeds = dict(zip(sorted(messages), rng.integers(2**63, size=n), strict=True))

        def vector(client: int) -> np.ndarray:
            own = np.random.default_rng(seeds[client])
            real = clipped(np.asarray(messages[client], dtype=np.float64), self.clip) * scale
            whole_numbers = _discrete.rounded(real, self.levels, own) + noise.draw(length, own)
            return whole_numbers.astype(unsigned(BITS))

        summed = masked_sum(
            sorted(messages),
            vector,
            Terms(threshold, length, unsigned(BITS), self.vanish),
            mute=unsendable(messages, dropped, length),
            rng=rng,
        )
        total = signed(summed.total).astype(np.float64) / scale
        cost = with_model(summed.cost, length, n)
        return Aggregated(total, summed.survivors, summed.excluded, cost)

"""Central differential privacy: the server adds noise to the sum of clipped messages."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from medleak.api import Aggregated, Aggregator, Guarantee, MedleakError, ProblemSpec, Trainer
from medleak.defenses.aggregate._clients import (
    FLOAT_BYTES,
    clipped,
    common_length,
    unsendable,
    with_model,
)
from medleak.defenses.aggregate._promises import PUBLIC, both_units, delta_of
from medleak.defenses.train import accounting
from medleak.defenses.train._recipes import number, refuse
from medleak.defenses.train.federated import need_federation


class CentralDP(Aggregator):
    """``sum_k clip(m_k, C) + N(0, (sigma C)^2 I)``: DP-FedAvg, with the noise at the server.

    Each client shortens its message to norm C; the server adds noise once to the sum. Everyone who
    sees global models, other clients among them, learns little of any one client (the unit "client":
    its messages replaced by noughts, in all rounds) or patient (whose presence changes one message by
    up to 2 C). The server itself still reads every message: nothing is hidden from it.

    Epsilon is composed over all rounds. A round draws a fixed number of clients, so that no amplification
    by sampling is counted: the promise holds for a client that takes part in all of them. No promise at
    sigma 0.

    Args:
        noise_multiplier: sigma; epsilon follows.
        clip: C, the largest norm of a message.
        delta: None is ``1 / (10 n)``, n the expected number of member patients.

    Paper: McMahan et al., Learning Differentially Private Recurrent Language Models, ICLR 2018.
    """

    slot = "aggregate"
    version = 2
    private = True
    paper = "McMahan et al., Learning Differentially Private Recurrent Language Models, ICLR 2018"

    def __init__(
        self, *, noise_multiplier: float = 1.0, clip: float = 1.0, delta: float | None = None
    ):
        self.noise_multiplier = noise_multiplier
        self.clip = clip
        self.delta = delta

    def invalid_parameters(self) -> list[str]:
        return dp_faults(self)

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        if not self.noise_multiplier or need_federation(self, trainer):
            return []
        delta = delta_of(self.delta, problem)

        def price(change: float) -> tuple[float, str, Mapping[str, Any]]:
            sigma, steps = self.noise_multiplier / change, trainer.rounds
            epsilon, accountant = accounting.epsilon_of(sigma, delta, 1.0, steps)
            mechanism = {"name": "poisson_gaussian", "q": 1.0, "sigma": sigma, "steps": steps}
            return epsilon, accountant, mechanism

        promise = Guarantee(
            kind="dp",
            unit="client",
            delta=delta,
            protects_from="everyone but the server, which reads the messages",
            assumptions=(
                "the server adds the noise, and shows nobody the sum without it",
                *PUBLIC,
                "the noise is reproducible pseudo-random noise whose seed stays secret",
            ),
            adversaries=("outsider", "client"),
        )
        return both_units(promise, problem, price)

    def seen(self, message: np.ndarray) -> np.ndarray:
        """Clients clip before they send."""
        return clipped(message, self.clip)

    def added(self, message: np.ndarray) -> np.ndarray:
        return clipped(message, self.clip)

    def aggregate(
        self,
        messages: Mapping[int, np.ndarray],
        *,
        dropped: Collection[int],
        rng: np.random.Generator,
    ) -> Aggregated:
        """The noisy sum.

        Raises:
            ConfigError: any of the faults.
            MedleakError: no message left, messages without a common length.
        """
        refuse(self, self.invalid_parameters())
        length = common_length(messages)
        excluded = unsendable(messages, dropped, length)
        survivors = tuple(client for client in sorted(messages) if client not in excluded)
        if not survivors:
            raise MedleakError(f"none of {len(messages)} clients' messages can be summed")
        arrived = [clipped(messages[client], self.clip) for client in survivors]
        start = time.perf_counter()
        total = np.sum(arrived, axis=0, dtype=np.float64)
        if self.noise_multiplier:
            total += self.noise_multiplier * self.clip * rng.standard_normal(length)
        seconds = time.perf_counter() - start
        cost = {"client_bytes": float(FLOAT_BYTES * length), "server_seconds": seconds}
        return Aggregated(total, survivors, excluded, with_model(cost, length, len(messages)))


def dp_faults(stage: Aggregator) -> list[str]:
    """What is wrong with `noise_multiplier`, `clip` or `delta`."""
    found = []
    if not (number(stage.noise_multiplier) and stage.noise_multiplier >= 0):
        found.append(
            f"noise_multiplier must be a finite number of at least 0, not {stage.noise_multiplier!r}"
        )
    if not (number(stage.clip) and stage.clip > 0):
        found.append(f"clip must be a positive finite number, not {stage.clip!r}")
    if stage.delta is not None and not (number(stage.delta) and 0 < stage.delta < 1):
        found.append(f"delta must lie strictly between 0 and 1, not {stage.delta!r}")
    return found

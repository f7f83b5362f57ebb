"""Model inconsistency: one client among many is read through secure aggregation."""

from __future__ import annotations

from typing import Any

from medleak.api import Knowledge, ThreatModel
from medleak.attacks._arguments import whole
from medleak.attacks.gradient_inversion.imprint import ImprintServer, RobbingTheFed


class InconsistentServer(ImprintServer):
    """Sends the imprint to one client, and to all others the same layer with every unit dead.

    Dead units (biases below anything that pixels in 0..1 can lift) have gradient exactly zero, so
    that the sum of all updates holds the victim's alone in this layer. The model behind it trains on,
    for everyone.

    Args:
        victims: the victim is one of the clients 0 to `victims` - 1, drawn again in each round.
        bins, sparse, gain, reach: as in `ImprintServer`.
    """

    version = 1
    paper = "Pasquini et al. 2022, Eluding Secure Aggregation in Federated Learning via Model Inconsistency, CCS"

    def __init__(
        self,
        *,
        victims: int = 1,
        bins: int = 256,
        sparse: bool = True,
        gain: float = 100.0,
        reach: float = 1e-4,
    ):
        super().__init__(bins=bins, sparse=sparse, gain=gain, reach=reach)
        self.victims = victims

    def invalid_parameters(self) -> list[str]:
        return whole("victims", self.victims) + super().invalid_parameters()

    def module(self, model: Any, *, client: int, knowledge: Knowledge) -> Any:
        victim = int(knowledge.rng.integers(self.victims))
        front = super().module(model, client=client, knowledge=knowledge)
        return front if client == victim else killed(front)


def killed(front: Any) -> Any:
    """`front` with biases that no image in 0..1 can make up for."""
    import torch

    with torch.no_grad():
        highest = front.imprint.weight.clamp(min=0).sum(dim=1)
        front.imprint.bias.copy_(-2 * highest - front.imprint.bias.abs().max())
    return front


class ModelInconsistency(RobbingTheFed):
    """Reads the victim's records out of a sum over clients, of whom it alone had a live imprint.

    The other clients' records stay the prior guess.

    Args:
        denoised: as in `RobbingTheFed`.
    """

    version = 2
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("auxiliary",),
        adversary="server",
        conduct="malicious",
    )
    paper = "Pasquini et al. 2022, Eluding Secure Aggregation in Federated Learning via Model Inconsistency, CCS"

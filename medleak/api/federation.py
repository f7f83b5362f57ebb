"""What is seen of federated training, and how its messages become one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from medleak.api.defense import Defense
from medleak.api.types import Slot


@dataclass(frozen=True)
class LocalTraining:
    """What each client does between two messages; public.

    Attributes:
        steps: plain gradient steps; with one, an update is a mean gradient (FedSGD).
        batch_size: records of a step.
        lr: learning rate of those steps.
    """

    steps: int
    batch_size: int
    lr: float


@dataclass(frozen=True)
class Observation:
    """One message as an adversary sees it: a client's update, or the sum over several clients.

    Attributes:
        round: from 0; the global model has been trained for that many rounds.
        clients: whose updates are in it: one, or those that were summed.
        n_records: records behind it, over all its clients; under differential privacy their expected
            number, because the true one is private.
        sent: name -> array of what these clients were sent.
        update: name -> array, ``(sent - returned) / lr``: with one local step, the gradient of the
            mean loss over the `n_records`; summed updates are averaged by number of records.
        local: what each client did.
        hidden: name -> bool array of the shape of its update: entries that were sent in a form that this
            adversary cannot read, and are 0 in `update`. Arrays without such entries are not named.
    """

    round: int
    clients: tuple[int, ...]
    n_records: int
    sent: Mapping[str, np.ndarray]
    update: Mapping[str, np.ndarray]
    local: LocalTraining
    hidden: Mapping[str, np.ndarray] = field(default_factory=dict)

    def readable(self, name: str) -> np.ndarray:
        """Which entries of the array `name` of the update are readable (not encrypted), bool of its shape."""
        if name in self.hidden:
            return ~self.hidden[name]
        return np.ones(np.shape(self.update[name]), dtype=bool)


@dataclass(frozen=True)
class Aggregated:
    """What came of one round's messages.

    Attributes:
        total: sum over the survivors, ``(P,)`` float64.
        survivors: clients whose messages are in it.
        excluded: client -> why its message is not.
        cost: "client_bytes" and "server_bytes" sent by one client and by the server,
            "client_seconds" (the slowest) and "server_seconds".
    """

    total: np.ndarray
    survivors: tuple[int, ...]
    excluded: Mapping[int, str] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


class UpdateDefense(Defense):
    """Fills the slot "update": what a client does to its own update before it is sent."""

    slot: ClassVar[Slot] = "update"
    reads_records: ClassVar[bool] = False
    """Whether `protect` looks at `x`: what is done to a private update must not."""

    @abstractmethod
    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        """The update as sent, by the same names.

        Args:
            update: name -> array, see `Observation.update`.
            rng: this client's, in this round.
            model: the ``nn.Module`` that the client was sent.
            x: the records of its last step, a float tensor ``(B, C, H, W)``.
        """


class Aggregator(Defense):
    """Fills the slot "aggregate": how the messages of a round become their sum.

    One that keeps the server from reading single messages says so in `hides["updates"]`. One that is
    `private` promises differential privacy for whole clients or patients: counts of members, which are
    private then, must not decide who takes part or how much a message weighs.
    """

    slot: ClassVar[Slot] = "aggregate"
    private: ClassVar[bool] = False

    def seen(self, message: np.ndarray) -> np.ndarray:
        """A single message ``(P,)`` as the server reads it, with zeros where it cannot."""
        return message

    def added(self, message: np.ndarray) -> np.ndarray:
        """What a client knows to be of its own message ``(P,)`` in the sum."""
        return message

    def visible(self, length: int) -> np.ndarray:
        """Which entries of every single message ``(length,)`` the server reads, bool; public."""
        return np.ones(length, dtype=bool)

    @abstractmethod
    def aggregate(
        self,
        messages: Mapping[int, np.ndarray],
        *,
        dropped: Collection[int],
        rng: np.random.Generator,
    ) -> Aggregated:
        """Sum the messages of one round.

        Args:
            messages: client -> ``(P,)`` float64, of all that took part when the round began.
            dropped: those of them that vanish before their message arrives.
            rng: of this round.

        Raises:
            MedleakError: too few survivors.
        """

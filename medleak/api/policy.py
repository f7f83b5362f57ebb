"""What an active adversary changes during training; part of the training run's key.

The utility of such a run is measured on the very model that was tampered with, and its shadows are
tampered with alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medleak.api.component import Component
from medleak.api.data import ProblemSpec, Records
from medleak.api.federation import Observation
from medleak.api.knowledge import Knowledge
from medleak.api.membership import Challenge
from medleak.api.training import Trainer


class AdversaryPolicy(Component):
    """Base of what an attack's YAML names as `policy`; its defaults are those of one who changes nothing.

    Class attributes:
        exposes: views that only this adversary has; `seen` computes those that no artefact holds.
        hides: views that this adversary has not, with the reason. (Both literals, as elsewhere.)
    """

    exposes: ClassVar[Sequence[str]] = ()
    hides: ClassVar[Mapping[str, str]] = {}

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        """Every reason why this adversary can do nothing here; `trainer` is under its defense."""
        return []

    def seen(self, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """View -> its value, from the facts of the finished run."""
        return {}

    def marked(self, challenge: Challenge) -> Challenge:
        """The challenge with the planted canaries' kinds; drawn alike for every run."""
        return challenge

    def poison(
        self, trainer: Trainer, challenge: Challenge, member: np.ndarray, *, seed: int
    ) -> tuple[Trainer, Records]:
        """What the run is trained by and on.

        Args:
            trainer: under its defense.
            challenge: as `marked`.
            member: which of it are in this run, ``(N,)`` bool.
            seed: of the run.
        """
        return trainer, challenge.records.take(member)

    @property
    def tampering(self) -> ServerPolicy | None:
        """What the server changes in the models that it sends; None: nothing."""
        return None

    @property
    def observing_client(self) -> int | None:
        """The client from whose seat training is observed; None: from the server's."""
        return None


class PoisoningPolicy(AdversaryPolicy):
    """One who takes part in training: plants canaries (`marked`), or changes what is learnt from (`poison`)."""


class ServerPolicy(AdversaryPolicy):
    """A dishonest server of federated training. The defaults are those of a curious one."""

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        reason = trainer.malicious_server_incompatibility()
        return [reason] if reason else []

    @property
    def tampering(self) -> ServerPolicy | None:
        return self

    def module(self, model: Any, *, client: int, knowledge: Knowledge) -> Any:
        """What `client` is sent in place of `model` in an observed round.

        An ``nn.Module`` of the same inputs and outputs, or `model` itself where nothing is changed.
        `knowledge` holds the auxiliary records, the setting and a generator, the same for all clients
        of a round.
        """
        return model

    def kept(self, update: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray] | None:
        """The part of a tampered update that still trains `model`, by its own names; None if none."""
        return update


class ClientPolicy(AdversaryPolicy):
    """A curious client: it does its part, and looks at the global models that it is sent.

    What it observes is the view "aggregate": of each round the sum of the others' messages, which it
    has from two successive models and its own message. Its own patients are known to it, and of the
    kind `OWN`, which nobody is asked about. `client` says which one it is.
    """

    exposes = ("aggregate",)
    hides: ClassVar[Mapping[str, str]] = {"updates": "a client sees sums"}
    client: int

    @property
    def observing_client(self) -> int | None:
        return self.client

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        reason = trainer.client_view_incompatibility(self.client)
        return [reason] if reason else []


OWN = "own"
"""The kind of challenge record that belongs to the client who looks on."""


@dataclass(frozen=True)
class Observer:
    """The adversary who looks at a run, as its trainer meets them.

    Attributes:
        policy: what is changed; None for a curious one.
        knowledge: what the policy may use.
        keep: called with each observed message and the positions ``(n,)`` of the records behind it
            among those trained on; writes both to disk.
        observing_client: the client that looks on; None: the server.
    """

    policy: ServerPolicy | None
    knowledge: Knowledge
    keep: Callable[[Observation, np.ndarray], None]
    observing_client: int | None = None

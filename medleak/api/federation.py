"""What is seen of federated training, and what a dishonest server changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api.words import Component


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
        n_records: records behind it, over all its clients.
        sent: name -> array of what these clients were sent.
        update: name -> array, ``(sent - returned) / lr``: with one local step, the gradient of the
            mean loss over the `n_records`; summed updates are averaged by number of records.
        local: what each client did.
    """

    round: int
    clients: tuple[int, ...]
    n_records: int
    sent: Mapping[str, np.ndarray]
    update: Mapping[str, np.ndarray]
    local: LocalTraining


@dataclass(frozen=True)
class Puzzle:
    """What a reconstruction attack is asked: the records behind some observations.

    Attributes:
        indices: ``(T,)`` int, positions in the release's sequence of observations.
        n_records: ``(T,)`` int, records behind each.
        in_shape: of one record, ``(C, H, W)``; values in 0..1.
        labels: the sorted labels behind each observation where the adversary is given them.
    """

    indices: np.ndarray
    n_records: np.ndarray
    in_shape: tuple[int, ...]
    labels: tuple[np.ndarray, ...] | None = None

    def __len__(self) -> int:
        return len(self.indices)


class AdversaryPolicy(Component):
    """What an active adversary changes during training; part of the training run's key.

    The defaults are those of a server that is only curious. Utility is measured on the very run that
    was tampered with.
    """

    def module(self, model: Any, *, client: int) -> Any:
        """What `client` is sent in place of `model` in an observed round: an ``nn.Module`` of the
        same inputs and outputs, `model` itself where nothing is changed."""
        return model

    def kept(self, update: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray] | None:
        """The part of a tampered update that still trains `model`, by its own names; None if none."""
        return update

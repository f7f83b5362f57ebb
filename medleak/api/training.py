"""How a model is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from medleak.api.component import Component
from medleak.api.data import ProblemSpec, Records
from medleak.api.errors import NotApplicable
from medleak.api.sampling import GradientRule, Sampler
from medleak.api.types import Slot


@dataclass(frozen=True)
class Trained:
    """What a trainer returns: the model and plain-number facts (steps, sigma, accuracies ...)."""

    model: Any
    facts: Mapping[str, Any]


class Trainer(Component, ABC):
    """How a model is fitted. The `train` slot maps one trainer to another.

    Attributes that defenses of the `train` slot read; a recipe whose rules they may exchange takes
    `sampler` and `gradient` as keyword arguments:

    - `sampler`: how batches are drawn; None: the trainer's own way.
    - `gradient`: what a step follows; None: the gradient of the mean loss.
    - `early_stopping`: how the validation records end training; None: not at all.

    Class attributes:
        makes: kinds of artefact (``conf/artefact``) that `fit` gives; () where nothing is fitted.
    """

    makes: ClassVar[Sequence[str]] = ("classifier",)
    sampler: Sampler | None = None
    gradient: GradientRule | None = None
    early_stopping: Mapping[str, Any] | None = None

    @abstractmethod
    def fit(
        self,
        model: Any,
        records: Records,
        *,
        problem: ProblemSpec,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Trained:
        """Fit `model` (a fresh ``nn.Module``) on the member `records`."""

    def incompatibilities(self, problem: ProblemSpec) -> list[str]:
        """Every reason why this trainer cannot serve `problem`."""
        return []

    def fewest_validation(self) -> int:
        """Validation records without which `fit` fails."""
        return 0

    def with_stages(self, slot: Slot, stages: Sequence[Any]) -> Trainer:
        """The same trainer with the slot "update" or "aggregate" filled.

        Raises:
            NotApplicable: it sends no messages that could be changed or summed.
        """
        name = type(self).__name__
        raise NotApplicable(f"slot '{slot}' is for federated training, and {name} is not")

    def malicious_server_incompatibility(self) -> str:
        """Why no dishonest server can be met here; "" where one can."""
        return "a dishonest server needs federated training"

    def client_view_incompatibility(self, client: int) -> str:
        """Why nobody can look on from the seat of this client; "" where one can."""
        return "a curious client needs federated training"

    def records_of_client(self, records: Records, client: int, problem: ProblemSpec) -> np.ndarray:
        """Which records belong to this client, ``(N,)`` bool; nobody's where there are no clients."""
        return np.zeros(len(records), dtype=bool)

    def observed_by(self, observer: Any) -> Trainer:
        """The same trainer, whose messages a `medleak.api.Observer` sees; itself if there are none."""
        return self

"""How a model is fitted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medleak.api.data import Records, Setting
from medleak.api.words import Component


@dataclass(frozen=True)
class Trained:
    """What a trainer returns: the model and plain-number facts (steps, sigma, accuracies ...)."""

    model: Any
    facts: Mapping[str, Any]


class Trainer(Component, ABC):
    """How a model is fitted. The `train` slot maps one trainer to another."""

    @abstractmethod
    def fit(
        self,
        model: Any,
        records: Records,
        *,
        setting: Setting,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Trained:
        """Fit `model` (a fresh ``nn.Module``) on the member `records`."""

    def refusals(self, setting: Setting) -> list[str]:
        """Every reason why this trainer cannot serve `setting`."""
        return []

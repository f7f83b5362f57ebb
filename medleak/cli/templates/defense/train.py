"""Plugin title: say here what it protects."""

from __future__ import annotations

import copy

from medleak.api import Defense, ProblemSpec, Trainer


class PluginName(Defense):
    """Trains for a share of the epochs, so that less is learnt by heart.

    Args:
        share: of the recipe's epochs.
    """

    slot = "train"

    def __init__(self, *, share: float = 0.5):
        self.share = share

    def invalid_parameters(self) -> list[str]:
        return [] if 0 < self.share <= 1 else [f"share {self.share}: above 0, up to 1 is needed"]

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        if "epochs" in vars(trainer):
            return []
        return [f"PluginName shortens a recipe's epochs: {type(trainer).__name__} has none"]

    def apply(self, subject: Trainer, *, problem: ProblemSpec) -> Trainer:
        shorter = copy.copy(subject)
        shorter.epochs = max(1, round(self.share * subject.epochs))
        return shorter

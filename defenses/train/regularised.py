"""Plain regularisation: a stronger penalty on the weights, or fewer epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medleak.api import ProblemSpec, Trainer
from medleak.defenses.train._recipes import RecipeFilling, number, whole


class WeightDecay(RecipeFilling):
    """Trains with the L2 penalty ``weight_decay / 2 * |w|^2`` in place of the recipe's own.

    Under "adamw" the decay is decoupled: each step multiplies the weights by
    ``1 - lr * weight_decay`` (Loshchilov & Hutter 2019). No guarantee comes with it: Shokri et al.,
    S&P 2017, section VIII, propose it because membership leaks more from models that overfit.

    Args:
        weight_decay: strength, 0 or more.
    """

    slot = "train"
    version = 1
    paper = "Shokri et al., Membership Inference Attacks Against Machine Learning Models, S&P 2017"
    needs = ("weight_decay",)

    def __init__(self, *, weight_decay: float = 3.0):
        self.weight_decay = weight_decay

    def invalid_parameters(self) -> list[str]:
        good = number(self.weight_decay) and self.weight_decay >= 0
        return [] if good else [f"weight_decay {self.weight_decay!r} must be a number from 0"]

    def changes(self, trainer: Trainer, problem: ProblemSpec) -> Mapping[str, Any]:
        return {"weight_decay": self.weight_decay}


class EarlyStopping(RecipeFilling):
    """Stops after `patience` epochs without a better validation loss, and returns to the best epoch.

    The validation patients are nobody's members: what they decide tells nothing of who was. Whoever
    stops early memorises less (Salem et al. 2019; Song & Mittal 2021 find it hard to beat), and is
    promised nothing.

    Args:
        patience: epochs, 1 or more.
    """

    slot = "train"
    version = 1
    paper = "Song & Mittal, Systematic Evaluation of Privacy Risks of Machine Learning Models, USENIX Security 2021"
    needs = ("early_stopping", "sampler")
    reads_validation = True

    def __init__(self, *, patience: int = 3):
        self.patience = patience

    def invalid_parameters(self) -> list[str]:
        good = whole(self.patience, 1)
        return [] if good else [f"patience {self.patience!r} must be a whole number from 1"]

    def objections(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        if trainer.sampler is None:
            return []
        return [
            "early stopping after a defense that draws the batches itself: its guarantee is for the "
            "last iterate, which must be the one released"
        ]

    def changes(self, trainer: Trainer, problem: ProblemSpec) -> Mapping[str, Any]:
        return {"early_stopping": {"patience": self.patience}}

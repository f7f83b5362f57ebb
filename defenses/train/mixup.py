"""MixUp: training on weighted means of two records and their labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Backward, GradientRule, Step
from medleak.defenses.train._recipes import RuleFilling, number

LEAST, MOST = 1e-3, 1e3
"""Of alpha: outside, a Beta variate is nothing but 0, 1 or a half to the last bit."""


class MixUp(RuleFilling):
    """Follows the loss of ``l x + (1 - l) x'`` with labels mixed alike, ``l ~ Beta(alpha, alpha)``.

    As in the authors' code, each batch has one `l`, each record a partner x' by a random permutation
    of its batch, and the loss is ``l loss(z, y) + (1 - l) loss(z, y')``, which is the loss of the
    mixed target. Pixels are mixed after augmentation. Both draws come from a generator seeded by the
    run. No guarantee comes with it.

    Args:
        alpha: of the Beta distribution, .001 to 1000; 0 mixes nothing and is plain training.
    """

    slot = "train"
    version = 1
    paper = "Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018"
    replaces = True

    def __init__(self, *, alpha: float = 1.0):
        self.alpha = alpha

    def invalid_parameters(self) -> list[str]:
        good = number(self.alpha) and (self.alpha == 0 or LEAST <= self.alpha <= MOST)
        return [] if good else [f"alpha {self.alpha!r} must be 0 or from {LEAST:g} to {MOST:g}"]

    def rule(self, inner: GradientRule) -> GradientRule:
        return MixedGradient(float(self.alpha))


@dataclass(frozen=True)
class MixedGradient(GradientRule):
    """Gradient of the mean loss of a batch mixed with itself; zero for an empty batch."""

    alpha: float

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        import torch

        rng = np.random.default_rng(seed)

        def backward(x: Any, y: Any) -> Any:
            model.zero_grad(set_to_none=True)
            share = float(rng.beta(self.alpha, self.alpha)) if self.alpha else 1.0
            partner = torch.from_numpy(rng.permutation(len(x))).to(x.device)
            z = model(share * x + (1 - share) * x[partner])
            losses = share * loss(z, y) + (1 - share) * loss(z, y[partner])
            mean = losses.sum() / max(len(x), 1)
            mean.backward()
            return mean.detach()

        yield Step(backward)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"mixup_alpha": self.alpha}

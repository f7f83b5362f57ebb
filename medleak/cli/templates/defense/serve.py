"""Plugin title: say here what it protects."""

from __future__ import annotations

import numpy as np

from medleak.api import Defense, ProblemSpec, Release


class PluginName(Defense):
    """Mixes each answer with the uniform one: ``(1 - weight) p + weight / C``; the label stays.

    Args:
        weight: of the uniform answer.
    """

    slot = "serve"
    hides = {"weights": "served behind an interface"}

    def __init__(self, *, weight: float = 0.1):
        self.weight = weight

    def invalid_parameters(self) -> list[str]:
        good = 0 <= self.weight < 1
        return [] if good else [f"weight {self.weight}: from 0, below 1 is needed"]

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        scores = subject.view("scores")

        def mixed(x: np.ndarray) -> np.ndarray:
            p = np.exp(scores(x))
            return np.log(np.maximum((1 - self.weight) * p + self.weight / p.shape[-1], 1e-300))

        return subject.without(self.hides).replaced(scores=mixed)

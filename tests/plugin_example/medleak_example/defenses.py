"""A defense that fills the serve slot."""

from __future__ import annotations

import numpy as np

from medleak.api import Defense, ProblemSpec, Release


class Cap(Defense):
    """Serves no probability above `most`.

    A surer answer is mixed with the uniform one: ``(1 - w) p + w / C`` with the `w` that brings the
    largest probability down to `most`.

    Args:
        most: largest probability served, above one half, so that the label stays.
    """

    slot = "serve"
    hides = {"weights": "served behind an interface"}

    def __init__(self, *, most: float = 0.9):
        self.most = most

    def invalid_parameters(self) -> list[str]:
        return [] if 0.5 < self.most < 1 else [f"most={self.most}: above 0.5 and below 1 is needed"]

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        scores = subject.view("scores")

        def capped(x: np.ndarray) -> np.ndarray:
            p = np.exp(scores(x))
            top, even = p.max(axis=-1, keepdims=True), 1 / p.shape[-1]
            w = np.maximum(top - self.most, 0) / np.maximum(top - even, 1e-12)
            return np.log(np.maximum((1 - w) * p + w * even, 1e-300))

        return subject.without(self.hides).replaced(scores=capped)

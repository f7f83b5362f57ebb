"""Serve probabilities with few decimals."""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api import ConfigError, Defense, ProblemSpec, Release


class RoundScores(Defense):
    """Rounds every probability to `decimals` places; scores are their logarithms.

    A probability that rounds to zero has score ``-inf``, and a row need no longer sum to one. The
    label is the model's own: rounding makes ties, which must not move it. Shokri et al., Membership
    Inference Attacks Against Machine Learning Models, S&P 2017, section VIII.

    Args:
        decimals: places kept, at least 1.
    """

    slot = "serve"
    version = 1
    paper = "Shokri et al., Membership Inference Attacks Against Machine Learning Models, S&P 2017"
    hides = {"weights": "served behind an interface: the parameters stay with the hospital"}

    def __init__(self, *, decimals: int = 2):
        self.decimals = decimals

    def invalid_parameters(self) -> list[str]:
        if isinstance(self.decimals, bool) or not isinstance(self.decimals, int):
            return [f"decimals {self.decimals!r} must be a whole number"]
        return [] if self.decimals >= 1 else [f"decimals {self.decimals} must be at least 1"]

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        if invalid_parameters := self.invalid_parameters():
            raise ConfigError(invalid_parameters[0])
        served = subject.without(self.hides)
        rounded = self._rounded(subject.view("scores"))
        # Rounded scores may tie: the label is the one that the service knew before it rounded.
        kept = {"labels": subject.view("labels")} if "labels" in subject.views else {}
        return served.replaced(scores=rounded, **kept)

    def _rounded(self, scores: Any) -> Any:
        def rounded(x: np.ndarray) -> np.ndarray:
            with np.errstate(divide="ignore"):
                return np.log(np.round(np.exp(scores(x)), self.decimals))

        return rounded

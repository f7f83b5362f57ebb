"""Serve softened probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api import ConfigError, Defense, ProblemSpec, Release


class Temperature(Defense):
    """Divides the log-probabilities by `t` and normalises again; labels stay as they are.

    ``softmax(z / t)``: above 1 it hides confidence from a reader, not from an attacker who knows
    `t`, since the map is invertible. Shokri et al., S&P 2017, section VIII.

    Args:
        t: temperature, positive; above 1 softens.
    """

    slot = "serve"
    version = 1
    paper = "Shokri et al., Membership Inference Attacks Against Machine Learning Models, S&P 2017"
    hides = {"weights": "served behind an interface: the parameters stay with the hospital"}

    def __init__(self, *, t: float = 4.0):
        self.t = t

    def invalid_parameters(self) -> list[str]:
        number = isinstance(self.t, int | float) and not isinstance(self.t, bool)
        good = number and 0 < self.t < np.inf
        return [] if good else [f"t {self.t!r} must be a positive finite number"]

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        if invalid_parameters := self.invalid_parameters():
            raise ConfigError(invalid_parameters[0])
        served = subject.without(self.hides)
        return served.replaced(scores=self._softened(subject.view("scores")))

    def _softened(self, scores: Any) -> Any:
        def softened(x: np.ndarray) -> np.ndarray:
            z = scores(x) / self.t
            return z - np.logaddexp.reduce(z, axis=-1, keepdims=True)

        return softened

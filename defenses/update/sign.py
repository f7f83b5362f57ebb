"""Sign: of each entry only its sign is sent, with one scale per array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import UpdateDefense


class SignUpdate(UpdateDefense):
    """Sends ``sign(g) mean|g|`` of each array; 0 stays 0.

    The scale makes it the nearest array of one magnitude, so that learning rates keep their meaning. No
    feedback of the error. NO guarantee: attacks that compare directions, such as the cosine of
    Inverting Gradients, still have one bit of every entry.

    Papers: Bernstein et al., signSGD, ICML 2018; Karimireddy et al., Error Feedback Fixes SignSGD, ICML
    2019 (for the scale).
    """

    slot = "update"
    version = 1
    paper = "Bernstein et al., signSGD: Compressed Optimisation for Non-Convex Problems, ICML 2018"

    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        return {
            name: (np.sign(array) * np.abs(array).mean()).astype(array.dtype)
            for name, array in update.items()
        }

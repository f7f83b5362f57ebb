"""Serve scores with noise that keeps the label: like MemGuard, without its surrogate attack."""

from __future__ import annotations

import functools
import hashlib
import math
from typing import Any

import numpy as np

from medleak.api import ConfigError, Defense, ProblemSpec, Release
from medleak.core.keys import array_digest, lasting_digest


class MemGuardLike(Defense):
    """Moves every answer towards a random one with the same label, by at most `budget` in L1.

    ``p' = (1 - w) p + w r`` with ``w = min(1, budget / |r - p|_1)``: r is uniform on the simplex,
    with its largest entry moved to the label. Multi-label: label by label. The noise is drawn once
    for each record and model: its generator is keyed by the seed, the record's pixels and the
    model's parameters, so that the same question has the same answer (averaging repeats is useless),
    and a shadow's noise tells nothing of the target's, even to who knows the seed.

    MemGuard (Jia et al. 2019) searches, for each record, the smallest noise that makes a surrogate
    membership classifier undecided, and adds it with the probability that meets a budget in
    expectation. Here nothing is searched, the budget holds for every record, and the noise does not
    depend on how confident the answer is: the same goal (scores that say little beyond the label,
    labels untouched), a cruder way. Neither promises anything formally. What both leave open:
    label-only attacks (Choquette-Choo et al. 2021), and averaging over records changed a little.

    Args:
        budget: largest L1 distance between what is served and the model's probabilities, 0 to 2; 0
            changes nothing.
        seed: of the noise.
    """

    slot = "serve"
    version = 2
    paper = "Jia et al., MemGuard: Defending against Black-Box Membership Inference Attacks via Adversarial Examples, CCS 2019"
    hides = {"weights": "served behind an interface: the parameters stay with the hospital"}

    def __init__(self, *, budget: float = 1.0, seed: int = 0):
        self.budget = budget
        self.seed = seed

    def invalid_parameters(self) -> list[str]:
        found = []
        number = isinstance(self.budget, int | float) and not isinstance(self.budget, bool)
        if not (number and 0 <= self.budget <= 2):
            found.append(f"budget {self.budget!r} must be a number from 0 to 2")
        if type(self.seed) is not int:
            found.append(f"seed {self.seed!r} must be a whole number")
        return found

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        """The release with noisy scores.

        Raises:
            ConfigError: faults, or an earlier filling that hides the parameters.
        """
        if invalid_parameters := self.invalid_parameters():
            raise ConfigError("; ".join(invalid_parameters))
        if "weights" not in subject.views:
            raise ConfigError(
                "MemGuardLike keys its noise by the model's parameters: list it before the fillings "
                "that hide them"
            )
        served = subject.without(self.hides)
        return served.replaced(scores=self._noisy(subject)) if self.budget else served

    def _noisy(self, subject: Release) -> Any:
        plain, labels, weights = (subject.view(name) for name in ("scores", "labels", "weights"))

        @functools.cache
        def key() -> bytes:
            named = [[name, array_digest(np.asarray(weights[name]))] for name in sorted(weights)]
            return bytes.fromhex(lasting_digest(["memguard", self.seed, named]))

        def noisy(x: np.ndarray) -> np.ndarray:
            p, label = np.exp(plain(x)), labels(x)
            return mixed(p, label, noise(x, p.shape[1:], key()), self.budget)

        return noisy


def noise(x: np.ndarray, shape: tuple[int, ...], key: bytes) -> np.ndarray:
    """A uniform draw from the simplex (the last axis) for each record, keyed by its content.

    Bytes and floats in 0..1 of the same image are the same content. A hash of any length gives the
    bits: a generator for each record would take ten times as long.
    """
    rows = (x.astype(np.float32) / 255) if x.dtype == np.uint8 else np.asarray(x, np.float32)
    length = 8 * math.prod(shape)
    bits = b"".join(hashlib.shake_128(key + row.tobytes()).digest(length) for row in rows)
    words = np.frombuffer(bits, dtype="<u8").reshape(len(x), *shape)
    drawn = -np.log(((words >> np.uint64(11)) + 0.5) / 2**53)
    return drawn / drawn.sum(-1, keepdims=True)


def mixed(p: np.ndarray, label: np.ndarray, r: np.ndarray, budget: float) -> np.ndarray:
    """Log of ``(1 - w) p + w r``, with the largest entry of `r` at `label`.

    Shapes: `p` and `r` ``(..., C)``, `label` ``(...)``.
    """
    own, top = label[..., None], r.argmax(-1)[..., None]
    largest, there = np.take_along_axis(r, top, -1), np.take_along_axis(r, own, -1)
    r = r.copy()
    np.put_along_axis(r, top, there, -1)
    np.put_along_axis(r, own, largest, -1)
    distance = np.abs(r - p).sum(-1, keepdims=True)
    w = np.minimum(1, budget / np.maximum(distance, 1e-12))
    with np.errstate(divide="ignore"):
        return np.log((1 - w) * p + w * r)

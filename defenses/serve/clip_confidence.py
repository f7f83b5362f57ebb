"""Serve no confidence above a cap."""

from __future__ import annotations

import numpy as np

from medleak.api import ConfigError, Defense, ProblemSpec, Release


class ClipConfidence(Defense):
    """Caps the largest probability at `most`; the others share the rest in their old proportions.

    ``p_k -> most`` and ``p_j -> p_j (1 - most) / (1 - p_k)`` where ``p_k > most`` is the largest;
    others that were all zero share evenly. Answers up to the cap stay as they are. `most` is above
    one half, so that the label stays, and no tie is made or broken. Of two classes, all confident
    answers become the same bit for bit; of more, their proportions still tell. Multi-label: label by
    label. A form of confidence masking (Jia et al., CCS 2019), which label-only attacks do not
    notice: Choquette-Choo et al., ICML 2021.

    Args:
        most: largest probability served, above .5; 1 changes nothing.
    """

    slot = "serve"
    version = 1
    paper = "Choquette-Choo et al., Label-Only Membership Inference Attacks, ICML 2021"
    hides = {"weights": "served behind an interface: the parameters stay with the hospital"}

    def __init__(self, *, most: float = 0.9):
        self.most = most

    def invalid_parameters(self) -> list[str]:
        number = isinstance(self.most, int | float) and not isinstance(self.most, bool)
        good = number and 0.5 < self.most <= 1
        return [] if good else [f"most {self.most!r} must be a number above 0.5 and at most 1"]

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        if invalid_parameters := self.invalid_parameters():
            raise ConfigError(invalid_parameters[0])
        scores = subject.view("scores")
        return subject.without(self.hides).replaced(scores=lambda x: self._clipped(scores(x)))

    def _clipped(self, scores: np.ndarray) -> np.ndarray:
        return clipped(scores, self.most)


def clipped(scores: np.ndarray, most: float) -> np.ndarray:
    """Log-probabilities ``(..., C)`` with none above ``log(most)``."""
    top = scores.argmax(-1)[..., None]
    over = np.take_along_axis(scores, top, -1) > np.log(most)
    others = scores.copy()
    np.put_along_axis(others, top, -np.inf, -1)
    total = np.logaddexp.reduce(others, axis=-1, keepdims=True)
    # Shares first: of two classes the other's is then exactly one, and no trace of p is left.
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(np.isneginf(total), -np.log(scores.shape[-1] - 1), others - total)
        capped = share + np.log1p(-most)
    np.put_along_axis(capped, top, np.log(most), -1)
    return np.where(over, capped, scores)

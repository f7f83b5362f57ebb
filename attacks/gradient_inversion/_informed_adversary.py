r"""The informed adversary under DP: all records but one are known, and so is every noisy gradient.

It is mounted against the mechanism itself, whose noise and other records no transcript view holds, so
that it is a function on arrays and not an attack on a puzzle. Its success is bounded by the
reconstruction ceiling (ReRo) of the mechanism, which makes it the yardstick of that ceiling.
"""

from __future__ import annotations

import numpy as np


def residuals(noisy: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What is left of each step's noisy sum without the clipped gradients of the known records.

    Args:
        noisy: released sums, ``(T, P)`` (a released mean times the expected batch).
        known: clipped gradients of the known records that were in the batch, summed, ``(T, P)``.
    """
    return np.asarray(noisy, np.float64) - np.asarray(known, np.float64)


def clipped(gradients: np.ndarray, clip: float) -> np.ndarray:
    """Each row ``(..., P)`` scaled down to a Euclidean norm of at most `clip`."""
    gradients = np.asarray(gradients, np.float64)
    norm = np.linalg.norm(gradients, axis=-1, keepdims=True)
    return gradients * np.minimum(1, clip / np.maximum(norm, np.finfo(np.float64).tiny))


def scores(candidates: np.ndarray, left: np.ndarray, clip: float) -> np.ndarray:
    r"""How well each candidate explains what is left; the highest is the guess.

    .. math:: s(z) = \sum_t \langle \mathrm{clip}_C(\nabla \ell(\theta_t, z)), r_t \rangle

    Where all candidates' gradients are clipped to the same norm this orders them by likelihood, so
    that no adversary with a uniform prior is right more often at full batch.

    Args:
        candidates: their gradients at each step, ``(M, T, P)``.
        left: the residuals r, ``(T, P)``.
        clip: the clipping norm C.

    Returns:
        ``(M,)``.

    Hayes et al. 2023, Bounding Training Data Reconstruction in DP-SGD, NeurIPS (the attack with a
    prior); Balle et al. 2022, Reconstructing Training Data with Informed Adversaries, IEEE S&P (the
    adversary).
    """
    if not clip > 0:
        raise ValueError(f"clip must be positive, not {clip!r}")
    total = np.zeros(len(candidates))
    for t, rest in enumerate(
        np.asarray(left, np.float64)
    ):  # one step at a time: (M, T, P) is large
        total += clipped(candidates[:, t], clip) @ rest
    return total


def guess(candidates: np.ndarray, left: np.ndarray, clip: float) -> int:
    """Position of the candidate with the highest of `scores`; the first of several."""
    return int(np.argmax(scores(candidates, left, clip)))

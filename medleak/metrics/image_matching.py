"""Which rebuilt image stands for which original, and how far the two are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medleak.api import DataError, Reconstructions, ReconstructionTruth

WINDOW = 11
"""Side of SSIM's Gaussian window."""


@dataclass(frozen=True)
class Matched:
    """Every original with the rebuilt image assigned to it, by observation and place in it.

    Attributes:
        rebuilt, originals: ``(M, C, H, W)`` float64.
        trials, patients: ``(M,)``, the observation and the patient of each original.
    """

    rebuilt: np.ndarray
    originals: np.ndarray
    trials: np.ndarray
    patients: np.ndarray


def match(output: Reconstructions, secret: ReconstructionTruth) -> Matched:
    """Assign the rebuilt images of each observation to its originals at the least total squared error.

    One to one (Hungarian): nearest originals with repeats would count one good image several times, and
    hide those that were never found. A failure keeps its place.

    Raises:
        DataError: shapes that do not fit, positions outside the gallery, NaN or infinite pixels.
    """
    images, gallery = np.asarray(output.images), np.asarray(output.gallery)
    positions, counts = np.asarray(secret.positions), np.asarray(output.n_records)
    _check(images, gallery, positions, counts)
    found, truth, trials = [], [], []
    for trial, (row, n) in enumerate(zip(positions, counts, strict=True)):
        originals = row[row >= 0]
        rebuilt = images[trial, :n].astype(np.float64)
        if not np.isfinite(rebuilt).all():
            raise DataError(f"observation {trial}: a rebuilt image holds NaN or infinite pixels")
        order = assign(rebuilt, gallery[originals].astype(np.float64))
        found.append(rebuilt[order])
        truth.append(originals)
        trials.append(np.full(n, trial))
    where = np.concatenate([*truth, np.zeros(0, int)]).astype(int)
    rebuilt = np.concatenate([*found, np.zeros((0, *gallery.shape[1:]))])
    at = np.concatenate([*trials, np.zeros(0, int)]).astype(int)
    return Matched(
        rebuilt, gallery[where].astype(np.float64), at, np.asarray(output.patients)[where]
    )


def assign(rebuilt: np.ndarray, originals: np.ndarray) -> np.ndarray:
    """``(B,)``: which rebuilt image each original gets."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(squared_distances(originals, rebuilt))[1]


def _check(
    images: np.ndarray, gallery: np.ndarray, positions: np.ndarray, counts: np.ndarray
) -> None:
    if images.ndim != 5 or images.shape[2:] != gallery.shape[1:]:
        raise DataError(f"images {images.shape} do not fit a gallery of {gallery.shape}")
    if len(positions) != len(images) or len(counts) != len(images):
        raise DataError(
            f"{len(images)} observations, {len(counts)} counts, {len(positions)} truths"
        )
    if positions.size and positions.max() >= len(gallery):
        raise DataError(f"position {positions.max()} in a gallery of {len(gallery)}")
    known = (positions >= 0).sum(axis=1) if positions.size else counts
    wrong = np.flatnonzero((known != counts) | (counts > images.shape[1]))
    if len(wrong):
        t = wrong[0]
        raise DataError(
            f"observation {t}: {known[t]} originals, {counts[t]} records, room for {images.shape[1]}"
        )


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared pixel differences, ``(N, ...)`` and ``(M, ...)`` to ``(N, M)``."""
    size = int(np.prod(b.shape[1:]))  # -1 cannot be inferred where an observation is empty
    a, b = a.reshape(len(a), size), b.reshape(len(b), size)
    square = (a**2).mean(axis=1)[:, None] + (b**2).mean(axis=1)[None]
    return np.maximum(square - 2 * (a @ b.T) / size, 0.0)


def mse(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean squared pixel difference of each pair, ``(M, C, H, W)`` to ``(M,)``."""
    return ((a - b) ** 2).mean(axis=(1, 2, 3))


def psnr(a: np.ndarray, b: np.ndarray, cap: float) -> np.ndarray:
    """``-10 log10 MSE`` of each pair, data range 1, in dB and at most `cap`; ``(M,)``."""
    return -10 * np.log10(np.maximum(mse(a, b), 10 ** (-cap / 10)))


def ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity of each pair, data range 1, ``(M, C, H, W)`` to ``(M,)``.

    Gaussian window of 11 pixels and deviation 1.5, population covariances, K1 = .01, K2 = .03, averaged
    over channels and over the pixels whose window lies inside the image: the convention of MONAI, and of
    scikit-image with ``gaussian_weights=True, sigma=1.5, use_sample_covariance=False``. (Wang et al.
    2004, Image quality assessment: from error visibility to structural similarity, IEEE TIP.)
    """
    from scipy.ndimage import gaussian_filter

    edge = WINDOW // 2

    def smooth(x: np.ndarray) -> np.ndarray:
        full = gaussian_filter(x, 1.5, radius=edge, axes=(2, 3))
        return full[..., edge:-edge, edge:-edge]

    mean_a, mean_b = smooth(a), smooth(b)
    variances = smooth(a * a) - mean_a**2 + smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return (light * (2 * covariance + 0.03**2) / (variances + 0.03**2)).mean(axis=(1, 2, 3))


def standardised(images: np.ndarray) -> np.ndarray:
    """Each image at mean 0 and variance 1; a constant image is 0 everywhere."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat = flat - flat.mean(axis=1, keepdims=True)
    spread = flat.std(axis=1, keepdims=True)
    flat = np.divide(flat, spread, out=np.zeros_like(flat), where=spread > 1e-9)
    return flat.reshape(images.shape)


def hits(
    images: np.ndarray, truth: np.ndarray, gallery: np.ndarray, patients: np.ndarray, k: int
) -> np.ndarray:
    """How likely the true patient is among the `k` nearest, ties broken at random; ``(M,)``.

    A patient is as near as the nearest of their gallery images. Without ties the answer is 0 or 1. An
    image that tells nothing (constant, standardised) ties with everybody: ``k / patients``.

    Args:
        images: ``(M, C, H, W)``.
        truth: ``(M,)`` patients.
        gallery, patients: ``(G, C, H, W)`` and ``(G,)``.
    """
    order = np.argsort(patients, kind="stable")
    names, starts = np.unique(np.asarray(patients)[order], return_index=True)
    gallery, own = gallery[order], np.searchsorted(names, truth)
    found = []
    for start in range(0, len(images), 256):  # memory does not grow with the number of images
        part = slice(start, start + 256)
        distance = np.minimum.reduceat(squared_distances(images[part], gallery), starts, axis=1)
        true = np.take_along_axis(distance, own[part, None], axis=1)
        slack = 1e-9 * (1 + true)  # what rounding may tell apart of two equal images
        nearer = (distance < true - slack).sum(axis=1)
        alike = (np.abs(distance - true) <= slack).sum(axis=1)
        found.append(np.clip((k - nearer) / alike, 0.0, 1.0))
    return np.concatenate([*found, np.zeros(0)])

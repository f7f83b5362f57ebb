"""What an adversary rebuilds without the observation: the controls of reconstruction metrics.

Each gives a `Reconstructions` of the same shape, to be measured by the same metrics. A figure that the attack
does not raise above all of them was known before anything was observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medleak.api import DataError, Reconstructions
from medleak.metrics import image_matching as _matching


def mean_image(
    output: Reconstructions,
    auxiliary: np.ndarray,
    *,
    y: np.ndarray | None = None,
    labels: Sequence[np.ndarray] | None = None,
) -> Reconstructions:
    """Every image replaced by the mean auxiliary image, the best constant guess in squared error.

    Args:
        auxiliary: ``(A, C, H, W)`` in 0..1.
        y: ``(A,)``, their classes; several labels a record, ``(A, L)``, are not used.
        labels: the labels behind each observation, where the adversary is given them: each image is
            then the mean of one of these labels (of all where no auxiliary image has it).

    Raises:
        DataError: no auxiliary image.
    """
    _some(auxiliary)
    overall = np.asarray(auxiliary, dtype=np.float64).mean(axis=0)
    images = np.broadcast_to(overall, output.images.shape).copy()
    if labels is not None and y is not None and np.ndim(y) == 1:
        means = {c: np.asarray(auxiliary)[y == c].mean(axis=0) for c in np.unique(y).tolist()}
        for trial, known in enumerate(labels):
            for place, label in enumerate(np.asarray(known).tolist()):
                images[trial, place] = means.get(label, overall)
    return replace(output, images=images)


def typical_image(output: Reconstructions, auxiliary: np.ndarray) -> Reconstructions:
    """Every image replaced by one auxiliary image: that with the least mean squared error to the others.

    The best single real image that can be chosen without the truth: sharp, where the mean is blurred.

    Raises:
        DataError: no auxiliary image.
    """
    _some(auxiliary)
    flat = np.asarray(auxiliary, dtype=np.float64)
    # The least mean error to all others is the least error to their mean.
    best = int(np.argmin(_matching.squared_distances(flat.mean(axis=0)[None], flat)[0]))
    return replace(output, images=np.broadcast_to(flat[best], output.images.shape).copy())


def random_images(
    output: Reconstructions, auxiliary: np.ndarray, rng: np.random.Generator
) -> Reconstructions:
    """Every image replaced by an auxiliary image drawn at random.

    Raises:
        DataError: no auxiliary image.
    """
    _some(auxiliary)
    drawn = rng.integers(len(auxiliary), size=output.images.shape[:2])
    return replace(output, images=np.asarray(auxiliary, dtype=np.float64)[drawn])


def other_observations(output: Reconstructions) -> Reconstructions:
    """Each observation given the images rebuilt from the next ones, cyclically.

    The attack's own style of image, without the information: what remains is owed to the prior and to
    the assignment. A batch larger than the others takes their images more than once.

    Raises:
        DataError: fewer than two observations.
    """
    n = len(output.images)
    if n < 2:
        raise DataError(f"{n} observation{'s' * (n != 1)}: images of others need at least 2")
    counts = np.asarray(output.n_records)
    images = np.zeros_like(output.images)
    for trial in range(n):
        later = [(trial + 1 + step) % n for step in range(n - 1)]
        pool = np.concatenate([output.images[other, : counts[other]] for other in later])
        if len(pool):
            images[trial, : counts[trial]] = pool[np.arange(counts[trial]) % len(pool)]
    return replace(output, images=images)


def reach(
    auxiliary: np.ndarray, gallery: np.ndarray, *, measure: str = "ssim", cap: float = 100.0
) -> np.ndarray:
    """How like each gallery image the best auxiliary image is, chosen with the truth; ``(G,)``.

    A threshold of `medleak.metrics.reconstruction.Recovered` has to lie above nearly all of them.

    Args:
        auxiliary, gallery: ``(A, C, H, W)`` and ``(G, C, H, W)``, of different patients.
        measure: "ssim", or "psnr" in dB, at most `cap`.

    Raises:
        DataError: no auxiliary image.
    """
    _some(auxiliary)
    auxiliary, gallery = (np.asarray(x, dtype=np.float64) for x in (auxiliary, gallery))
    if measure == "psnr":
        least = _matching.squared_distances(gallery, auxiliary).min(axis=1)
        return -10 * np.log10(np.maximum(least, 10 ** (-cap / 10)))
    best = [
        _matching.ssim(np.broadcast_to(image, auxiliary.shape), auxiliary).max()
        for image in gallery
    ]
    return np.array(best)


def _some(auxiliary: np.ndarray) -> None:
    if not len(auxiliary):
        raise DataError("no auxiliary image: a prior-only baseline needs at least one")

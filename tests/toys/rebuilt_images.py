"""Smooth images and observations to rebuild them from."""

import numpy as np

from medleak.api import Reconstructions, ReconstructionTruth
from medleak.metrics.reconstruction import MSE, PSNR, SSIM, Identified, Recovered

EVERY = [PSNR(), SSIM(), MSE(), Identified(), Recovered()]


def smooth_images(n, seed=0, size=16):
    """Images with some structure, in 0..1, all different."""
    from scipy.ndimage import gaussian_filter

    noise = np.random.default_rng(seed).normal(size=(n, 1, size, size))
    rough = gaussian_filter(noise, 1.5, axes=(2, 3))
    low, high = rough.min(axis=(2, 3), keepdims=True), rough.max(axis=(2, 3), keepdims=True)
    return (rough - low) / (high - low)


def game(n_trials=6, batch=4, n_gallery=60, seed=0):
    """An exact reconstruction: shuffled originals, batches of unequal size."""
    rng = np.random.default_rng(seed)
    gallery = smooth_images(n_gallery, seed)
    counts = np.array([batch - (t % 2 if batch > 1 else 0) for t in range(n_trials)])
    positions = np.full((n_trials, batch), -1)
    images = np.full((n_trials, batch, *gallery.shape[1:]), 7.0)  # padding, never to be read
    drawn = rng.permutation(n_gallery)
    for t, n in enumerate(counts):
        positions[t, :n], drawn = drawn[:n], drawn[n:]
        images[t, :n] = gallery[rng.permutation(positions[t, :n])]
    return Reconstructions(images, counts, gallery, np.arange(n_gallery)), ReconstructionTruth(
        positions
    )


def with_images(output, images):
    return Reconstructions(images, output.n_records, output.gallery, output.patients)

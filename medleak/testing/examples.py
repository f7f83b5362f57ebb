"""For each goal what an attack answered and the truth, with as much of a leak as wanted, for metrics to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from medleak.api import (
    AttributeScores,
    AttributeTruth,
    InversionTruth,
    InvertedImages,
    MembershipScores,
    MembershipTruth,
    PropertyScores,
    PropertyTruth,
    Reconstructions,
    ReconstructionTruth,
)

N_RECORDS, N_CLASSES, N_PICTURES, N_MESSAGES, N_TARGETS, SIDE = 2000, 20, 4, 20, 40, 12


def membership(leak: float) -> tuple[MembershipScores, MembershipTruth]:
    """Scores of members are ``4 leak`` higher, in standard deviations."""
    rng = np.random.default_rng(0)
    member = rng.random(N_RECORDS) < 0.5
    scores = rng.normal(size=N_RECORDS) + 4 * leak * member
    return MembershipScores(scores, np.arange(N_RECORDS)), MembershipTruth(member)


def reconstruction(leak: float) -> tuple[Reconstructions, ReconstructionTruth]:
    """One image from each message: noise, and `leak` of the original."""
    rng = np.random.default_rng(0)
    gallery = rng.random((2 * N_MESSAGES, 1, SIDE, SIDE))
    noise = rng.random((N_MESSAGES, 1, 1, SIDE, SIDE))
    own = gallery[:N_MESSAGES, None]
    share = 0.9 * leak
    images = share * own + (1 - share) * noise
    ones = np.ones(N_MESSAGES, dtype=np.int64)
    positions = np.arange(N_MESSAGES)[:, None]
    return Reconstructions(images, ones, gallery, np.arange(len(gallery))), ReconstructionTruth(
        positions
    )


def inversion(leak: float) -> tuple[InvertedImages, InversionTruth]:
    """Pictures of each class: noise, and `leak` of the images that were trained on."""
    rng = np.random.default_rng(0)
    classes = np.arange(N_CLASSES)
    y = np.repeat(classes, N_PICTURES)
    alike = rng.random((N_CLASSES, 1, SIDE, SIDE))[y]
    trained, others = (0.5 * alike + 0.5 * rng.random((2, *alike.shape))).clip(0, 1)
    centres = 3 * rng.normal(size=(N_CLASSES, 8))
    share = 0.9 * leak
    images = share * trained + (1 - share) * rng.random(trained.shape)
    features = share * centres[y] + rng.normal(size=(len(y), 8))
    scores = rng.normal(size=(len(y), N_CLASSES)) + 9 * leak * np.eye(N_CLASSES)[y]
    grouped = (N_CLASSES, N_PICTURES)
    told = InvertedImages(
        images.reshape(*grouped, *images.shape[1:]),
        classes,
        scores.reshape(*grouped, -1),
        features.reshape(*grouped, -1),
    )
    return told, InversionTruth(trained, y, centres[y] + rng.normal(size=(len(y), 8)), others, y)


def attribute(leak: float) -> tuple[AttributeScores, AttributeTruth]:
    """Scores of two values, of which the true one's is ``4 leak`` higher."""
    rng = np.random.default_rng(0)
    value = rng.integers(0, 2, N_RECORDS)
    scores = rng.normal(size=(N_RECORDS, 2)) + 4 * leak * np.eye(2)[value]
    return AttributeScores(scores, np.arange(N_RECORDS)), AttributeTruth(value)


def property_(leak: float) -> tuple[PropertyScores, PropertyTruth]:
    """One score a target, higher by ``4 leak`` where the share is the higher one."""
    rng = np.random.default_rng(0)
    high = np.arange(N_TARGETS) % 2 == 0
    scores = rng.normal(size=N_TARGETS) + 4 * leak * (2 * high - 1)
    return PropertyScores(scores, 0.0), PropertyTruth(high)


EXAMPLES: Mapping[str, Callable[[float], tuple[Any, Any]]] = {
    "membership": membership,
    "reconstruction": reconstruction,
    "inversion": inversion,
    "attribute": attribute,
    "property": property_,
}

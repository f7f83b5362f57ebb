"""Images that model inversion generated for each class, next to a training image of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from medleak.api import MedleakError
from medleak.engine.answers import BASELINE, NOTE, stored_answers, stored_controls
from medleak.report.images import address

if TYPE_CHECKING:
    from medleak.core.store import Store
    from medleak.data.experiment import ExperimentData
    from medleak.results.row import Row

CLASSES, PICTURES = 8, 3
"""The first of them are shown: chosen before anything is seen."""


@dataclass(frozen=True)
class Portrait:
    """A training image, the images generated for its class, and those of the controls.

    Attributes:
        name: of the class.
        original: a data address, like all images.
        pictures: those of the attack.
        controls: name of a control, and its image.
    """

    name: str
    original: str
    pictures: tuple[str, ...]
    controls: tuple[tuple[str, str], ...]


def portraits(
    row: Row, store: Store, find: Callable[[Row], ExperimentData]
) -> tuple[Portrait, ...]:
    """The first classes that a row is about.

    Args:
        find: the patients of a row.

    Raises:
        MedleakError: the pictures are gone, or the data have changed.
    """
    (kept,) = stored_answers(store, row)
    experiment = find(row)
    if experiment.dataset.fingerprint != row.fingerprint:
        raise MedleakError("the data have changed since")
    trained = experiment.challenge.records.take(experiment.member("audit", row.seed))
    images, classes = kept.arrays["reconstructions"], kept.arrays[f"{NOTE}classes"]
    guesses = _guesses(kept.arrays, store, row)
    found = []
    for place, target in enumerate(classes[:CLASSES].tolist()):
        own = np.flatnonzero(trained.y == target)
        name = f"person {target}" if experiment.identities else experiment.dataset.classes[target]
        original = address(trained.x[own[0]]) if len(own) else ""
        others = [(other, some[place, 0]) for other, some in guesses.items()]
        found.append(
            Portrait(
                name,
                original or "",
                tuple(address(image) or "" for image in images[place, :PICTURES]),
                tuple((name, address(image) or "") for name, image in others),
            )
        )
    return tuple(found)


def _guesses(arrays: Mapping[str, np.ndarray], store: Store, row: Row) -> dict[str, np.ndarray]:
    """What is shown without the attacked model, by name."""
    found = {
        name.removeprefix(BASELINE): one
        for name, one in arrays.items()
        if name.startswith(BASELINE)
    }
    if "prior_samples" in arrays:
        found["prior alone"] = arrays["prior_samples"]
    for name, answer in stored_controls(store, row).items():
        found[name] = answer.arrays["reconstructions"]
    return found

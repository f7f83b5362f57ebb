"""What attacks do with shadows: walk them once, keep running moments, say when there are too few."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from medleak.api import ConfigError, Knowledge, Shadow
from medleak.messages import unknown


def each(knowledge: Knowledge) -> Iterator[Shadow]:
    """Every shadow once, reporting progress."""
    shadows = knowledge.shadows or ()
    for done, shadow in enumerate(shadows, start=1):
        yield shadow
        knowledge.progress(done / len(shadows))


class Moments:
    """Count, mean and sum of squares per entry over the models seen, in memory flat in their number.

    Args:
        origin: values close to those to come: deviations from them are summed, so that no digits
            are lost.
    """

    def __init__(self, origin: np.ndarray):
        self.origin = origin
        self.n = np.zeros(origin.shape, dtype=np.int64)
        self._sum = np.zeros(origin.shape)
        self._squares = np.zeros(origin.shape)

    def add(self, values: np.ndarray, mask: np.ndarray) -> None:
        """Count `values` where `mask` (broadcast) holds."""
        deviation = np.where(mask, values - self.origin, 0.0)
        self.n += mask
        self._sum += deviation
        self._squares += deviation * deviation

    @property
    def mean(self) -> np.ndarray:
        """Mean per entry; `origin` where nothing was counted."""
        return self.origin + self._sum / np.maximum(self.n, 1)

    @property
    def residual_squares(self) -> np.ndarray:
        """Sum of squared deviations from the mean, per entry."""
        return np.maximum(self._squares - self._sum**2 / np.maximum(self.n, 1), 0.0)


def one_of(what: str, value: object, choices: Iterable[str]) -> None:
    """Refuse an option that is not among `choices`."""
    if value not in choices:
        raise ConfigError(unknown(what, value, choices))


def positive(what: str, value: object) -> None:
    """Refuse an option that is not a number above zero."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{what} is {value!r}: a number above 0 is needed")


def n_shadows(knowledge: Mapping[str, Any]) -> int:
    """How many shadows the YAML block asks for."""
    return int(knowledge.get("n_shadows") or 0)


def too_few(knowledge: Mapping[str, Any], least: int, why: str) -> list[str]:
    """The reason why the shadows of the YAML block do not suffice, if so."""
    k = n_shadows(knowledge)
    return [f"{k} shadows: {why} needs at least {least}"] if k < least else []


def is_auxiliary(knowledge: Mapping[str, Any]) -> bool:
    """Whether the YAML block asks for shadows without challenge patients."""
    return knowledge.get("pool", "audit") == "auxiliary"

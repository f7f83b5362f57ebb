"""Image priors that a YAML names.

A prior holds its settings; `fit` gives the space in which images are sought.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from medleak.api import Component, Knowledge, NotApplicable
from medleak.attacks._arguments import choice, number, whole

if TYPE_CHECKING:
    from medleak.attacks.model_inversion._decoders import Decoder
    from medleak.attacks.model_inversion._oracle import Oracle

STARTS = ("zero", "mean", "public")
FEWEST = 10
"""Auxiliary images that a prior is learnt from."""


class Prior(Component, ABC):
    """Base of what an inversion attack's YAML names as `prior`."""

    @abstractmethod
    def fit(self, knowledge: Knowledge, oracle: Oracle) -> Decoder:
        """The space of images.

        What costs much goes through `knowledge.keep`.

        Args:
            knowledge: the attacker's own records.
            oracle: the target, for a prior that depends on it.

        Raises:
            NotApplicable: there are too few auxiliary images.
        """


class Pixels(Prior):
    """Any image will do; the penalty is its total variation.

    Args:
        start: where a search begins, "zero" (black), "mean" (of the auxiliary images) or "public"
            (auxiliary images, drawn).
        noise: standard deviation of what is added to every start of a class but the first.
    """

    version = 1

    def __init__(self, *, start: str = "zero", noise: float = 0.1):
        self.start = start
        self.noise = noise

    def invalid_parameters(self) -> list[str]:
        return choice("start", self.start, STARTS) + number("noise", self.noise)

    def fit(self, knowledge: Knowledge, oracle: Oracle) -> Decoder:
        from medleak.attacks.model_inversion._decoders import PixelDecoder

        if self.start == "zero":
            starts = np.zeros((1, *knowledge.problem.in_shape), np.float32)
        else:
            starts = public_images(knowledge, f"start={self.start}", fewest=1)
            starts = starts.mean(axis=0, keepdims=True) if self.start == "mean" else starts
        return PixelDecoder(starts, self.noise)


class Components(Prior):
    """Principal components of the auxiliary images; see `ComponentDecoder`.

    Args:
        components: most directions; at most a third of the images are taken.
        reach: largest standard score along a direction.

    Tipping and Bishop 1999, Probabilistic Principal Component Analysis, J. R. Stat. Soc. B.
    """

    version = 1

    def __init__(self, *, components: int = 64, reach: float = 3.0):
        self.components = components
        self.reach = reach

    def invalid_parameters(self) -> list[str]:
        return whole("components", self.components) + number("reach", self.reach, above=0)

    def fit(self, knowledge: Knowledge, oracle: Oracle) -> Decoder:
        from medleak.attacks.model_inversion._decoders import ComponentDecoder

        images = public_images(knowledge, "a prior of principal components")
        return ComponentDecoder(images, self.components, self.reach)


def public_images(knowledge: Knowledge, who: str, *, fewest: int = FEWEST) -> np.ndarray:
    """The auxiliary images, float32 in 0..1.

    Raises:
        NotApplicable: they are fewer than `fewest`; `who` needs them.
    """
    from medleak.attacks.gradient_inversion._transcript import pixels

    have = 0 if knowledge.auxiliary is None else len(knowledge.auxiliary)
    if have < fewest:
        raise NotApplicable(f"{who} needs {fewest} auxiliary images, has {have}")
    return pixels(knowledge.auxiliary.x)

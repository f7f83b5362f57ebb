"""A mechanism of differential privacy, and how far it can be trusted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from medleak.api.component import Component


class Mechanism(Component):
    """What a `Guarantee.mechanism` names; a YAML in ``conf/mechanism/`` brings it. It takes no arguments."""

    name: ClassVar[str]

    @abstractmethod
    def profile(self, parameters: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray] | None:
        """The privacy profile: ``(eps, delta)`` pairs that hold, ``(J,)`` each; None where none is known.

        Both directions, add and remove: the larger delta counts. Never extrapolated: every bound that
        rests on it is printed as one.

        Args:
            parameters: the guarantee's `mechanism`, "name" included.
        """

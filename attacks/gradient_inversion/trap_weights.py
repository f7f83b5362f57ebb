"""Trap weights: a first layer that few records activate."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import Knowledge, NotApplicable, Observation, ServerPolicy, ThreatModel
from medleak.attacks._arguments import number, whole
from medleak.attacks.gradient_inversion._transcript import pixels, readable_rows
from medleak.attacks.gradient_inversion.imprint import direction, imprinted, inner
from medleak.attacks.gradient_inversion.linear_layer import FirstLayer, LinearLayer, first_layer

SIGMA = 0.5
"""Standard deviation of the paper's weights; a common factor, which only the gain answers to."""


def trap_rows(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative part of random rows, each non-zero in a half of the places, alike in size.

    Shapes: two arrays ``(R, D)``, both without negative entries. The same values stand in both halves
    of a row, in an order of their own.
    """
    rows, features = shape
    half = features // 2
    size = np.abs(SIGMA * rng.standard_normal((rows, half)))
    places = rng.permuted(np.tile(np.arange(features), (rows, 1)), axis=1)
    plus, minus = np.zeros(shape), np.zeros(shape)
    np.put_along_axis(plus, places[:, :half], size, axis=1)
    np.put_along_axis(minus, places[:, half : 2 * half], size, axis=1)
    return plus, minus


def tuned(plus: np.ndarray, minus: np.ndarray, x: np.ndarray, active: float) -> np.ndarray:
    """Per row, the factor of `plus` at which the share `active` of the images `x` has a positive sum.

    Shapes: ``(R, D)``, ``(R, D)``, ``(M, D)`` -> ``(R,)``.
    """
    ratio = (x @ minus.T) / np.maximum(x @ plus.T, 1e-12)
    return np.quantile(ratio, active, axis=0)


class TrapServer(ServerPolicy):
    r"""Sends first-layer rows whose activation is positive for few records.

    .. math:: w_{ij} = \begin{cases} s\,|n_{ij}| & \text{in one random half of the pixels} \\
        -|n'_{ij}| & \text{in the other} \end{cases}, \qquad n' \text{ a permutation of } n \sim N(0, \sigma^2)

    on pixels in 0..1, so that a row holds a record by itself more often than not. A fully connected
    first layer is overwritten, where `front` allows it; any other network gets the rows in front of
    it, and then answers as before.

    Args:
        rows: of a layer in front; a layer of the network's own keeps its size.
        active: share of the auxiliary records that shall activate a row: about one record of a batch.
            It fixes s row by row.
        scale: s itself, for all rows (.90 to .95 in the paper); None: by `active`.
        front: put the rows in front even where the first layer could be overwritten.
        gain: norm of the image by which the activations in front are multiplied.
        reach: factor of those activations, over gain: the smaller, the less the model's answers change.
    """

    version = 1
    paper = "Boenisch et al. 2023, When the Curious Abandon Honesty, IEEE EuroS&P"

    def __init__(
        self,
        *,
        rows: int = 512,
        active: float = 0.02,
        scale: float | None = None,
        front: bool = False,
        gain: float = 100.0,
        reach: float = 1e-4,
    ):
        self.rows = rows
        self.active = active
        self.scale = scale
        self.front = front
        self.gain = gain
        self.reach = reach

    def invalid_parameters(self) -> list[str]:
        found = whole("rows", self.rows) + number("active", self.active, above=0, most=1)
        if self.scale is not None:
            found += number("scale", self.scale, above=0)
        if not isinstance(self.front, bool):
            found.append(f"front {self.front!r} must be true or false")
        return found + number("gain", self.gain, above=0) + number("reach", self.reach, above=0)

    def module(self, model: Any, *, client: int, knowledge: Knowledge) -> Any:
        if knowledge.auxiliary is None and self.scale is None:
            raise NotApplicable("TrapServer needs auxiliary records to tune its rows, or a `scale`")
        in_shape = knowledge.problem.in_shape
        first = None if self.front else first_layer(model, in_shape)
        d = direction(knowledge.rng, in_shape, self.gain)
        if first is not None:
            changed = copy.deepcopy(model)
            layer = changed.get_submodule(first.name)
            _overwrite(layer, first, self._weight(knowledge, layer.out_features))
            return changed
        weight = self.reach / self.gain * self._weight(knowledge, self.rows)
        return imprinted(model, weight=weight, bias=np.zeros(self.rows), direction=d)

    def kept(self, update: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """Behind an overwritten first layer the gradients train nothing."""
        return inner(update)

    def _weight(self, knowledge: Knowledge, rows: int) -> np.ndarray:
        features = int(np.prod(knowledge.problem.in_shape))
        plus, minus = trap_rows(knowledge.rng, (rows, features))
        if self.scale is not None:
            return self.scale * plus - minus
        x = pixels(knowledge.auxiliary.x)
        s = tuned(plus, minus, x.reshape(len(x), -1), self.active)
        return s[:, None] * plus - minus


def _overwrite(layer: Any, first: FirstLayer, weight: np.ndarray) -> None:
    """Give a layer that sees ``scale * x + shift`` the rows `weight` on x, and no threshold."""
    import torch

    rows = weight / first.scale
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rows))
        layer.bias.copy_(torch.from_numpy(-rows @ first.shift))


class TrapWeights(LinearLayer):
    """Quotients of weight and bias gradients, as `LinearLayer`, in the rows of a `TrapServer`.

    Exact for every record that activates some row by itself.

    Raises:
        NotApplicable: no layer in front, and no fully connected layer reads the input.
    """

    version = 1
    first_layer = ""
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("architecture", "auxiliary"),
        adversary="server",
        conduct="malicious",
    )
    paper = "Boenisch et al. 2023, When the Curious Abandon Honesty: Federated Learning Is Not Private, IEEE EuroS&P"

    def _gradients(self, observation: Observation) -> tuple[np.ndarray, np.ndarray]:
        if "imprint.weight" not in observation.update:
            return super()._gradients(observation)
        layer = (observation.update[f"imprint.{part}"] for part in ("weight", "bias"))
        visible = readable_rows(observation, "imprint")
        weight, bias = (np.asarray(array, np.float64)[visible] for array in layer)
        return weight, bias

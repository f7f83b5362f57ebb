"""Networks of linear layers and squares, read from the weights of a release; and the proof that an
encrypted evaluation says what the plain network says."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from medleak.api import ConfigError, Defense, MedleakError, ProblemSpec, Release, task_of

SHAPES = "HECNN or HEMLP of medleak.targets.architectures.he_cnn"
TWIN_TOLERANCE = 1e-3
"""In log-probability, between float32 by torch and float64 here."""


class Linear(NamedTuple):
    """``W x + b``: `weight` ``(outputs, inputs)``, `bias` ``(outputs,)``, float64."""

    weight: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class SquareNetwork:
    """``W_L s(... s(W_1 x + b_1) ...) + b_L`` with ``s(z) = z^2``, of the records' entries.

    The factor of `Square` is in the weights that follow it, and a convolution is written as its
    matrix.
    """

    layers: tuple[Linear, ...]
    in_shape: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, then the outputs of each layer."""
        return (self.layers[0].weight.shape[1], *(len(layer.bias) for layer in self.layers))

    def entries(self, x: np.ndarray) -> np.ndarray:
        """What is encrypted of records ``(N, *in_shape)``: ``(N, inputs)`` float64.

        Tables as they are; images scaled, and averaged down as `Shrink` does.

        Raises:
            ConfigError: records of another shape.
        """
        if x.shape[1:] != self.in_shape:
            raise ConfigError(f"records of shape {x.shape[1:]} asked of a model of {self.in_shape}")
        rows = x / 255.0 if x.dtype == np.uint8 else x.astype(np.float64)
        if rows.ndim == 2:
            return rows
        down, across = (averages(side) for side in self.in_shape[1:])
        return ((down @ rows @ across.T - 0.5) / 0.25).reshape(len(x), -1)

    def plain(self, entries: np.ndarray) -> np.ndarray:
        """Logits ``(N, outputs)`` in float64."""
        first, *others = self.layers
        z = entries @ first.weight.T + first.bias
        for layer in others:
            z = (z * z) @ layer.weight.T + layer.bias
        return z


def read(weights: Mapping[str, np.ndarray], in_shape: Sequence[int]) -> SquareNetwork:
    """The network behind `weights`, which its names and shapes give away.

    Raises:
        ConfigError: weights of any other network.
    """
    from medleak.targets.architectures.he_cnn import SIDE, SLOPE

    shape = tuple(in_shape)
    names = {name.rpartition(".")[0] for name in weights}
    whole = set(weights) == {f"{name}.{part}" for name in names for part in ("weight", "bias")}
    if not whole or names not in ({"hidden", "out"}, {"conv", "hidden", "out"}):
        raise ConfigError(f"the model cannot be evaluated under encryption: {SHAPES} can")
    found = {name: np.asarray(weights[name], dtype=np.float64) for name in weights}
    layers = [
        Linear(found["hidden.weight"], found["hidden.bias"]),
        Linear(SLOPE * found["out.weight"], found["out.bias"]),
    ]
    inside = (*shape[:1], *(min(SIDE, side) for side in shape[1:]))
    if "conv" in names:
        layers[0] = Linear(SLOPE * layers[0].weight, layers[0].bias)
        layers.insert(0, convolution(found["conv.weight"], found["conv.bias"], inside))
    fits = [int(np.prod(inside)), *(len(layer.bias) for layer in layers)]
    if any(layer.weight.shape[1] != n for layer, n in zip(layers, fits, strict=False)):
        raise ConfigError(
            f"the model's weights do not fit records of shape {shape}: {SHAPES} would"
        )
    return SquareNetwork(tuple(layers), shape)


def convolution(kernels: np.ndarray, bias: np.ndarray, shape: Sequence[int]) -> Linear:
    """Unpadded `kernels` ``(O, C, K, K)`` with the stride of `HECNN`, on images ``(C, H, W)``, as the
    matrix from flat images to flat maps.

    Raises:
        ConfigError: kernels for another number of channels, or larger than the image.
    """
    from medleak.targets.architectures.he_cnn import STRIDE

    outputs, channels, size = kernels.shape[:3]
    if len(shape) != 3 or channels != shape[0] or size > min(shape[1:]):
        raise ConfigError(
            f"a convolution of {kernels.shape} does not fit records of {tuple(shape)}"
        )
    rows, columns = ((side - size) // STRIDE + 1 for side in shape[1:])
    matrix = np.zeros((outputs, rows, columns, *shape))
    for i in range(rows):
        for j in range(columns):
            top, left = i * STRIDE, j * STRIDE
            matrix[:, i, j, :, top : top + size, left : left + size] = kernels
    maps = rows * columns
    return Linear(matrix.reshape(outputs * maps, -1), np.repeat(bias, maps))


def averages(side: int) -> np.ndarray:
    """``(min(SIDE, side), side)``: row i averages pixels ``floor(i s / S) .. ceil((i + 1) s / S)``."""
    from medleak.targets.architectures.he_cnn import SIDE

    kept = min(SIDE, side)
    matrix = np.zeros((kept, side))
    for i in range(kept):
        start, stop = i * side // kept, -(-(i + 1) * side // kept)
        matrix[i, start:stop] = 1 / (stop - start)
    return matrix


# --------------------------------------------------------------------------- queries


class Answer(NamedTuple):
    """Logits ``(outputs,)`` of one record, the bytes that the client sent and received for them, and
    those that servers sent to each other."""

    logits: np.ndarray
    bytes_in: int
    bytes_out: int
    bytes_between: int = 0


class Session(Protocol):
    """A client connected to whoever evaluates; `setup_bytes` were sent beforehand, once."""

    setup_bytes: int

    def ask(self, entry: np.ndarray) -> Answer:
        """Evaluate one entry ``(inputs,)``."""


@dataclass(frozen=True)
class Proof:
    """Encrypted queries beside the plain network on the same records.

    Attributes:
        n: queries.
        error: largest absolute difference of a logit.
        agreement: share of the queries with the same predicted class (all labels, if several).
        twin_error: largest absolute difference in log-probability between the release's own scores,
            which answer bulk queries, and the plain network.
        seconds: of one query from record to logits, all parties together: the median.
        seconds_p95: its 95th percentile.
        setup_seconds: keys and weights, once.
        plain_seconds: of the plain network on one record, the median.
        overhead: `seconds` / `plain_seconds`.
        bytes_in, bytes_out: sent and received by the client for one query, the most.
        bytes_between: sent between servers for one query, the most.
        setup_bytes: sent once (evaluation keys; shares of the weights).
    """

    n: int
    error: float
    agreement: float
    twin_error: float
    seconds: float
    seconds_p95: float
    setup_seconds: float
    plain_seconds: float
    overhead: float
    bytes_in: int
    bytes_out: int
    bytes_between: int
    setup_bytes: int


class PrivateInference(Defense):
    """Base of what evaluates a square network without seeing the records. Fills the slot "serve"."""

    @abstractmethod
    def session(self, network: SquareNetwork) -> AbstractContextManager[Session]:
        """A client and its counterpart, set up for `network`.

        Raises:
            ConfigError: a network too large for the parameters, or a package that is missing.
        """

    def network(self, release: Release, problem: ProblemSpec) -> SquareNetwork:
        """The network of a release that still has its weights.

        Raises:
            ConfigError: faults, weights that are hidden, another kind of network.
        """
        who = type(self).__name__
        if invalid_parameters := self.invalid_parameters():
            raise ConfigError(f"{who}: {'; '.join(invalid_parameters)}")
        if "weights" not in release.views:
            raise ConfigError(
                f"{who} evaluates the model's weights: list it before the fillings that hide them"
            )
        try:
            return read(release.weights, problem.in_shape)
        except ConfigError as error:
            raise ConfigError(f"{who}: {error}") from None

    def apply(self, subject: Release, *, problem: ProblemSpec) -> Release:
        """The release as the client sees it: its plaintext surrogate, without the weights."""
        self.network(subject, problem)
        served = subject.without(self.hides)
        return Release(served.views, hidden=served.hidden, plaintext_surrogate=True)

    def verify_surrogate(
        self, release: Release, x: np.ndarray, *, problem: ProblemSpec, n: int = 100
    ) -> Proof:
        """Ask the first `n` of `x` under encryption and in plain.

        Args:
            release: before `apply`, weights and scores included.
            x: records ``(N, *in_shape)``.

        Raises:
            ConfigError: no such network; fewer than `n` records.
            MedleakError: the release's scores are not those of the network in its weights.
        """
        if not 1 <= n <= len(x):
            raise ConfigError(f"a proof by {n} queries needs as many records: there are {len(x)}")
        network, x = self.network(release, problem), x[:n]
        task = task_of(problem.task)
        logits, seconds = _one_by_one(lambda record: network.plain(network.entries(record))[0], x)
        plain, plain_seconds = np.array(logits), float(np.median(seconds))
        twin_error = float(np.abs(task.log_probabilities(plain) - release.scores(x)).max())
        if not twin_error <= TWIN_TOLERANCE:
            raise MedleakError(
                f"the release's scores are off by {twin_error:.2g} from the network in its weights: "
                "it is no plaintext surrogate"
            )
        start = time.perf_counter()
        with self.session(network) as session:
            setup_seconds = time.perf_counter() - start
            answers, seconds = _one_by_one(
                lambda record: session.ask(network.entries(record)[0]), x
            )
        logits = np.array([answer.logits for answer in answers])
        same = task.decided(logits) == task.decided(plain)
        return Proof(
            n=n,
            error=float(np.abs(logits - plain).max()),
            agreement=float(same.reshape(n, -1).all(axis=1).mean()),
            twin_error=twin_error,
            seconds=float(np.median(seconds)),
            seconds_p95=float(np.quantile(seconds, 0.95)),
            setup_seconds=setup_seconds,
            plain_seconds=plain_seconds,
            overhead=float(np.median(seconds)) / plain_seconds,
            bytes_in=max(answer.bytes_in for answer in answers),
            bytes_out=max(answer.bytes_out for answer in answers),
            bytes_between=max(answer.bytes_between for answer in answers),
            setup_bytes=session.setup_bytes,
        )


def _one_by_one(ask: Callable[[np.ndarray], Any], x: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """What `ask` says to each record ``(1, *in_shape)``, and the seconds that each took."""
    answers, clock = [], [time.perf_counter()]
    for i in range(len(x)):
        answers.append(ask(x[i : i + 1]))
        clock.append(time.perf_counter())
    return answers, np.diff(clock)

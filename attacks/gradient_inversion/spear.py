"""SPEAR: a whole batch out of the gradient of a linear layer that a ReLU follows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from medleak.api import Observation, ThreatModel
from medleak.attacks._arguments import whole
from medleak.attacks.gradient_inversion.linear_layer import SAME as SAME_IMAGE
from medleak.attacks.gradient_inversion.linear_layer import LinearLayer, candidates

CERTAIN = 30.0
"""Standard deviations of rounding, above which a number is not zero."""
CLEAR = 4.0
"""Times the largest singular value that is rounding: records have larger ones."""
FEW = 0.05
"""Share of the units that may seem silent though they are not."""
SAME = 1e-3
"""Cosines closer to one than this belong to one direction."""
CHUNK = 100
"""Samples between two looks at what was found."""
KEPT = 64
"""Number of directions kept, those with the most zeros."""
ORDERS = 4
"""Orders in which they are combined."""
LEAST = 2
"""Units for each record, below which no search is made."""
SPARE = 2
"""Zeros beyond those that any direction can be given."""


class SPEAR(LinearLayer):
    r"""Splits the gradient of a batch of n into those of its records, exactly.

    .. math:: \frac{\partial L}{\partial W} = \Delta X = U R, \qquad \Delta = U Q, \quad X = Q^{-1} R

    Delta ``(units, n)`` is the gradient in the layer's output: a unit that does not fire for a record
    gives a zero in the record's column. U and R come from a singular value decomposition, whose
    values beyond the n-th give the rounding error. A direction orthogonal to n - 1 random rows of U is a
    column of Q with a chance of about :math:`n\,2^{1-n}`, and then has many more zeros in U q than
    others do. Any n of the directions with the most zeros give n images, which are records or
    averages of some; the quotients of `LinearLayer` are more. An image is near a record where the units
    that it does not fire are the zeros of some direction: that is a column of Q. With all n of them,
    X follows.

    (The paper exchanges directions until all fit at once. But where two classes follow one hidden
    layer, all of Delta's columns are parts of one, and their differences have more zeros than they.)

    Rows are drawn among the units that some image leaves silent, which are silent for most records in
    it: far fewer samples do than :math:`2^n`.

    Limits: a ReLU follows the layer; one local step; gradients about as exact as single precision. With
    noise, as of differential privacy, there is nothing to find. The units that a record leaves silent
    must single it out: there have to be more of them than records in the batch. For records that are
    not found, the images of `LinearLayer` follow.

    Args:
        samples: of n - 1 rows, at most, for each message: what bounds the time.

    Raises:
        NotApplicable: no linear layer reads the input.
    """

    version = 1
    first_layer = "linear"
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("architecture", "auxiliary"),
        adversary="server",
    )
    paper = "Dimitrov et al. 2024, SPEAR: Exact Gradient Inversion of Batches in Federated Learning, NeurIPS"

    def __init__(self, *, samples: int = 5_000):
        self.samples = samples

    def invalid_parameters(self) -> list[str]:
        return super().invalid_parameters() + whole("samples", self.samples)

    def rebuild(self, observation: Observation, n: int, labels: np.ndarray | None) -> np.ndarray:
        rest = super().rebuild(observation, n, labels)
        if n == 1:
            return rest
        first, sent = self._first, observation.sent
        w = np.asarray(sent[f"{first.name}.weight"], np.float64)
        b = np.asarray(sent[f"{first.name}.bias"], np.float64)
        layer = Layer(*self._gradients(observation), w * first.scale, b + w @ first.shift)
        records = disaggregated(layer, n, self.samples, self._knowledge.rng)
        apart = np.sqrt(((rest[:, None] - records) ** 2).mean(axis=2))
        return np.concatenate([records, rest[(apart >= SAME_IMAGE).all(axis=1)]])


class Layer(NamedTuple):
    """Gradients in a layer's weight ``(units, D)`` and bias ``(units,)``, and what was sent of both."""

    weight: np.ndarray
    bias: np.ndarray
    sent_weight: np.ndarray
    sent_bias: np.ndarray

    def silent(self, x: np.ndarray) -> np.ndarray:
        """Which units do not fire for an image ``(D,)``."""
        return self.sent_weight @ x + self.sent_bias <= 0


class Parts(NamedTuple):
    """A gradient ``u @ rest`` of rank r: ``(units, r)``, ``(r, D)``; rounding in u's columns, ``(r,)``."""

    u: np.ndarray
    rest: np.ndarray
    rounding: np.ndarray

    def zero_pattern(self, q: np.ndarray) -> np.ndarray:
        """Whether each row of u is orthogonal to each direction, ``(M, r)`` -> ``(M, units)``."""
        return np.abs(q @ self.u.T) <= CERTAIN * np.linalg.norm(q * self.rounding, axis=1)[:, None]


def parts_of(weight: np.ndarray, n: int) -> Parts:
    """A gradient ``(units, D)`` of n records split by singular values; what is rounding is left out."""
    u, size, v = np.linalg.svd(weight, full_matrices=False)
    beyond = size[n] if len(size) > n else 0.0
    rank = int((size[:n] > max(CLEAR * beyond, 1e-12 * size[0])).sum())
    # The largest singular value of noise is its standard deviation times this.
    each = max(beyond, 1e-14 * size[0]) / np.sqrt(weight.shape).sum()
    return Parts(u[:, :rank], size[:rank, None] * v[:rank], each / size[:rank])


def disaggregated(layer: Layer, n: int, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Records behind the gradients of a layer, ``(m, D)``, at most `n`; those of a whole batch exact."""
    layer = Layer(*(part[layer.weight.any(axis=1)] for part in layer))
    parts = parts_of(layer.weight, n)
    rank = parts.u.shape[1]
    if rank < 2 or len(layer.weight) < LEAST * n:
        return layer.weight[:0]
    search, pool = Search(layer, parts), np.zeros((0, rank))
    search.look(candidates(layer.weight, layer.bias))
    for start in range(0, samples, CHUNK):
        if search.done:
            break
        rows = parts.u[search.hint(rng)]
        drawn = orthogonal(rows, min(CHUNK, samples - start), rng)
        pool = sparsest(np.concatenate([pool, drawn]), parts)
        for _ in range(ORDERS):
            columns = independent(np.concatenate([search.columns, rng.permutation(pool)]))
            if len(columns) == rank:
                search.look(images(columns, layer, parts))
    return search.records


class Search:
    """Columns of Q found so far, ``(k, r)``, their records ``(k, D)``, and what was looked at."""

    def __init__(self, layer: Layer, parts: Parts):
        self.layer, self.parts = layer, parts
        self.columns = np.zeros((0, parts.u.shape[1]))
        self.records = np.zeros((0, layer.weight.shape[1]))
        self.tried: dict[bytes, np.ndarray] = {}
        self.done = False

    def look(self, x: np.ndarray) -> None:
        """See which of some images ``(M, D)`` are near records."""
        for image in x:
            silent = self.layer.silent(image)
            if self.done or silent.tobytes() in self.tried:
                continue
            self.tried[silent.tobytes()] = silent
            q = direction(silent, self.parts)
            if q is None:
                continue
            columns = np.append(self.columns, q[None], axis=0)
            if len(independent(columns)) == len(columns):
                self.columns, self.records = columns, np.append(self.records, image[None], axis=0)
            if len(self.columns) == columns.shape[1]:
                self._conclude()

    def _conclude(self) -> None:
        """With all columns the records are exact; one that does not fit its record was no column."""
        self.records = images(self.columns, self.layer, self.parts)
        apart = [
            (zero_pattern != self.layer.silent(x)).mean()
            for zero_pattern, x in zip(
                self.parts.zero_pattern(self.columns), self.records, strict=True
            )
        ]
        self.done = max(apart) <= FEW
        if not self.done:
            wrong = int(np.argmax(apart))
            self.columns = np.delete(self.columns, wrong, axis=0)
            self.records = np.delete(self.records, wrong, axis=0)

    def hint(self, rng: np.random.Generator) -> np.ndarray:
        """Units that do not fire for some image that was looked at: nor do most for a record in it."""
        tried = [t for t in self.tried.values() if t.sum() >= 2 * self.columns.shape[1]]
        if not tried:
            return np.ones(len(self.parts.u), dtype=bool)
        return tried[rng.integers(len(tried))]


def images(columns: np.ndarray, layer: Layer, parts: Parts) -> np.ndarray:
    """What r directions ``(r, r)`` make of a gradient, in units of that in the bias: ``(m, D)``."""
    share = np.linalg.lstsq(parts.u @ columns.T, layer.bias, rcond=None)[0]
    return np.linalg.solve(columns.T, parts.rest) / np.where(share == 0, np.inf, share)[:, None]


def direction(silent: np.ndarray, parts: Parts) -> np.ndarray | None:
    """The direction ``(r,)`` whose zeros are the units that an image does not fire, if any."""
    rows = parts.u[silent]
    if len(rows) < rows.shape[1] - 1 + SPARE:
        return None
    _, size, directions = np.linalg.svd(rows, full_matrices=False)
    zero_pattern = parts.zero_pattern(directions[-1:])[0]
    alone = size[-2] > SAME * size[0]
    return directions[-1] if alone and agree(zero_pattern, silent) else None


def agree(zero_pattern: np.ndarray, silent: np.ndarray) -> bool:
    """Whether silent units give zeros, and few others do: a gradient can be too small to detect."""
    return bool(zero_pattern[silent].all() and (zero_pattern != silent).mean() <= FEW)


def orthogonal(u: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Directions ``(count, r)``, each orthogonal to r - 1 random rows of u ``(units, r)``."""
    r = u.shape[1]
    rows = rng.random((count, len(u))).argpartition(r - 1, axis=1)[:, : r - 1]
    return np.linalg.qr(u[rows].swapaxes(1, 2), mode="complete")[0][:, :, -1]


def sparsest(q: np.ndarray, parts: Parts) -> np.ndarray:
    """The `KEPT` distinct directions with the most zeros, those first, each made exact by them all."""
    zero = parts.zero_pattern(q)
    order = np.argsort(-zero.sum(axis=1), kind="stable")
    kept = np.zeros((0, q.shape[1]))
    for i in order[: 8 * KEPT]:
        if len(kept) < KEPT and (np.abs(kept @ q[i]) < 1 - SAME).all():
            kept = np.append(kept, least(parts.u[zero[i]])[None], axis=0)
    return kept


def least(rows: np.ndarray) -> np.ndarray:
    """The direction ``(r,)`` that is most nearly orthogonal to ``(M, r)`` rows."""
    return np.linalg.svd(rows, full_matrices=len(rows) < rows.shape[1])[2][-1]


def independent(q: np.ndarray) -> np.ndarray:
    """The first linearly independent directions of ``(M, r)``: r of them, or fewer if there are."""
    basis, chosen = np.zeros((0, q.shape[1])), []
    for i, new in enumerate(q):
        left = new - basis.T @ (basis @ new)
        if len(chosen) < q.shape[1] and np.linalg.norm(left) > SAME:
            basis = np.append(basis, left[None] / np.linalg.norm(left), axis=0)
            chosen.append(i)
    return q[chosen]

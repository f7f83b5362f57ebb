"""Robbing the Fed: a layer in front of the network that sorts records into bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medleak.api import Knowledge, NotApplicable, Observation, ServerPolicy, ThreatModel
from medleak.attacks._arguments import number, whole
from medleak.attacks.gradient_inversion._transcript import TranscriptAttack, pixels, readable_rows

ROUNDING = 1e-5
"""Relative error of sums in single precision, generously."""
MOST = 500
"""Auxiliary records from which the prior is learned."""
COMPONENTS = 64
"""Directions in which the prior knows the spread; the rest share one."""
SURE = 3.5
"""Standard deviations of noise that an occupied bin exceeds; 1 of 4000 empty ones does."""


# --------------------------------------------------------------------------- the server


def imprinted(model: Any, **arrays: Any) -> Any:
    """`model` behind a `PrependedLayer` of these arrays: weight, bias, direction (numpy) and top."""
    import torch

    from medleak.attacks.gradient_inversion._prepended_layer import PrependedLayer

    tensors = {
        n: torch.from_numpy(a) if isinstance(a, np.ndarray) else a for n, a in arrays.items()
    }
    return PrependedLayer(model, **tensors)


def direction(rng: np.random.Generator, in_shape: tuple[int, ...], gain: float) -> np.ndarray:
    """A random image of norm `gain`, along which activations are added to the input."""
    d = rng.standard_normal(in_shape)
    return gain * d / np.linalg.norm(d)


def inner(update: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """The part of a fronted model's update that belongs to the model itself; None if none."""
    own = {n.removeprefix("model."): v for n, v in update.items() if n.startswith("model.")}
    return own or None


def equal_mass(values: np.ndarray, bins: int) -> np.ndarray:
    """Edges ``(bins + 1,)``, strictly increasing, of bins that hold equal shares of `values`.

    The outer ones reach as far again as the values do.
    """
    edges = np.quantile(values, np.linspace(0, 1, bins + 1))
    spread = max(edges[-1] - edges[0], 1e-6)
    edges[0] -= spread
    edges[-1] += spread
    return edges + 1e-5 * spread * np.linspace(0, 1, bins + 1)  # ties would be bins without width


class ImprintServer(ServerPolicy):
    r"""Sends the model behind a layer of `bins` units that all measure the same :math:`m = h^T x`.

    .. math:: a_k = \max(0, r (m - c_k)) \quad \text{or, sparse,} \quad
        a_k = \min(r, \max(0, r (m - c_k) / (c_{k+1} - c_k)))

    with h random and :math:`c_k` quantiles of m over the auxiliary records. Dense units see all records
    above their edge, sparse ones those of one bin. What the activations add to the input is as small as
    `reach`, so that the model answers as before; the gradient in the layer grows with `gain` alone.

    Args:
        bins: K; a record is isolated where no other falls in its bin.
        sparse: hard-tanh units. Needed where clients take several steps, and better under noise.
        gain: norm of the image by which the sum of activations is multiplied. Large: the layer
            outweighs the rest of a clipped gradient, and a sparse unit that was hit moves out of reach,
            so that it keeps the record of one step.
        reach: norm of the image that one unit adds, at most where it is sparse: r is reach / gain.
    """

    version = 1
    paper = "Fowl et al. 2022, Robbing the Fed, ICLR"

    def __init__(
        self, *, bins: int = 256, sparse: bool = False, gain: float = 100.0, reach: float = 1e-4
    ):
        self.bins = bins
        self.sparse = sparse
        self.gain = gain
        self.reach = reach

    def invalid_parameters(self) -> list[str]:
        boolean = [] if isinstance(self.sparse, bool) else [
            f"sparse {self.sparse!r} must be true or false"
        ]  # fmt: skip
        return (
            whole("bins", self.bins, least=2)
            + boolean
            + number("gain", self.gain, above=0)
            + number("reach", self.reach, above=0)
        )

    def module(self, model: Any, *, client: int, knowledge: Knowledge) -> Any:
        if knowledge.auxiliary is None:
            raise NotApplicable(f"{type(self).__name__} needs auxiliary records for its bins")
        in_shape = knowledge.problem.in_shape
        d = direction(knowledge.rng, in_shape, self.gain)
        h = knowledge.rng.standard_normal(int(np.prod(in_shape)))
        h /= np.linalg.norm(h)
        x = pixels(knowledge.auxiliary.x)
        edges = equal_mass(x.reshape(len(x), -1) @ h, self.bins)
        width = np.diff(edges) if self.sparse else np.full(self.bins, edges[-1] - edges[0])
        top = self.reach / self.gain
        slope = top / width
        return imprinted(
            model,
            weight=np.outer(slope, h),
            bias=-slope * edges[:-1],
            direction=d,
            top=top if self.sparse else None,
        )

    def kept(self, update: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        return inner(update)


# --------------------------------------------------------------------------- the attack


@dataclass(frozen=True)
class Bins:
    """Gradients of each bin by itself: weight ``(K, D)``, bias ``(K,)``, float64, and below which
    bias gradient there is only rounding, ``(K,)``."""

    weight: np.ndarray
    bias: np.ndarray
    floor: np.ndarray

    @classmethod
    def of(cls, observation: Observation) -> Bins:
        """Read from a message. Equal rows mean a dense imprint: their differences are taken.

        Bins that are encrypted, or differ from one that is, are left out.

        Raises:
            NotApplicable: the message has no imprint layer, or all of it is encrypted.
        """
        if "imprint.weight" not in observation.update:
            raise NotApplicable("the update has no imprint layer: the server was honest")
        visible = readable_rows(observation, "imprint")
        weight = np.asarray(observation.update["imprint.weight"], np.float64)
        bias = np.asarray(observation.update["imprint.bias"], np.float64)
        sent = np.asarray(observation.sent["imprint.weight"])
        # An update is the difference of weights in single precision.
        floor = ROUNDING * np.abs(sent).max(axis=1) / observation.local.lr
        if np.ptp(sent, axis=0).max() > 0:
            return cls(weight[visible], bias[visible], floor[visible])
        apart = weight - np.append(weight[1:], 0 * weight[:1], axis=0)
        summed = ROUNDING / 10 * np.abs(bias).max()
        visible &= np.append(visible[1:], True)
        apart_bias, floor = bias - np.append(bias[1:], 0), np.maximum(floor, summed)
        return cls(apart[visible], apart_bias[visible], floor[visible])


def quotients(bins: Bins) -> np.ndarray:
    """Weight over bias gradient of the occupied bins, the heaviest first, ``(M, D)``."""
    size = np.abs(bins.bias)
    order = np.argsort(-size, kind="stable")
    order = order[size[order] > bins.floor[order]]
    return bins.weight[order] / bins.bias[order, None]


@dataclass(frozen=True)
class Prior:
    """A Gaussian over images: mean ``(D,)``, main directions ``(Q, D)`` with variances ``(Q,)``, the
    variance in every other direction, and how far :math:`x^T \\mu / \\mu^T \\mu` varies about 1."""

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    rest: float
    spread: float

    @classmethod
    def of(cls, x: np.ndarray, rng: np.random.Generator) -> Prior:
        """Fitted to images ``(M, ...)``; at most `MOST` of them, drawn."""
        x = pixels(x[rng.permutation(len(x))[:MOST]]).reshape(-1, int(np.prod(x.shape[1:])))
        mean = x.mean(axis=0, dtype=np.float64)
        off = x - mean
        squares, vectors = np.linalg.eigh(off @ off.T)  # of (M, M): pixels are more than records
        q = min(COMPONENTS, max(len(x) // 4, 1))
        squares = np.maximum(squares[::-1], 1e-12)
        directions = (vectors[:, ::-1][:, :q] / np.sqrt(squares[:q])).T @ off
        variances = squares / max(len(x) - 1, 1)
        rest = max(variances[q:].sum() / max(x.shape[1] - q, 1), 1e-6)
        spread = max(np.var(x @ mean / max(mean @ mean, 1e-12)), 1e-6)
        return cls(mean, directions, np.maximum(variances[:q], rest), rest, float(spread))

    def denoised(self, y: np.ndarray, noise: float) -> np.ndarray:
        """Posterior mean of an image seen with Gaussian noise of that variance, ``(D,)``."""
        off = y - self.mean
        along = self.directions @ off
        main = self.variances / (self.variances + noise) * along
        other = self.rest / (self.rest + noise) * (off - along @ self.directions)
        return self.mean + main @ self.directions + other


def denoised_quotients(bins: Bins, prior: Prior) -> np.ndarray:
    r"""As `quotients`, where every entry carries noise: posterior means, the surest first.

    The bin with the smallest entries is assumed empty: it gives the noise's :math:`\sigma`. A bin is
    occupied where :math:`(W_k, b_k)`, projected on :math:`(\mu, 1)`, stands out of it. The scale g of
    :math:`W_k = g x` is read from the bias and from the mean image, weighed by their variances.
    """
    weight, bias = bins.weight, bins.bias
    sigma = np.sqrt((weight**2).mean(axis=1).min())
    length = max(prior.mean @ prior.mean, 1e-12)
    matched = np.abs(weight @ prior.mean + bias) / np.sqrt(length + 1)
    order = np.argsort(-matched, kind="stable")
    order = order[matched[order] > np.maximum(SURE * sigma, bins.floor[order])]
    images = []
    for k in order:
        by_mean = weight[k] @ prior.mean / length
        doubt = sigma**2 / length + by_mean**2 * prior.spread
        variance = doubt + sigma**2  # zero for an exact row that is no image
        g = (bias[k] * doubt + by_mean * sigma**2) / variance if variance else bias[k]
        if g:
            images.append(prior.denoised(weight[k] / g, (sigma / g) ** 2))
    return np.array(images).reshape(-1, weight.shape[1])


class RobbingTheFed(TranscriptAttack):
    r"""Reads the records out of the bins of an `ImprintServer`, one record a bin.

    .. math:: \hat x_k = \frac{\nabla W_k - \nabla W_{k+1}}{\nabla b_k - \nabla b_{k+1}}
        \quad \text{or, sparse,} \quad \hat x_k = \nabla W_k / \nabla b_k

    exact, up to rounding, where one record fell in bin k. The bins with the heaviest bias gradients
    are taken. Sums over clients need more bins, and nothing else.

    Args:
        denoised: for updates with noise: its level is read from the emptiest bin, those that do not
            stand out of it are dropped, and the rest become posterior means under a Gaussian prior
            from the auxiliary records. Without noise this is the plain attack, which False gives.
    """

    version = 2
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("auxiliary",),
        adversary="server",
        conduct="malicious",
    )
    paper = "Fowl et al. 2022, Robbing the Fed: Directly Obtaining Private Data in Federated Learning with Modified Models, ICLR"

    def __init__(self, *, denoised: bool = True):
        self.denoised = denoised

    def invalid_parameters(self) -> list[str]:
        boolean = isinstance(self.denoised, bool)
        return [] if boolean else [f"denoised {self.denoised!r} must be true or false"]

    def fit(self, release: Any, knowledge: Knowledge) -> None:
        super().fit(release, knowledge)
        if self.denoised and knowledge.auxiliary is None:
            raise NotApplicable(f"{type(self).__name__} needs auxiliary records to denoise")
        self._prior = Prior.of(knowledge.auxiliary.x, knowledge.rng) if self.denoised else None

    def rebuild(self, observation: Observation, n: int, labels: np.ndarray | None) -> np.ndarray:
        bins = Bins.of(observation)
        return quotients(bins) if self._prior is None else denoised_quotients(bins, self._prior)

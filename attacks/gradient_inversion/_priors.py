"""Image priors: penalties that an attack adds to its matching loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medleak.api import NotApplicable, Records
from medleak.attacks.gradient_inversion._matching import to_sought
from medleak.attacks.gradient_inversion._transcript import pixels

Prior = Callable[[Tensor], Tensor]
"""Images ``(S, B, C, H, W)`` to a penalty ``(S,)``."""
FLOOR = 1e-4
"""Least variance of a principal direction or a pixel, against division by zero."""
FEWEST = 10
"""Auxiliary images that principal components are taken of."""


def total_variation(x: Tensor) -> Tensor:
    r"""Anisotropic: mean :math:`|x_{i+1,j} - x_{ij}|` plus mean :math:`|x_{i,j+1} - x_{ij}|`.

    Shapes: ``(S, B, C, H, W)`` -> ``(S,)``.
    """
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().flatten(1).mean(dim=1)
    right = (x[..., 1:] - x[..., :-1]).abs().flatten(1).mean(dim=1)
    return down + right


def group_spread(x: Tensor, size: int) -> Tensor:
    """Mean squared distance of each row from the mean of its group, ``(S,)``.

    Groups are `size` adjacent rows of ``(S, ...)``; the mean is treated as a constant.
    """
    groups = x.unflatten(0, (-1, size))
    apart = groups - groups.detach().mean(dim=1, keepdim=True)
    return apart.flatten(0, 1).square().flatten(1).mean(dim=1)


class PrincipalComponents:
    r"""Probabilistic principal components of auxiliary images: a Gaussian in as many directions.

    .. math:: -\frac{2}{D} \log p(x) = \frac1D \Big( \sum_k \frac{z_k^2}{s_k^2}
        + \frac{\lVert x - \mu - V z \rVert^2}{\sigma^2} \Big) + \text{const}, \qquad z = V^\top (x - \mu)

    Args:
        images: ``(M, C, H, W)``, on the scale on which penalties are asked for.
        components: directions K with a variance of their own; at most a third of the images.

    Tipping and Bishop 1999, Probabilistic Principal Component Analysis, J. R. Stat. Soc. B.
    """

    def __init__(self, images: np.ndarray, components: int = 64):
        rows = images.reshape(len(images), -1).astype(np.float64)
        k = min(components, max(1, len(rows) // 3), rows.shape[1])
        mean = rows.mean(axis=0)
        _, size, directions = np.linalg.svd(rows - mean, full_matrices=False)
        variance = size**2 / max(1, len(rows) - 1)
        left = variance[k:].sum() / max(1, rows.shape[1] - k)
        self.mean = torch.from_numpy(mean).float()
        self.directions = torch.from_numpy(directions[:k]).float()
        self.variance = torch.from_numpy(np.maximum(variance[:k], FLOOR)).float()
        self.residual = max(float(left), FLOOR)

    def __call__(self, x: Tensor) -> Tensor:
        """Shapes: ``(S, B, C, H, W)`` -> ``(S,)``, the mean over B."""
        centred = x.flatten(2) - self.mean
        z = centred @ self.directions.T
        outside = centred.square().sum(dim=2) - z.square().sum(dim=2)
        penalty = (z.square() / self.variance).sum(dim=2) + outside / self.residual
        return penalty.mean(dim=1) / centred.shape[2]


def components_of(auxiliary: Records | None) -> PrincipalComponents:
    """The prior of an attacker's own images, on the normalised scale.

    Raises:
        NotApplicable: there are fewer than `FEWEST`.
    """
    have = 0 if auxiliary is None else len(auxiliary)
    if have < FEWEST:
        raise NotApplicable(f"prior=pca needs {FEWEST} auxiliary images, has {have}")
    return PrincipalComponents(to_sought(pixels(auxiliary.x)))

"""How far a model is from seeing a class in an image: logits to a loss for each image.

Plain functions of ``(n, outputs)`` logits and ``(n,)`` classes to ``(n,)``, under the names that a YAML
uses. Smaller is more like the class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NEARLY = 1e-4
"""What a vertex of the simplex lacks to lie within the Poincare ball."""
TINY = 1e-7

Loss = Callable[["Tensor", "Tensor"], "Tensor"]


def cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    r"""Minus the log-probability of the class, :math:`-\log p_t`."""
    return -_own(logits.log_softmax(dim=1), classes)


def confidence(logits: Tensor, classes: Tensor) -> Tensor:
    r"""What the probability lacks, :math:`1 - p_t` (Fredrikson et al. 2015)."""
    return 1 - _own(logits.softmax(dim=1), classes)


def max_margin(logits: Tensor, classes: Tensor) -> Tensor:
    r"""The best other logit above the class's own, :math:`-l_t + \max_{j \ne t} l_j`.

    Unlike the cross-entropy its gradient does not vanish where the model is sure.

    Yuan et al. 2023, Pseudo Label-Guided Model Inversion Attack via Conditional Generative
    Adversarial Network, AAAI.
    """
    others = logits.scatter(1, classes[:, None], -float("inf"))
    return others.amax(dim=1) - _own(logits, classes)


def logit(logits: Tensor, classes: Tensor) -> Tensor:
    r"""Minus the class's own logit, :math:`-l_t`.

    Nguyen et al. 2023, Re-thinking Model Inversion Attacks Against Deep Neural Networks, CVPR.
    """
    return -_own(logits, classes)


def poincare(logits: Tensor, classes: Tensor) -> Tensor:
    r"""Distance in the Poincare ball from the scaled logits to the class's vertex.

    .. math:: d(u, v) = \operatorname{arcosh} \Big( 1 +
        \frac{2 \lVert u - v \rVert^2}{(1 - \lVert u \rVert^2)(1 - \lVert v \rVert^2)} \Big),
        \qquad u = \frac{l}{\lVert l \rVert_1}, \quad v = (1 - 10^{-4}) e_t

    Struppek et al. 2022, Plug & Play Attacks: Towards Robust and Flexible Model Inversion Attacks,
    ICML.
    """
    u = logits / logits.abs().sum(dim=1, keepdim=True).clamp_min(TINY)
    u_square, top = u.square().sum(dim=1), 1 - NEARLY
    apart = u_square - 2 * top * _own(u, classes) + top**2
    scale = (1 - u_square).clamp_min(TINY) * (1 - top**2)
    return (1 + 2 * apart / scale).clamp_min(1 + TINY).arccosh()


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "confidence": confidence,
    "logit": logit,
    "max_margin": max_margin,
    "poincare": poincare,
}


def _own(values: Tensor, classes: Tensor) -> Tensor:
    return values.gather(1, classes[:, None]).squeeze(1)

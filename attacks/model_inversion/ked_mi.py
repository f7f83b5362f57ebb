"""KED-MI: a whole distribution of images for each class, in a GAN that learnt from the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medleak.api import ThreatModel
from medleak.attacks._arguments import whole
from medleak.attacks.model_inversion._base import GuidedInversion
from medleak.attacks.model_inversion._descent import Optimizer
from medleak.attacks.model_inversion._priors import Prior
from medleak.attacks.model_inversion._selection import AsDrawn

if TYPE_CHECKING:
    from torch import Tensor


class KEDMI(GuidedInversion):
    r"""Descent on the mean and the spread of a Gaussian of points for each class.

    .. math:: \min_{\mu_t, \sigma_t} E_{\epsilon \sim N(0, I)} \big[ -\log p_t(G(z)) + \lambda R(z) \big],
        \qquad z = \mu_t + \sigma_t \odot \epsilon

    over :math:`\mu_t` and :math:`\log \sigma_t^2`, which begin at the prior's own 0, by Adam with new
    :math:`\epsilon` in each iteration; the answer is drawn from it. With the prior `DistillingGAN`,
    :math:`R = -\log D(G(z))`. The paper weighs the first term by 100, which is
    :math:`\lambda = .01`, at a step size of .02 over 1500 iterations.

    Args:
        prior: the `DistillingGAN`; any other will do whose points are standard normal.
        descent: of the Gaussians.
        draws: points of each Gaussian in an iteration.
        loss: "cross_entropy" (the paper's), "max_margin", "poincare" or "confidence".
        prior_weight: :math:`\lambda`.
    """

    version = 1
    requires = ThreatModel(
        goal="inversion",
        access="weights",
        knowledge=("architecture", "auxiliary"),
        adversary="outsider",
        conduct="honest-but-curious",
    )
    paper = "Chen et al. 2021, Knowledge-Enriched Distributional Model Inversion Attacks, ICCV"

    first = last = AsDrawn()
    starts = 1
    crops = None

    def __init__(
        self,
        *,
        prior: Prior,
        descent: Optimizer,
        draws: int = 8,
        loss: str = "cross_entropy",
        prior_weight: float = 0.01,
    ):
        self.prior = prior
        self.descent = descent
        self.draws = draws
        self.loss = loss
        self.prior_weight = prior_weight

    def invalid_parameters(self) -> list[str]:
        return super().invalid_parameters() + whole("draws", self.draws)

    def improve(self, z: Tensor, classes: Tensor) -> Tensor:
        import torch

        clip = self._state.decoder.clip

        def inside(gaussians: Tensor) -> Tensor:
            mean, log_variance = gaussians.chunk(2, dim=1)
            return torch.cat([clip(mean), log_variance], dim=1)

        asked, count = classes.unique_consecutive(return_counts=True)
        found = self.descent(
            self.expected,
            torch.zeros(len(asked), 2 * z.shape[1]),
            asked,
            clip=inside,
            progress=self._knowledge.progress,
        )
        return clip(self._points(found.repeat_interleave(count, dim=0)))

    def expected(self, gaussians: Tensor, classes: Tensor) -> Tensor:
        """Mean objective of some points of each Gaussian, ``(K, 2 dim)``, ``(K,)`` -> ``(K,)``."""
        z = self._points(gaussians.repeat_interleave(self.draws, dim=0))
        each = self.objective(z, classes.repeat_interleave(self.draws))
        return each.view(-1, self.draws).mean(dim=1)

    def _points(self, gaussians: Tensor) -> Tensor:
        """A point of each Gaussian, given as mean and log-variance, ``(n, 2 dim)`` -> ``(n, dim)``."""
        import torch

        mean, log_variance = gaussians.chunk(2, dim=1)
        drawn = self._state.rng.standard_normal(tuple(mean.shape), dtype="float32")
        return mean + (log_variance / 2).exp() * torch.from_numpy(drawn)

"""Plug & Play: what a model sees through many crops, from the best starts to the best ends."""

from __future__ import annotations

from medleak.api import ThreatModel
from medleak.attacks.model_inversion._base import GuidedInversion
from medleak.attacks.model_inversion._crops import RandomCrops
from medleak.attacks.model_inversion._descent import Optimizer
from medleak.attacks.model_inversion._priors import Prior
from medleak.attacks.model_inversion._selection import Selection


class PlugAndPlay(GuidedInversion):
    r"""Descent on the Poincare distance of cropped images, between two selections by confidence.

    .. math:: \min_z d(f(T(x(z))), t) + \lambda R(z)

    Starts are the points of a pool in whose crops the target sees the class best; of the ends those are
    kept that it still sees in crops. What only fools the network at its own resolution is lost there.
    The authors mirror images too, which would put a heart on the right side: not done here. Their
    prior is a public StyleGAN, whereas any `prior` may stand in its place.

    Args:
        prior: where images are searched for.
        first: of the starts, `Confident` as in the paper.
        last: of the ends, `Confident` as in the paper, with more views.
        starts: ends for each image that is answered.
        descent: from each start.
        loss: "poincare" (the paper's), "cross_entropy", "confidence" or "max_margin".
        prior_weight: :math:`\lambda`; 0 is the paper's.
        crops: T, new in every iteration (None: the whole image).
    """

    version = 1
    requires = ThreatModel(
        goal="inversion",
        access="weights",
        knowledge=("architecture", "auxiliary"),
        adversary="outsider",
        conduct="honest-but-curious",
    )
    paper = (
        "Struppek et al. 2022, Plug & Play Attacks: Towards Robust and Flexible Model Inversion "
        "Attacks, ICML"
    )

    def __init__(
        self,
        *,
        prior: Prior,
        first: Selection,
        last: Selection,
        descent: Optimizer,
        starts: int = 2,
        loss: str = "poincare",
        prior_weight: float = 0.03,
        crops: RandomCrops | None = None,
    ):
        self.prior = prior
        self.first = first
        self.last = last
        self.descent = descent
        self.starts = starts
        self.loss = loss
        self.prior_weight = prior_weight
        self.crops = crops

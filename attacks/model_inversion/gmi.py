"""GMI: in the space of a generator, where the model sees the class and the critic a real image."""

from __future__ import annotations

from medleak.api import ThreatModel
from medleak.attacks.model_inversion._base import GuidedInversion
from medleak.attacks.model_inversion._crops import RandomCrops
from medleak.attacks.model_inversion._descent import Optimizer
from medleak.attacks.model_inversion._priors import Prior
from medleak.attacks.model_inversion._selection import Selection


class GMI(GuidedInversion):
    r"""Descent in the points of a GAN of public images, restarted, the surest ends answered.

    .. math:: \min_{\lVert z \rVert_\infty \le 1} -\log p_t(G(z)) - \lambda D(G(z))

    by Nesterov's momentum .9. The paper minimises 100 times the first term minus D at a step size of
    .02, which is :math:`\lambda = .01` at a step size of 2; it takes 1500 iterations.

    Args:
        prior: the `GAN`, whose `reach` bounds z; any other will do.
        first: of the starts, `AsDrawn` in the paper.
        last: of the ends, `Confident` in the image as it is: the target chooses.
        descent: from each start.
        starts: ends for each image that is answered, 5 in the paper.
        loss: "cross_entropy" (the paper's), "max_margin", "poincare" or "confidence".
        prior_weight: :math:`\lambda`.
        crops: of each image in each iteration (None, as in the paper: the whole image).
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
        "Zhang et al. 2020, The Secret Revealer: Generative Model-Inversion Attacks Against Deep "
        "Neural Networks, CVPR"
    )

    def __init__(
        self,
        *,
        prior: Prior,
        first: Selection,
        last: Selection,
        descent: Optimizer,
        starts: int = 5,
        loss: str = "cross_entropy",
        prior_weight: float = 0.01,
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

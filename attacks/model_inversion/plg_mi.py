"""PLG-MI: search in a conditional generator, trained on images that the target labelled."""

from __future__ import annotations

from medleak.api import Component, ThreatModel
from medleak.attacks.model_inversion._base import GuidedInversion
from medleak.attacks.model_inversion._crops import RandomCrops
from medleak.attacks.model_inversion._descent import Optimizer
from medleak.attacks.model_inversion._generators import ConditionalGAN
from medleak.attacks.model_inversion._selection import Selection


class PLGMI(GuidedInversion):
    r"""Descent on the margin of the class, in the points of a conditional GAN.

    .. math:: \min_z \max_{j \ne t} l_j(T(G(z, t))) - l_t(T(G(z, t)))

    with T a random view, by Adam at .1, over 600 iterations in the paper. The gradient of the margin, unlike
    that of the cross-entropy, does not vanish where the target is sure. Of the paper's views only crops
    are taken: sides matter in the body.

    The conditional GAN was trained with the target, so that its samples of a class already show what
    the target knows; the samples without guidance show classes drawn at random.

    Args:
        prior: the `ConditionalGAN`.
        first: of the starts, `AsDrawn` in the paper.
        last: of the ends, `Confident`: the target chooses.
        descent: from each start.
        starts: ends for each image that is answered, 5 seeds in the paper.
        loss: "max_margin" (the paper's), "cross_entropy", "poincare" or "confidence".
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
        "Yuan et al. 2023, Pseudo Label-Guided Model Inversion Attack via Conditional Generative "
        "Adversarial Network, AAAI"
    )

    prior_weight = 0.0

    def __init__(
        self,
        *,
        prior: ConditionalGAN,
        first: Selection,
        last: Selection,
        descent: Optimizer,
        starts: int = 5,
        loss: str = "max_margin",
        crops: RandomCrops | None = None,
    ):
        self.prior = prior
        self.first = first
        self.last = last
        self.descent = descent
        self.starts = starts
        self.loss = loss
        self.crops = crops

    def parts(self) -> list[tuple[str, object, type[Component]]]:
        return [("prior", self.prior, ConditionalGAN), *super().parts()[1:]]

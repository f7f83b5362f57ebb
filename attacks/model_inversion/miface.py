"""MIFace: gradient ascent on the model's confidence, from a black image."""

from __future__ import annotations

from medleak.api import Component, ThreatModel
from medleak.attacks.model_inversion._base import GuidedInversion
from medleak.attacks.model_inversion._descent import StoppedDescent
from medleak.attacks.model_inversion._priors import Pixels
from medleak.attacks.model_inversion._selection import AsDrawn


class MIFace(GuidedInversion):
    r"""Descent on what the confidence lacks, in pixels.

    .. math:: c(x) = 1 - p_t(x) + \lambda R(x), \qquad x_0 = 0

    with the stopping rule of `StoppedDescent`, whose lowest point is returned. The first image of a
    class starts from black as in the paper, the others with noise on it. The paper's gradient is
    numerical where only confidences are seen; here it is exact, from the weights.

    Args:
        prior: `Pixels` that start from zero, as nothing of other images is known; R is their total
            variation.
        descent: `StoppedDescent` with the paper's constants.
        loss: what is made small: "confidence" (the paper's), "cross_entropy", "max_margin" or
            "poincare"; the constant `enough` of the descent is on this scale.
        prior_weight: :math:`\lambda`; 0 is the paper's.
    """

    version = 1
    requires = ThreatModel(
        goal="inversion",
        access="weights",
        knowledge=("architecture",),
        adversary="outsider",
        conduct="honest-but-curious",
    )
    paper = (
        "Fredrikson et al. 2015, Model Inversion Attacks that Exploit Confidence Information and "
        "Basic Countermeasures, CCS"
    )

    first = last = AsDrawn()
    starts = 1
    crops = None

    def __init__(
        self,
        *,
        prior: Pixels,
        descent: StoppedDescent,
        loss: str = "confidence",
        prior_weight: float = 0.0,
    ):
        self.prior = prior
        self.descent = descent
        self.loss = loss
        self.prior_weight = prior_weight

    def invalid_parameters(self) -> list[str]:
        return super().invalid_parameters() + blind(self.prior)

    def parts(self) -> list[tuple[str, object, type[Component]]]:
        return [
            ("prior", self.prior, Pixels),
            ("descent", self.descent, StoppedDescent),
        ]


def blind(prior: object) -> list[str]:
    """What is wrong with a prior of pixels for an attacker without auxiliary images."""
    if not isinstance(prior, Pixels) or prior.start == "zero":
        return []
    return [f"prior: start={prior.start} needs auxiliary images, which the attack does not know"]

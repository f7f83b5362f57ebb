"""GIAS: gradient matching in the latent space of a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medleak.api import ThreatModel
from medleak.attacks._arguments import number, whole
from medleak.attacks.gradient_inversion._solving import MatchingAttack
from medleak.attacks.model_inversion._generators import GAN
from medleak.attacks.model_inversion._priors import Components, Prior

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.gradient_inversion._shared_weights_batching import Stack

PRIORS = (GAN, Components)
"""Priors that do not query the target and know no classes."""


class GIAS(MatchingAttack):
    r"""Descent on the angle between gradients in the points of a generative prior, then in pixels.

    .. math:: \min_{z} 1 - \frac{\langle \nabla \ell(G(z)), g \rangle}
        {\lVert \nabla \ell(G(z)) \rVert \lVert g \rVert} + \lambda R(z)

    by Adam from normal points, with a step size that falls tenfold at 3/8, 5/8 and 7/8 of the
    iterations. No generator draws every image: from G(z) on, the pixels are moved as by
    `InvertingGradients`, with total variation (the paper moves the generator's weights). The restart
    with the smallest match is returned. G learns from the attacker's own records, once for all messages.

    Args:
        prior: G and R, a `GAN` or `Components`.
        iterations: gradient evaluations of each restart in the points of the prior.
        restarts: from different points.
        lr: step size there.
        prior_weight: :math:`\lambda`.
        refinements: gradient evaluations in pixels; 0: images stay what the generator draws.
        tv: weight of total variation there.
        aware: whether to look for pruning, rounding and signs in the update, and to match what is left.
    """

    version = 1
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("architecture", "auxiliary"),
        adversary="server",
        conduct="honest-but-curious",
    )
    paper = "Jeon et al. 2021, Gradient Inversion with Generative Image Prior, NeurIPS"

    def __init__(
        self,
        *,
        prior: Prior,
        iterations: int = 200,
        restarts: int = 1,
        lr: float = 0.1,
        prior_weight: float = 0.0,
        refinements: int = 100,
        tv: float = 0.1,
        aware: bool = True,
    ):
        self.prior = prior
        self.iterations = iterations
        self.restarts = restarts
        self.lr = lr
        self.prior_weight = prior_weight
        self.refinements = refinements
        self.tv = tv
        self.aware = aware

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters() + number("lr", self.lr, above=0)
        found += number("prior_weight", self.prior_weight) + number("tv", self.tv)
        found += whole("refinements", self.refinements, least=0)
        if not isinstance(self.prior, PRIORS):
            choices = " or ".join(kind.__name__ for kind in PRIORS)
            return [*found, f"prior {self.prior!r} must be a {choices}: it has to know no target"]
        return found + self.prior.invalid_parameters()

    def solve(self, stack: Stack) -> tuple[Tensor, Tensor]:
        from medleak.attacks.gradient_inversion._matching import Schedule, adam, cosine, to_sought
        from medleak.attacks.gradient_inversion._priors import total_variation

        decoder = self.prior.fit(self._knowledge, None)
        match, rows = stack.mismatch(cosine), stack.shape[:2]

        def drawn(z: Tensor) -> Tensor:
            return decoder.decode(z.flatten(0, 1)).unflatten(0, rows)

        def in_points(z: Tensor) -> Tensor:
            x = drawn(z)
            unlikely = decoder.penalty(z.flatten(0, 1), x.flatten(0, 1)).unflatten(0, rows)
            return match(to_sought(x)) + self.prior_weight * unlikely.mean(dim=1)

        def in_pixels(u: Tensor) -> Tensor:
            return match(u) + self.tv * total_variation(u)

        start = decoder.clip(stack.normal(rows[1], decoder.dim))
        plan = Schedule(self.iterations, self.lr, signed=False)
        z = adam(in_points, start, plan, within=decoder.clip)
        u = adam(in_pixels, to_sought(drawn(z)).detach(), Schedule(self.refinements, self.lr))
        return u, match(u).detach()

"""Inverting Gradients: records whose gradient points the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medleak.api import ThreatModel
from medleak.attacks.gradient_inversion._solving import MatchingAttack
from medleak.core.suggestions import unknown

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.gradient_inversion._shared_weights_batching import Stack

PRIORS = ("tv", "pca")


class InvertingGradients(MatchingAttack):
    r"""Signed descent on the angle between gradients, and a prior on images.

    .. math:: \min_{x \in [0, 1]^n} 1 -
        \frac{\langle \nabla \ell(x), g \rangle}{\lVert \nabla \ell(x) \rVert \lVert g \rVert}
        + \lambda R(x)

    with one cosine over all layers, from a normal start, by Adam on the signs of the gradient, whose
    step size falls tenfold at 3/8, 5/8 and 7/8 of the iterations; the images are cut to the box after
    each step. The restart with the smallest match (without R) is returned. An update of several
    local steps is matched by replaying them.

    Args:
        iterations: gradient evaluations of each restart.
        restarts: from different noise.
        lr: step size, where pixels have about unit spread.
        prior: R, "tv" (total variation) or "pca" (a Gaussian in the principal directions of the
            auxiliary images, instead of the paper's prior).
        prior_weight: :math:`\lambda`. It depends on the state of the model. Tune it on messages of the
            attacker's own records, never on the audited ones.
        aware: whether to look for pruning, rounding and signs in the update, and to match what is left.
    """

    version = 3
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("architecture", "auxiliary"),
        adversary="server",
        conduct="honest-but-curious",
    )
    paper = (
        "Geiping et al. 2020, Inverting Gradients: How easy is it to break privacy in federated "
        "learning?, NeurIPS"
    )

    def __init__(
        self,
        *,
        iterations: int = 300,
        restarts: int = 1,
        lr: float = 0.1,
        prior: str = "tv",
        prior_weight: float = 0.1,
        aware: bool = True,
    ):
        self.iterations = iterations
        self.restarts = restarts
        self.lr = lr
        self.prior = prior
        self.prior_weight = prior_weight
        self.aware = aware

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters()
        if self.prior not in PRIORS:
            found.append(unknown("prior", self.prior, PRIORS))
        if not self.lr > 0:
            found.append(f"lr must be positive, not {self.lr!r}")
        if not self.prior_weight >= 0:
            found.append(f"prior_weight must not be negative: {self.prior_weight!r}")
        return found

    def solve(self, stack: Stack) -> tuple[Tensor, Tensor]:
        from medleak.attacks.gradient_inversion._matching import Schedule, adam, cosine

        match, prior = stack.mismatch(cosine), self._prior()

        def loss(u: Tensor) -> Tensor:
            return match(u) + self.prior_weight * prior(u)

        u = adam(loss, stack.start(), Schedule(self.iterations, self.lr))
        return u, match(u).detach()

    def _prior(self) -> Any:
        from medleak.attacks.gradient_inversion import _priors

        if self.prior == "tv":
            return _priors.total_variation
        return _priors.components_of(self._knowledge.auxiliary)

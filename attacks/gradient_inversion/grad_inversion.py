"""GradInversion: several searches for the same batch, with a penalty on their disagreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medleak.api import ThreatModel
from medleak.attacks.gradient_inversion._solving import MatchingAttack

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.gradient_inversion._shared_weights_batching import Stack


class GradInversion(MatchingAttack):
    r"""Least squares between gradients with image priors, from several seeds that agree.

    .. math:: \min_{x_1 \dots x_R} \sum_r \frac{\lVert \nabla \ell(x_r) - g \rVert^2}{\lVert g \rVert^2}
        + b\, \mathrm{TV}(x_r) + c \lVert x_r \rVert^2 + d \lVert x_r - \bar x \rVert^2

    by Adam with noise (Langevin), a linear warm-up over a sixth of the iterations, at most 50, and a
    cosine decay; norms of images are means over their values, so that weights do not depend on their size. The mean :math:`\bar x` over the
    restarts is the consensus; the paper registers the images to each other first, which is left out.
    So is its prior on batch statistics: the networks at hand normalise groups. The restart with the
    smallest match is returned.

    Args:
        iterations: gradient evaluations of each restart.
        restarts: R, the size of the group.
        lr: step size, where pixels have about unit spread.
        tv: b.
        norm: c.
        group: d.
        langevin: standard deviation of the noise, in steps.
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
    paper = "Yin et al. 2021, See through Gradients: Image Batch Recovery via GradInversion, CVPR"

    def __init__(
        self,
        *,
        iterations: int = 300,
        restarts: int = 4,
        lr: float = 0.1,
        tv: float = 0.5,
        norm: float = 1e-3,
        group: float = 1e-2,
        langevin: float = 0.01,
        aware: bool = True,
    ):
        self.iterations = iterations
        self.restarts = restarts
        self.lr = lr
        self.tv = tv
        self.norm = norm
        self.group = group
        self.langevin = langevin
        self.aware = aware

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters()
        if not self.lr > 0:
            found.append(f"lr must be positive, not {self.lr!r}")
        for name in ("tv", "norm", "group", "langevin"):
            if not getattr(self, name) >= 0:
                found.append(f"{name} must not be negative: {getattr(self, name)!r}")
        return found

    def solve(self, stack: Stack) -> tuple[Tensor, Tensor]:
        from itertools import count

        from medleak.attacks.gradient_inversion._matching import Schedule, adam, relative
        from medleak.attacks.gradient_inversion._priors import group_spread, total_variation

        match = stack.mismatch(relative)

        def loss(u: Tensor) -> Tensor:
            size = u.square().flatten(1).mean(dim=1)
            apart = group_spread(u, self.restarts)
            return match(u) + self.tv * total_variation(u) + self.norm * size + self.group * apart

        warmup = min(50, self.iterations // 6)
        plan = Schedule(self.iterations, self.lr, False, "cosine", warmup, self.langevin)
        draws = count(1)
        u = adam(
            loss, stack.start(), plan, lambda: stack.normal(*stack.shape[1:], draw=next(draws))
        )
        return u, match(u).detach()

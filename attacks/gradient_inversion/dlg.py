"""Deep Leakage from Gradients: records and labels whose gradient is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medleak.api import ThreatModel
from medleak.attacks.gradient_inversion._solving import MatchingAttack

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.gradient_inversion._shared_weights_batching import Stack


class DLG(MatchingAttack):
    r"""Least squares between gradients, over records and their soft labels at once, by L-BFGS.

    .. math:: \min_{x, z} \lVert \nabla \ell(x, \mathrm{softmax}(z)) - g \rVert^2

    from a normal start, without a prior or a box; the result is cut to 0..1. Each restart has a step
    size of its own, halved where a trial does not lower its loss, so that one that diverges does not
    take others with it. Labels are optimised even if the adversary knows them.

    The second derivatives that L-BFGS follows need smooth activations: sigmoid networks with weights
    that are not too small give way within a hundred iterations. With ReLU and max-pooling the loss
    has kinks, and most restarts stop early: then `InvertingGradients` finds more.

    Args:
        iterations: gradient evaluations of each restart.
        restarts: from different noise; the one with the smallest loss is returned.
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
    paper = "Zhu et al. 2019, Deep Leakage from Gradients, NeurIPS"

    def __init__(self, *, iterations: int = 300, restarts: int = 2, aware: bool = True):
        self.iterations = iterations
        self.restarts = restarts
        self.aware = aware

    def solve(self, stack: Stack) -> tuple[Tensor, Tensor]:
        import torch

        from medleak.attacks.gradient_inversion._matching import boxed, lbfgs, squared

        match, labels = stack.mismatch(squared), stack.targets.shape[1:]
        size = stack.start()[0].numel()

        def loss(rows: Tensor) -> Tensor:
            u, z = rows[:, :size], rows[:, size:].unflatten(1, labels)
            return match(u.reshape(stack.shape), z.softmax(dim=-1))

        noise = stack.normal(*labels, draw=1).flatten(1)
        rows = lbfgs(loss, torch.cat([stack.start().flatten(1), noise], dim=1), self.iterations)
        return boxed(rows[:, :size].reshape(stack.shape)), loss(rows).detach()

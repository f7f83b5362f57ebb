"""iDLG: labels first, then the records whose gradient is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medleak.api import ThreatModel
from medleak.attacks.gradient_inversion._solving import MatchingAttack

if TYPE_CHECKING:
    from torch import Tensor

    from medleak.attacks.gradient_inversion._shared_weights_batching import Stack


class IDLG(MatchingAttack):
    r"""Least squares between gradients over the records alone, by L-BFGS, labels known.

    .. math:: \min_x \lVert \nabla \ell(x, y) - g \rVert^2

    The label of a single record is the class whose bias in the last layer has a negative gradient;
    labels of several are estimated (the paper is about one). As for `DLG`, smooth activations are
    needed, and the result is cut to 0..1.

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
    paper = "Zhao et al. 2020, iDLG: Improved Deep Leakage from Gradients, arXiv:2001.02610"

    def __init__(self, *, iterations: int = 300, restarts: int = 2, aware: bool = True):
        self.iterations = iterations
        self.restarts = restarts
        self.aware = aware

    def solve(self, stack: Stack) -> tuple[Tensor, Tensor]:
        from medleak.attacks.gradient_inversion._matching import boxed, lbfgs, squared

        match = stack.mismatch(squared)

        def loss(rows: Tensor) -> Tensor:
            return match(rows.reshape(stack.shape))

        rows = lbfgs(loss, stack.start().flatten(1), self.iterations)
        return boxed(rows.reshape(stack.shape)), loss(rows).detach()

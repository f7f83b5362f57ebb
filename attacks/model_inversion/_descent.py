"""How points are moved where gradients are at hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from medleak.api import Component
from medleak.attacks.membership._arguments import choice, number, whole

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("adam", "nesterov")


class Descent(Component):
    """Adam, or gradient descent with Nesterov's momentum .9; each point by itself.

    Args:
        method: "adam" or "nesterov".
        iterations: gradient evaluations.
        lr: step size.
    """

    version = 1

    def __init__(self, *, method: str = "adam", iterations: int = 100, lr: float = 0.1):
        self.method = method
        self.iterations = iterations
        self.lr = lr

    def faults(self) -> list[str]:
        found = choice("method", self.method, METHODS) + whole("iterations", self.iterations)
        return found + number("lr", self.lr, above=0)

    def __call__(
        self,
        objective: Callable[[Tensor], Tensor],
        start: Tensor,
        *,
        clip: Callable[[Tensor], Tensor] = lambda z: z,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Tensor:
        """Where the descent ends.

        Args:
            objective: points to a loss each that depends on that point alone, ``(n, dim)`` -> ``(n,)``.
            start: ``(n, dim)``.
            clip: applied after each step.
            progress: called with the fraction done.
        """
        import torch

        z = start.clone().requires_grad_(True)
        if self.method == "adam":
            optimiser: torch.optim.Optimizer = torch.optim.Adam([z], lr=self.lr)
        else:
            optimiser = torch.optim.SGD([z], lr=self.lr, momentum=0.9, nesterov=True)
        for i in range(self.iterations):
            (slope,) = torch.autograd.grad(objective(z).sum(), z)
            z.grad = slope.nan_to_num()
            optimiser.step()
            with torch.no_grad():
                z.copy_(clip(z))
            progress((i + 1) / self.iterations)
        return z.detach()

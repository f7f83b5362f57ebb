"""How points are moved where gradients are at hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from medleak.api import Component
from medleak.attacks._arguments import choice, number, whole

if TYPE_CHECKING:
    from torch import Tensor

METHODS = ("adam", "nesterov")
Objective = Callable[["Tensor", "Tensor"], "Tensor"]
"""Points ``(n, dim)`` and their classes ``(n,)`` to a loss each, ``(n,)``, of that point alone."""


class Optimizer(Component, ABC):
    """Base of what a white-box attack's YAML names as `descent`."""

    @abstractmethod
    def __call__(
        self,
        objective: Objective,
        start: Tensor,
        classes: Tensor,
        *,
        clip: Callable[[Tensor], Tensor] = lambda z: z,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> Tensor:
        """The points that each row ends with, ``(n, dim)``.

        Args:
            objective: to be made small.
            start: ``(n, dim)``.
            classes: ``(n,)`` int64.
            clip: applied after each step.
            progress: called with the fraction done.
        """


class Descent(Optimizer):
    """Adam, or gradient descent with Nesterov's momentum .9; the last iterate counts.

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

    def invalid_parameters(self) -> list[str]:
        found = choice("method", self.method, METHODS) + whole("iterations", self.iterations)
        return found + number("lr", self.lr, above=0)

    def __call__(self, objective, start, classes, *, clip=lambda z: z, progress=lambda f: None):
        import torch

        z = start.clone().requires_grad_(True)
        if self.method == "adam":
            optimiser: torch.optim.Optimizer = torch.optim.Adam([z], lr=self.lr)
        else:
            optimiser = torch.optim.SGD([z], lr=self.lr, momentum=0.9, nesterov=True)
        for i in range(self.iterations):
            (gradient,) = torch.autograd.grad(objective(z, classes).sum(), z)
            z.grad = gradient.nan_to_num()
            optimiser.step()
            with torch.no_grad():
                z.copy_(clip(z))
            progress((i + 1) / self.iterations)
        return z.detach()


class StoppedDescent(Optimizer):
    r"""Plain steps until the loss is small or rises no more; the lowest point met counts.

    .. math:: x_i = \mathrm{clip}(x_{i-1} - \lambda \nabla c(x_{i-1})), \qquad
        \text{stop where } c(x_i) \ge \max_{1 \le j \le \beta} c(x_{i-j})
        \text{ or } c(x_i) \le \gamma

    and :math:`\arg\min_i c(x_i)` is returned. The first rule waits until there are :math:`\beta` losses
    before this one.

    Args:
        lr: :math:`\lambda`.
        iterations: :math:`\alpha`, the most steps.
        window: :math:`\beta`.
        enough: :math:`\gamma`.

    Fredrikson et al. 2015, Model Inversion Attacks that Exploit Confidence Information and Basic
    Countermeasures, CCS.
    """

    version = 1

    def __init__(
        self, *, lr: float = 0.1, iterations: int = 5000, window: int = 100, enough: float = 0.01
    ):
        self.lr = lr
        self.iterations = iterations
        self.window = window
        self.enough = enough

    def invalid_parameters(self) -> list[str]:
        found = number("lr", self.lr, above=0) + whole("iterations", self.iterations)
        return found + whole("window", self.window) + number("enough", self.enough)

    def __call__(self, objective, start, classes, *, clip=lambda z: z, progress=lambda f: None):
        import torch

        best = start.clone()
        lowest = torch.full((len(start),), torch.inf)
        recent = torch.full((len(start), self.window), torch.inf)
        going, z = torch.arange(len(start)), start
        for i in range(self.iterations + 1):
            cost, gradient = _value_and_gradient(objective, z, classes[going])
            lower = cost < lowest[going]
            best[going[lower]], lowest[going[lower]] = z[lower], cost[lower]
            # At the start alone nothing has been tried: the rules hold from the first step on.
            stopped = (cost <= self.enough) | (cost >= recent[going].amax(dim=1))
            stopped &= i > 0
            recent[going, i % self.window] = cost
            left = ~stopped
            going, z = going[left], clip(z[left] - self.lr * gradient[left])
            progress(i / self.iterations)
            if not len(going):
                break
        progress(1.0)
        return best


def _value_and_gradient(objective: Objective, z: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    import torch

    z = z.detach().requires_grad_(True)
    value = objective(z, classes)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    return value.detach().nan_to_num(torch.inf), gradient.nan_to_num()

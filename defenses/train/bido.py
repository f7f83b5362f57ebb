"""Bilateral dependency optimisation: hidden layers that depend on labels and little on inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medleak.api import Backward, GradientRule, Step
from medleak.defenses.train._recipes import RuleFilling, number, whole


class BiDO(RuleFilling):
    r"""Adds to the mean loss of a batch what its hidden layers depend on, by HSIC.

    .. math::
        L + \lambda_x \sum_l \mathrm{HSIC}(x, h_l) - \lambda_y \sum_l \mathrm{HSIC}(y, h_l)

    As in the authors' code, HSIC is the normalised one of a batch of m records,
    ``tr(R(K) R(L))`` with ``R(K) = C K C (C K C + 1e-5 m I)^-1`` and C the centring matrix: about
    the number of independent functions that two variables share, from 0 to ``m - 1``. Images and
    hidden layers have Gaussian kernels ``exp(-|a - b|^2 / (2 * 5^2 d))``, d being their number of
    values; labels have the linear kernel of their one-hot vectors (multi-label: of their 0/1 vectors),
    for which the second term is at most one less than the number of classes.

    A hidden layer is what enters a linear layer or a convolution, the first one aside, whatever the
    architecture: the images themselves are pixels in 0..1 after augmentation. No guarantee comes with
    it.

    Args:
        lambda_x: price of depending on images; with both at 0 it is plain training.
        lambda_y: reward for depending on labels.
        layers: how many hidden layers count, evenly spread over those there are, the last one always.
    """

    slot = "train"
    version = 1
    paper = (
        "Peng et al. 2022, Bilateral Dependency Optimization: Defending Against Model-Inversion "
        "Attacks, KDD"
    )
    replaces = True
    masks = False

    def __init__(self, *, lambda_x: float = 0.05, lambda_y: float = 0.5, layers: int = 5):
        self.lambda_x = lambda_x
        self.lambda_y = lambda_y
        self.layers = layers

    def invalid_parameters(self) -> list[str]:
        found = [
            f"{name} {value!r} must be a number from 0"
            for name in ("lambda_x", "lambda_y")
            if not (number(value := getattr(self, name)) and value >= 0)
        ]
        if not whole(self.layers, 1):
            found.append(f"layers {self.layers!r} must be a whole number from 1")
        return found

    def rule(self, inner: GradientRule) -> GradientRule:
        return BilateralGradient(float(self.lambda_x), float(self.lambda_y), self.layers)


@dataclass(frozen=True)
class BilateralGradient(GradientRule):
    """The gradient that `BiDO` describes; zero for an empty batch."""

    lambda_x: float
    lambda_y: float
    layers: int

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        """A backward function on hooks, which leave with the context.

        Raises:
            ConfigError: the model has no hidden layer (when a batch goes through).
        """
        from medleak.defenses.train._hsic import dependence, hidden, one_hot, watching

        with watching(model) as seen:

            def backward(x: Any, y: Any) -> Any:
                model.zero_grad(set_to_none=True)
                seen.clear()
                z = model(x)
                mean = loss(z, y).sum() / max(len(x), 1)
                layers = hidden(seen, self.layers)
                on_x, on_y = dependence(x, one_hot(y, z.shape[1]), layers)
                (mean + self.lambda_x * on_x - self.lambda_y * on_y).backward()
                return mean.detach()

            yield Step(backward)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"bido_x": self.lambda_x, "bido_y": self.lambda_y}

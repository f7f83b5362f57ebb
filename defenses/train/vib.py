"""A variational information bottleneck in front of the last layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medleak.api import Backward, GradientRule
from medleak.defenses.train._recipes import RuleFilling, number, whole


class VIB(RuleFilling):
    r"""Lets the last layer see a noisy code of the representation, and charges for what it tells.

    The last linear layer, of inputs h, becomes an encoder to `width` means and log-variances and a
    linear decoder. In training a record's code is drawn anew each time:

    .. math::
        (\mu, s) = A h + a, \quad \log\sigma^2 = s - 5, \quad
        z = \mu + \sigma \odot \epsilon, \; \epsilon \sim N(0, I), \qquad
        \ell = \mathrm{CE}(B z + b, y) + \beta\, \tfrac12
        \sum_j (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)

    The sum is the divergence of the code's law from N(0, I): in the mean it bounds the information
    between image and code, and so between image and prediction, from above (Alemi et al., ICLR 2017).

    In evaluation the code is its mean. Encoder and decoder are then one linear layer,
    ``B A_mean h + (B a_mean + b)``, which takes the old one's place when training ends: the released
    network has the target's own architecture and parameter names, and the noise stays behind. The
    authors' code adds noise to answers, too, and has a code half as wide as h. No guarantee comes
    with it.

    Each record is coded and charged for itself, so that it also serves inside DP-SGD, listed after
    it. Listed after label smoothing, `beta` is scaled by ``1 - epsilon``.

    Args:
        beta: price of a nat; 0 is plain training, without a bottleneck.
        width: numbers in a code.
    """

    slot = "train"
    version = 1
    paper = (
        "Wang et al. 2021, Improving Robustness to Model Inversion Attacks via Mutual Information "
        "Regularization, AAAI"
    )
    masks = False

    def __init__(self, *, beta: float = 0.1, width: int = 64):
        self.beta = beta
        self.width = width

    def invalid_parameters(self) -> list[str]:
        found = []
        if not (number(self.beta) and self.beta >= 0):
            found.append(f"beta {self.beta!r} must be a number from 0")
        if not whole(self.width, 1):
            found.append(f"width {self.width!r} must be a whole number from 1")
        return found

    def rule(self, inner: GradientRule) -> GradientRule:
        return Squeezed(float(self.beta), self.width, inner) if self.beta else inner


@dataclass(frozen=True)
class Squeezed(GradientRule):
    """`inner` on a model with the bottleneck, which is folded away afterwards."""

    beta: float
    width: int
    inner: GradientRule

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        """As `inner`, with the bottleneck. Initial weights and noise come from torch's generator.

        Raises:
            ConfigError: the model has no linear layer, or is nothing else.
        """
        from medleak.defenses.train._bottleneck import priced, squeezed

        with squeezed(model, self.width) as bottleneck:
            charged = priced(loss, bottleneck, self.beta)
            with self.inner.attached(model, charged, seed) as backward:
                yield backward

    @property
    def facts(self) -> Mapping[str, Any]:
        return {**self.inner.facts, "vib_beta": self.beta, "vib_width": self.width}

    def innermost(self) -> GradientRule:
        return self.inner.innermost()

"""What a client can notice of a model that was tampered with, before it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

LARGEST = 1e6
"""A record whose gradient has no company at all; or no gradient anywhere, which is as strange."""


def same_architecture(expected: nn.Module, received: nn.Module) -> bool:
    """Whether the parameters have the names and shapes that the client agreed to train."""

    def layout(model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(p.shape) for name, p in model.named_parameters()}

    return layout(expected) == layout(received)


def disaggregation(
    model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> float:
    r"""The disaggregation signal-to-noise ratio: how far one record stands out in some layer's gradient.

    .. math:: \max_W \max_i \frac{\|\nabla_W \ell_i\|}{\sum_{j \ne i} \|\nabla_W \ell_j\|}

    over the weights W of linear and convolutional layers. (Garov et al. 2024, Hiding in Plain Sight:
    Disguising Data Stealing Attacks in Federated Learning, ICLR.)

    Args:
        loss: (outputs, y) to losses ``(N,)``.
        x, y: the client's batch, two records or more.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    weights = [m.weight for m in layers if m.weight.requires_grad]
    norms = torch.zeros(len(weights), len(x))
    for i in range(len(x)):
        one = loss(model(x[i : i + 1]), y[i : i + 1]).sum()
        grads = torch.autograd.grad(one, weights, allow_unused=True)
        norms[:, i] = torch.stack([g.norm() if g is not None else x.new_zeros(()) for g in grads])
    largest, total = norms.max(dim=1).values, norms.sum(dim=1)
    ratio = largest / (total - largest).clamp(min=1e-12)
    return float(ratio[total > 0].clamp(max=LARGEST).max()) if (total > 0).any() else LARGEST


@dataclass
class Detector:
    """What clients notice over a run: of each model that they were sent, and of the honest one beside it.

    `noticed` holds pairs of client and `disaggregation`, by kind.
    """

    tampered: bool = False
    architecture_kept: bool = True
    noticed: dict[str, list[list[float]]] = field(
        default_factory=lambda: {"honest": [], "tampered": []}
    )

    def look(
        self,
        client: int,
        honest: nn.Module,
        received: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        batch: tuple[Tensor, Tensor],
    ) -> None:
        """Look at what a client received in place of the honest model, with its own batch."""
        self.tampered = True
        self.architecture_kept &= same_architecture(honest, received)
        if len(batch[0]) < 2:
            return  # nobody can be told from a crowd of one
        for kind, model in (("honest", honest), ("tampered", received)):
            self.noticed[kind].append([client, disaggregation(model, loss, *batch)])

    @property
    def facts(self) -> dict[str, Any]:
        """For `Trained.facts`; empty where no model was tampered with."""
        if not self.tampered:
            return {}
        return {"tampering": {**self.noticed, "architecture_kept": self.architecture_kept}}

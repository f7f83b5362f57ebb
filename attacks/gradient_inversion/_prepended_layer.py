"""A layer in front of a network that measures its inputs and changes next to nothing.

Imported only inside functions: torch is needed at once.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYER = "imprint"
INNER = "model"


class PrependedLayer(nn.Module):
    r"""``model`` behind a linear layer whose activations are added to its input.

    .. math:: f\big(x + d \sum_k \min(\max(w_k^T x + b_k, 0), t)\big)

    All units have the same gradient :math:`\langle \partial L / \partial x', d \rangle` while they
    are active. With small rows the output is that of `model`; a large d still gives a large gradient.

    Args:
        model: copied, so that training the front leaves it alone.
        weight: ``(K, C * H * W)``, on raw pixels in 0..1.
        bias: ``(K,)``.
        direction: d, ``(C, H, W)``.
        top: t, above which a unit is inactive again; None: never.

    Its parameters are "imprint.weight", "imprint.bias", and those of `model` under "model.".
    """

    def __init__(
        self,
        model: nn.Module,
        weight: Tensor,
        bias: Tensor,
        *,
        direction: Tensor,
        top: float | None = None,
    ):
        super().__init__()
        rows, features = weight.shape
        self.imprint = nn.utils.skip_init(nn.Linear, features, rows)
        with torch.no_grad():
            self.imprint.weight.copy_(weight)
            self.imprint.bias.copy_(bias)
        self.model = copy.deepcopy(model)
        self.top = top
        self.register_buffer("direction", direction.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        z = self.imprint(x.flatten(1))
        active = functional.relu(z) if self.top is None else functional.hardtanh(z, 0.0, self.top)
        return self.model(x + active.sum(1)[:, None, None, None] * self.direction)

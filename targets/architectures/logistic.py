"""Multinomial logistic regression."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medleak.targets.architectures._blocks import flat_input, flat_shape, positive


class LogisticRegression(nn.Module):
    """Logits ``W x + b`` of a table or of flattened, scaled pixels.

    Args:
        in_shape: ``(F,)`` or ``(C, H, W)``.
        n_outputs: classes or labels.

    Shapes: ``(N, *in_shape)`` -> ``(N, n_outputs)``.

    Raises:
        ConfigError: unsuitable `in_shape` or `n_outputs`.
    """

    version = 1
    first_layer = "linear"

    def __init__(self, *, in_shape: Sequence[int], n_outputs: int):
        super().__init__()
        positive("LogisticRegression", n_outputs=n_outputs)
        first, features = flat_input(flat_shape("LogisticRegression", in_shape))
        self.layers = nn.Sequential(*first, nn.Linear(features, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

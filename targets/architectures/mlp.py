"""A fully connected network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medleak.targets.architectures._blocks import flat_input, flat_shape, positive


class MLP(nn.Module):
    """`depth` hidden layers of `hidden` ReLU units on a table or on flattened, scaled pixels.

    Args:
        in_shape: ``(F,)`` or ``(C, H, W)``.
        n_outputs: classes or labels.
        hidden: units of each hidden layer.
        depth: number of hidden layers.

    Shapes: ``(N, *in_shape)`` -> ``(N, n_outputs)``.

    Raises:
        ConfigError: unsuitable `in_shape`, or a size that is not a positive integer.
    """

    version = 1
    first_layer = "linear"

    def __init__(
        self, *, in_shape: Sequence[int], n_outputs: int, hidden: int = 128, depth: int = 1
    ):
        super().__init__()
        positive("MLP", n_outputs=n_outputs, hidden=hidden, depth=depth)
        layers, features = flat_input(flat_shape("MLP", in_shape))
        for _ in range(depth):
            layers += [nn.Linear(features, hidden), nn.ReLU()]
            features = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(features, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

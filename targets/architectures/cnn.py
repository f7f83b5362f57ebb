"""The small convolutional network that is trained thousands of times."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medleak.api import ConfigError
from medleak.targets.architectures._blocks import (
    Scale,
    channels_last,
    image_shape,
    norm,
    observed_by,
    positive,
)

GROUPS = 4
GRID = 7


class SmallCNN(nn.Module):
    """Two 3x3 convolutions of `width` and ``2 * width`` channels, GroupNorm, and a linear layer.

    Each block is convolution, 2x2 max-pool, GroupNorm, ReLU: pooling comes first because the rest
    then touches a quarter of the values. On a CPU the activations have their channels innermost in
    memory, unless hooks read them: a step on one thread then takes a little over half of the time
    of the usual order and layout. Above 28 pixels the last feature map is averaged down to about
    7x7, so the linear layer keeps its size.

    Args:
        in_shape: ``(C, H, W)``, 8 pixels or more.
        n_outputs: classes or labels.
        width: channels of the first convolution, a multiple of 4.

    Shapes: ``(N, C, H, W)`` in 0..1 -> ``(N, n_outputs)``.

    Raises:
        ConfigError: unsuitable `in_shape`, `n_outputs` or `width`.
    """

    version = 2
    first_layer = "convolutional"

    def __init__(self, *, in_shape: Sequence[int], n_outputs: int, width: int = 16):
        super().__init__()
        channels, height, breadth = image_shape("SmallCNN", in_shape, smallest=8)
        positive("SmallCNN", n_outputs=n_outputs, width=width)
        if width % GROUPS:
            raise ConfigError(f"SmallCNN width must be a multiple of {GROUPS}, not {width}")
        self.scale = Scale()
        self.features = nn.Sequential(*_block(channels, width), *_block(width, 2 * width))
        sides = [height // 4, breadth // 4]
        shrink = tuple(max(1, side // GRID) for side in sides)
        if shrink != (1, 1):
            self.features.append(nn.AvgPool2d(shrink))
        rows, columns = (side // by for side, by in zip(sides, shrink, strict=True))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(2 * width * rows * columns, n_outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.scale(x)
        if x.device.type == "cpu" and not observed_by(self.features):
            x = channels_last(x)
        # Flattened in the order in which the memory lies: the gradient then comes back in it, too.
        return self.head(self.features(x).permute(0, 2, 3, 1))


def _block(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.MaxPool2d(2),
        norm(outputs, GROUPS),
        nn.ReLU(),
    ]

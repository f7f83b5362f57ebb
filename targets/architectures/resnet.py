"""ResNet-18 with GroupNorm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medleak.api import ConfigError
from medleak.core.suggestions import unknown
from medleak.targets.architectures._blocks import Scale, image_shape, norm, positive

STEMS = ("auto", "small", "large")


class ResNet18(nn.Module):
    """He et al. 2016, 18 layers, every BatchNorm replaced by GroupNorm.

    Args:
        in_shape: ``(C, H, W)``, 16 pixels or more.
        n_outputs: classes or labels.
        width: channels of the first stage; the others double.
        stem: "large" is the 7x7 stride-2 convolution and max-pool of the paper, "small" a 3x3
            convolution that keeps the resolution, "auto" small below 64 pixels.

    Shapes: ``(N, C, H, W)`` in 0..1 -> ``(N, n_outputs)``.

    Raises:
        ConfigError: unsuitable `in_shape`, `n_outputs`, `width` or `stem`.
    """

    version = 1
    first_layer = "convolutional"
    paper = "He et al. 2016, Deep residual learning for image recognition, CVPR"

    def __init__(
        self, *, in_shape: Sequence[int], n_outputs: int, width: int = 64, stem: str = "auto"
    ):
        super().__init__()
        channels, *sides = image_shape("ResNet18", in_shape, smallest=16)
        positive("ResNet18", n_outputs=n_outputs, width=width)
        if stem not in STEMS:
            raise ConfigError(unknown("ResNet18 stem", stem, STEMS))
        if width % 4:
            raise ConfigError(f"ResNet18 width must be a multiple of 4, not {width}")
        small = stem == "small" or (stem == "auto" and min(sides) < 64)
        layers = [Scale(), *_stem(channels, width, small)]
        inputs = width
        for stage in range(4):
            outputs = width * 2**stage
            layers.append(_Residual(inputs, outputs, stride=1 if stage == 0 else 2))
            layers.append(_Residual(outputs, outputs))
            inputs = outputs
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, n_outputs)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _stem(channels: int, width: int, small: bool) -> list[nn.Module]:
    if small:
        return [nn.Conv2d(channels, width, 3, padding=1, bias=False), norm(width), nn.ReLU()]
    convolution = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
    return [convolution, norm(width), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            norm(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            norm(outputs),
        )
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), norm(outputs)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        # Not `+=`: hooks that record per-sample gradients forbid in-place changes of activations.
        return self.relu(self.body(x) + self.skip(x))

"""DenseNet-121 from MONAI, with GroupNorm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medleak.targets.architectures._blocks import Scale, image_shape, positive


class DenseNet121(nn.Module):
    """MONAI's DenseNet-121 with GroupNorm (32 groups) and activations that are not in place.

    Args:
        in_shape: ``(C, H, W)``, 64 pixels or more: the network halves the sides five times.
        n_outputs: classes or labels.

    Shapes: ``(N, C, H, W)`` in 0..1 -> ``(N, n_outputs)``.

    Raises:
        ConfigError: unsuitable `in_shape` or `n_outputs`.
    """

    version = 1
    first_layer = "convolutional"
    paper = "Huang et al. 2017, Densely connected convolutional networks, CVPR"

    def __init__(self, *, in_shape: Sequence[int], n_outputs: int):
        super().__init__()
        # MONAI takes seconds to import, and only this architecture wants it.
        from monai.networks.nets import DenseNet121 as Network

        channels, _, _ = image_shape("DenseNet121", in_shape, smallest=64)
        positive("DenseNet121", n_outputs=n_outputs)
        self.scale = Scale()
        self.network = Network(
            spatial_dims=2,
            in_channels=channels,
            out_channels=n_outputs,
            norm=("group", {"num_groups": 32}),
            act=("relu", {"inplace": False}),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.scale(x))

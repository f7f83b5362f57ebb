"""A small U-Net for masks."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medleak.api import ConfigError
from medleak.targets.architectures._blocks import Scale, image_shape, positive


class UNet(nn.Module):
    """MONAI's U-Net, two-dimensional: three levels, skip connections, a logit for each pixel and class.

    Normalisation is per image and channel (InstanceNorm with learned scale), so that no statistics are
    shared between patients and each record has a gradient of its own, as DP-SGD needs; activations are
    not changed in place, for the same reason.

    Args:
        in_shape: ``(C, H, W)``, 16 pixels or more, sides divisible by 4.
        n_outputs: classes of a pixel, the background among them.
        width: channels of the first level; the others double.

    Shapes: ``(N, C, H, W)`` in 0..1 -> ``(N, n_outputs, H, W)``.

    Raises:
        ConfigError: unsuitable `in_shape`, `n_outputs` or `width`.
    """

    version = 1
    first_layer = "convolutional"
    paper = (
        "Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation, "
        "MICCAI; Kerfoot et al. 2018, Left-Ventricle Quantification Using Residual U-Net, STACOM"
    )

    def __init__(self, *, in_shape: Sequence[int], n_outputs: int, width: int = 8):
        super().__init__()
        # MONAI takes seconds to import, and only the architectures that are its own want it.
        from monai.networks.nets import UNet as Network

        channels, *sides = image_shape("UNet", in_shape, smallest=16)
        positive("UNet", n_outputs=n_outputs, width=width)
        if any(side % 4 for side in sides):
            raise ConfigError(f"UNet needs sides divisible by 4: in_shape {tuple(in_shape)}")
        self.scale = Scale()
        self.network = Network(
            spatial_dims=2,
            in_channels=channels,
            out_channels=n_outputs,
            channels=(width, 2 * width, 4 * width),
            strides=(2, 2),
            act=("relu", {"inplace": False}),
            norm=("instance", {"affine": True}),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.scale(x))

"""Where numbers are computed: the CPU or a GPU."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from medleak.api import ConfigError
from medleak.core.suggestions import unknown

if TYPE_CHECKING:
    pass


GPU_DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Of NVIDIA, of Windows' subsystem for Linux, of AMD."""


def pick_device(device: str) -> str:
    """ "auto" is CUDA where there is any, else the CPU.

    Raises:
        ConfigError: unknown, or not there.
    """
    if device == "cpu":
        return device
    names = _gpus()
    if device == "auto":
        return names[0] if names else "cpu"
    if device not in names:
        raise ConfigError(unknown("runtime.device", device, ["auto", "cpu", *names]))
    return device


def _gpus() -> list[str]:
    """ "cuda" and "cuda:0" to "cuda:N"; empty without a GPU.

    torch takes seconds to import, so that it is asked only where there is a driver, or no telling.
    """
    if sys.platform == "linux" and not any(map(os.path.exists, GPU_DRIVERS)):
        return []
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cuda", *(f"cuda:{i}" for i in range(count))] if count else []

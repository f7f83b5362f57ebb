"""A network's inputs, and what enters its last linear layer.

On the CPU, in evaluation mode. Torch is imported inside the functions, so that planning does without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from medleak.api.errors import MedleakError

BATCH = 512


def inputs(x: np.ndarray) -> Any:
    """Records as a network takes them: float32, images in 0..1."""
    import torch

    tensor = torch.from_numpy(np.array(x))
    return tensor.float() / 255 if tensor.dtype == torch.uint8 else tensor.float()


def last_layer(
    network: Any, x: np.ndarray, n_outputs: int, *, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that enter the last linear layer, its weight, and the network's answers.

    Returns:
        ``(N, D)``, ``(C, D)`` and ``(N, C)``, float64; C is `n_outputs`.

    Raises:
        MedleakError: the network does not end in an ``nn.Linear`` with C outputs.
    """
    import torch
    from torch import nn

    seen: list[tuple[Any, Any]] = []
    network = network.to(device)
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    hooks = [m.register_forward_hook(lambda m, i, o: seen.append((m, i[0]))) for m in linear]
    features, answers = [], []
    try:
        with torch.inference_mode():
            for part in inputs(x).split(BATCH):
                seen.clear()
                answers.append(network(part.to(device)))
                features.append(seen[-1][1] if seen else None)
    finally:
        for hook in hooks:
            hook.remove()
    if not seen or seen[-1][0].out_features != n_outputs or features[0].ndim != 2:
        raise MedleakError(f"the network does not end in a linear layer with {n_outputs} outputs")
    found = (torch.cat(features), seen[-1][0].weight, torch.cat(answers))
    features, weight, answers = (t.detach().cpu().double().numpy() for t in found)
    return features, weight, answers

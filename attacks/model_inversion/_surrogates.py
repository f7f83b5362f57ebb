"""Surrogates distilled from the target, and the features that enter a network's last layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medleak.api import MedleakError
from medleak.attacks._whitebox import training
from medleak.attacks.model_inversion._networks import Encoder, packed

BATCH = 64

FeaturesAndLogits = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images ``(n, C, H, W)`` to features ``(n, D)`` that enter the last layer, and logits ``(n, K)``."""


def features_and_logits(network: nn.Module, n_outputs: int) -> FeaturesAndLogits:
    """Features and logits of a network that ends in a linear layer, differentiable.

    Raises:
        MedleakError: when called, if it does not end in an ``nn.Linear`` with `n_outputs` outputs.
    """
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]

    def look(images: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[tuple[nn.Linear, Tensor]] = []
        hooks = [m.register_forward_pre_hook(lambda m, i: seen.append((m, i[0]))) for m in linear]
        try:
            logits = network(images)
        finally:
            for hook in hooks:
                hook.remove()
        if not seen or seen[-1][0].out_features != n_outputs or seen[-1][1].ndim != 2:
            raise MedleakError(
                f"the network does not end in a linear layer with {n_outputs} outputs"
            )
        return seen[-1][1], logits

    return look


def spread(look: FeaturesAndLogits, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of features over `images`, ``(D,)`` each."""
    with torch.no_grad():
        features = torch.cat([look(part)[0] for part in images.split(256)])
    return features.mean(dim=0), features.std(dim=0)


def distilled(
    images: np.ndarray, answers: Tensor, widths: Sequence[int], *, epochs: int, lr: float, seed: int
) -> dict[str, np.ndarray]:
    r"""Encoders that answer as the target does, as arrays "student0...", "student1..." and so on.

    .. math:: \min_S E_x\, \mathrm{KL}(T(x) \,\Vert\, S(x))

    by Adam with a cosine decay.

    Args:
        images: ``(M, C, H, W)`` in 0..1.
        answers: T, ``(M, K)`` probabilities.
        widths: of each student.

    Hinton et al. 2015, Distilling the Knowledge in a Neural Network, NeurIPS workshop.
    """
    x = torch.from_numpy(images)
    with training(seed):
        students = {
            f"student{i}": Encoder(images.shape[1:], width, answers.shape[1])
            for i, width in enumerate(widths)
        }
        for student in students.values():
            optimiser = torch.optim.Adam(student.parameters(), lr=lr)
            steps = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs)
            for _ in range(epochs):
                for batch in torch.randperm(len(x)).split(BATCH):
                    optimiser.zero_grad()
                    log_p = student(x[batch]).log_softmax(dim=1)
                    nn.functional.kl_div(log_p, answers[batch], reduction="batchmean").backward()
                    optimiser.step()
                steps.step()
        return packed(**students)

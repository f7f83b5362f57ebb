"""Soteria: the part of the last layer's gradient that tells most of the inputs is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from medleak.api import MedleakError, UpdateDefense
from medleak.defenses.train._recipes import number, whole


class Soteria(UpdateDefense):
    """Blanks the gradient of the last linear layer for the features that are easiest to invert.

    With r the input of that layer, ``(B, F)``, feature f is ranked by
    ``sum_b |d r_bf / d x_b| / (|r_bf| + .1)``: the smaller, the more of the record a perturbation of
    the feature conceals. The gradients of the weights of the ``floor(fraction F)`` smallest are set
    to zero; everything else is sent as it is. The model is looked at in evaluation mode, with the
    records of the last local step.

    The norm of each row of the Jacobian is exact, at one backward pass a feature, or estimated:
    ``|J_f|^2 = E (J v)_f^2`` for normal v, with a relative error of about ``1 / sqrt(2 probes)``. On an
    untrained small CNN and 8 records, 16 probes choose 96 of 100 features alike, 64 probes 98, in a
    twentieth and a tenth of the time.

    NO guarantee, whatever the paper's title says of the representation: the layers before the last are
    sent untouched, and an attack that leaves the last one out of its match is hardly hindered.

    Args:
        fraction: of the features that is blanked, 0 to below 1; 0 changes nothing.
        probes: random directions of the estimate; None is exact.

    Paper: Sun et al., Soteria: Provable Defense against Privacy Leakage in Federated Learning from
    Representation Perspective, CVPR 2021.
    """

    slot = "update"
    version = 1
    reads_records = True
    paper = "Sun et al., Soteria: Provable Defense against Privacy Leakage in Federated Learning from Representation Perspective, CVPR 2021"

    def __init__(self, *, fraction: float = 0.6, probes: int | None = 16):
        self.fraction = fraction
        self.probes = probes

    def invalid_parameters(self) -> list[str]:
        found = []
        if not (number(self.fraction) and 0 <= self.fraction < 1):
            found.append(f"fraction {self.fraction!r} must be from 0 to below 1")
        if self.probes is not None and not whole(self.probes, 1):
            found.append(
                f"probes must be null or a whole number of at least 1, not {self.probes!r}"
            )
        return found

    def protect(
        self, update: Mapping[str, np.ndarray], *, rng: np.random.Generator, model: Any, x: Any
    ) -> Mapping[str, np.ndarray]:
        """The update with some columns of the last weights blank.

        Raises:
            MedleakError: no linear layer in the model, or none that sees one vector a record.
        """
        name, layer = _last_linear(model)
        if not len(x):
            return update
        order = np.argsort(sensitivity(model, layer, x, self._directions(rng)), kind="stable")
        blank = update[name].copy()
        blank[:, order[: int(self.fraction * len(order))]] = 0
        return {**update, name: blank}

    def _directions(self, rng: np.random.Generator) -> Any:
        """How to estimate: number of probes and their seed; None is exactly."""
        return None if self.probes is None else (self.probes, int(rng.integers(2**63)))


def sensitivity(
    model: Any, layer: Any, x: Any, directions: tuple[int, int] | None = None
) -> np.ndarray:
    """``sum_b |d r_bf / d x_b| / (|r_bf| + .1)`` of each input r of `layer`, ``(F,)``.

    Args:
        x: records ``(B, ...)``.
        directions: number of probes and their seed; None is exact.
    """
    import torch

    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        r = _input(model, layer, x)
        if r.ndim != 2:
            raise MedleakError(
                f"Soteria: the last linear layer's input has shape {tuple(r.shape)}, not (B, F)"
            )
        squares = _exact(r, x) if directions is None else _probed(r, x, *directions)
    ratio = squares.sqrt() / (r.detach().abs() + 0.1)
    return ratio.sum(0).cpu().numpy()


def _exact(r: Any, x: Any) -> Any:
    """Squared norms of ``d r_bf / d x_b``, ``(B, F)``."""
    import torch

    rows = (torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in r.unbind(1))
    return torch.stack([row.flatten(1).square().sum(1) for row in rows], dim=1)


def _probed(r: Any, x: Any, probes: int, seed: int) -> Any:
    """The mean of ``(J v)^2`` over `probes` normal v.

    ``J v`` is the derivative by u of ``<J^T u, v>``: one backward pass for all features at once.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    u = torch.zeros_like(r, requires_grad=True)
    (back,) = torch.autograd.grad(r, x, u, create_graph=True)
    squares = torch.zeros_like(r)
    for _ in range(probes):
        v = torch.randn(back.shape, generator=generator, dtype=back.dtype).to(back.device)
        squares += torch.autograd.grad(back, u, v, retain_graph=True)[0].square()
    return squares.detach() / probes


def _input(model: Any, layer: Any, x: Any) -> Any:
    """What `layer` is given when `model` sees `x`, in evaluation mode."""
    seen = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        model(x)
    finally:
        hook.remove()
        for module, training in modes:
            module.training = training
    return seen[-1]


def _last_linear(model: Any) -> tuple[str, Any]:
    """Name of the weights of the linear layer that was registered last, and the layer."""
    from torch import nn

    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear)]
    if not layers:
        raise MedleakError(f"Soteria: {type(model).__name__} has no linear layer")
    name, layer = layers[-1]
    return f"{name}.weight" if name else "weight", layer

"""Gradient matching: compares the update that candidate records would give with the one that was sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from medleak.api import LocalTraining
from medleak.attacks.gradient_inversion import _shared
from medleak.attacks.gradient_inversion._update_constraints import UpdateConstraints

MIDDLE, SPREAD = 0.5, 0.25
"""Pixels in 0..1 are optimised as ``(x - MIDDLE) / SPREAD``, on which published step sizes are meant."""
TINY = 1e-12
LARGE = 30 * 2**20
"""Bytes; a little less than the most (32 MiB) that glibc learns from."""

Gradient = Callable[[Mapping[str, Tensor], Tensor, Tensor], dict[str, Tensor]]
"""Weights, records and targets to mean gradients; see `gradients`."""
Loss = Callable[[Tensor], Tensor]
"""Rows ``(S, ...)`` to one loss each, ``(S,)``, independent of the other rows."""


def to_pixels(u: Tensor) -> Tensor:
    """Normalised values as pixels in 0..1."""
    return MIDDLE + SPREAD * u


def to_sought(x: Any) -> Any:
    """Pixels in 0..1, tensor or array, as normalised values."""
    return (x - MIDDLE) / SPREAD


def boxed(u: Tensor) -> Tensor:
    """Normalised values cut to those of pixels in 0..1."""
    return u.clamp(-MIDDLE / SPREAD, (1 - MIDDLE) / SPREAD)


# --------------------------------------------------------------------------- what a client sends


def cross_entropy(z: Tensor, targets: Tensor) -> Tensor:
    """Of logits ``(B, K)`` with probabilities of the same shape, meaned over B."""
    return -(targets * z.log_softmax(dim=-1)).sum(dim=-1).mean()


def gradients(network: nn.Module) -> Gradient:
    r"""A differentiable function of stacked weights, records and targets to stacked mean gradients.

    .. math:: g_s = \nabla_{w_s} \frac{1}{B} \sum_b \ell(f_{w_s}(x_{sb}), t_{sb})

    Where all were sent the same weights, a network of known layers is read layer by layer, see
    `_shared`; else each row is differentiated by itself.

    Shapes: name -> ``(S, ...)``, ``(S, B, C, H, W)``, ``(S, B, K)`` probabilities -> name ->
    ``(S, ...)``.
    """

    def loss(weights: dict[str, Tensor], x: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(functional_call(network, weights, (x,)), targets)

    each, readable = vmap(grad(loss)), _shared.readable(network)

    def gradient(weights: dict[str, Tensor], x: Tensor, targets: Tensor) -> dict[str, Tensor]:
        if not (readable and all(_same(w) for w in weights.values())):
            return each(weights, x, targets)
        one = {name: w[0] for name, w in weights.items()}
        return _shared.gradients(network, one, x, lambda z: len(x) * cross_entropy(z, targets))

    return gradient


def _same(weight: Tensor) -> bool:
    """Whether all rows are one, and fixed."""
    return not weight.requires_grad and (len(weight) == 1 or weight.stride(0) == 0)


def replayed(
    gradient: Gradient,
    weights: Mapping[str, Tensor],
    x: Tensor,
    targets: Tensor,
    local: LocalTraining,
    clients: int = 1,
) -> Tensor:
    r"""The update of clients with records x, differentiable in x and the targets.

    .. math:: u = \frac{\theta_0 - \theta_T}{\eta} = \sum_t \nabla \ell(\theta_t; B_t), \qquad
        \theta_{t+1} = \theta_t - \eta \nabla \ell(\theta_t; B_t)

    Batches are the records in turn, from the first again after the last. An update of several clients
    is taken for one of a client with as many times the batch; with one step that is exact.

    Shapes: name -> ``(S, ...)``, ``(S, B, C, H, W)``, ``(S, B, K)`` -> ``(S, P)``.
    """
    n, total = x.shape[1], None
    size = n if local.steps == 1 else min(n, local.batch_size * clients)
    for t in range(local.steps):
        order = torch.arange(t * size, (t + 1) * size) % n
        whole = size == n
        step = gradient(
            weights, x if whole else x[:, order], targets if whole else targets[:, order]
        )
        total = step if total is None else {name: total[name] + step[name] for name in step}
        if t + 1 < local.steps:
            weights = {name: w - local.lr * step[name] for name, w in weights.items()}
    return torch.cat([g.flatten(1) for g in total.values()], dim=1)


# --------------------------------------------------------------------------- the comparison


def cosine(found: Tensor, target: Tensor) -> Tensor:
    """One minus one cosine over all entries; ``(S, P)``, ``(S, P)`` -> ``(S,)``.

    Geiping et al. 2020, Inverting Gradients, NeurIPS.
    """
    product = (found * target).sum(dim=1)
    length = found.square().sum(dim=1).clamp_min(TINY**2).sqrt()
    return 1 - product / (length * target.square().sum(dim=1).clamp_min(TINY**2).sqrt())


def squared(found: Tensor, target: Tensor) -> Tensor:
    """Sum of squared differences; ``(S, P)``, ``(S, P)`` -> ``(S,)``."""
    return (found - target).square().sum(dim=1)


def relative(found: Tensor, target: Tensor) -> Tensor:
    """Sum of squared differences over that of the target; ``(S, P)``, ``(S, P)`` -> ``(S,)``."""
    return squared(found, target) / target.square().sum(dim=1).clamp_min(TINY**2)


class Believed:
    """A distance between updates that uses only the entries that carry information.

    Entries that were removed are ignored. A rounded entry is matched by the nearest value that rounds to
    it. Where only signs were sent, the candidate update passes through tanh, in units of its mean size
    in each array, before it is compared.

    Args:
        constraints: of S rows, all with signs or none.
        sizes: entries of each array, in order.
        distance: `cosine` or `squared`.
    """

    def __init__(
        self,
        constraints: Sequence[UpdateConstraints],
        sizes: Sequence[int],
        distance: Callable[[Tensor, Tensor], Tensor],
    ):
        self.target, self.keep, self.margin = (
            torch.from_numpy(np.stack([getattr(e, name) for e in constraints]))
            for name in ("target", "keep", "margin")
        )
        self.cut, self.rounded = bool((self.keep == 0).any()), bool(self.margin.any())
        self.signs, self.sizes, self.distance = constraints[0].signs, list(sizes), distance
        if self.signs:
            self.target = self.target.sign()
        self.target = self.target * self.keep

    def __call__(self, found: Tensor) -> Tensor:
        """``(S, P)`` -> ``(S,)``."""
        if self.signs:
            found = torch.cat([_squashed(part) for part in found.split(self.sizes, dim=1)], dim=1)
        if self.cut:
            found = found * self.keep
        target = self.target
        if self.rounded:
            target = found.detach().clamp(target - self.margin, target + self.margin)
        return self.distance(found, target)


def _squashed(part: Tensor) -> Tensor:
    return torch.tanh(part / part.detach().abs().mean(dim=1, keepdim=True).clamp_min(TINY))


# --------------------------------------------------------------------------- descent


@dataclass(frozen=True)
class Schedule:
    """Settings of Adam.

    Attributes:
        iterations: gradient evaluations.
        lr: step size on the normalised scale.
        signed: whether it is fed the signs of the gradients.
        decay: "steps" (a tenth at 3/8, 5/8 and 7/8) or "cosine" (after a linear warm-up).
        warmup: iterations of that.
        noise: standard deviation of what is added to the values, times the step size (Langevin).
    """

    iterations: int
    lr: float = 0.1
    signed: bool = True
    decay: str = "steps"
    warmup: int = 0
    noise: float = 0.0

    def rate(self, i: int) -> float:
        """Step size of iteration `i`."""
        if self.decay == "steps":
            passed = sum(i >= int(self.iterations * eighths / 8) for eighths in (3, 5, 7))
            return self.lr * 0.1**passed
        if i < self.warmup:
            return self.lr * (i + 1) / self.warmup
        done = (i - self.warmup) / max(1, self.iterations - self.warmup)
        return self.lr * 0.5 * (1 + np.cos(np.pi * done))


def adam(
    loss: Loss,
    start: Tensor,
    schedule: Schedule,
    noise: Callable[[], Tensor] | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
    within: Callable[[Tensor], Tensor] = boxed,
) -> Tensor:
    """Adam within a box, each row by itself.

    Args:
        loss: to be made small.
        start: ``(S, ...)``.
        schedule: how.
        noise: standard normal values of the shape of `start`, each call new ones.
        progress: called with the fraction done.
        within: the nearest values that are allowed; those of pixels if nothing else is said.
    """
    _keep_what_is_freed()
    u, m, v = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for i in range(schedule.iterations):
        u.requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(u).sum(), u)
        u = u.detach()
        gradient = torch.nan_to_num(gradient)
        if schedule.signed:
            gradient = gradient.sign()
        m = m.lerp_(gradient, 0.1)
        v = v.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        size = (v / (1 - 0.999 ** (i + 1))).sqrt_().add_(1e-8)
        u = u.addcdiv_(m, size, value=-schedule.rate(i) / (1 - 0.9 ** (i + 1)))
        if noise is not None and schedule.noise:
            u = u.add_(noise(), alpha=schedule.noise * schedule.rate(i))
        u = within(u)
        progress((i + 1) / schedule.iterations)
    return u


def _keep_what_is_freed() -> None:
    """Make glibc hold on to memory from one step to the next.

    Once it has seen a block of this size come and go, it no longer asks the kernel for every large one
    anew, which otherwise is up to a fifth of a step. Elsewhere it does nothing.
    """
    torch.empty(LARGE, dtype=torch.uint8)


def lbfgs(loss: Loss, start: Tensor, iterations: int, memory: int = 20) -> Tensor:
    r"""L-BFGS with a step size and a memory for each row; each iteration is one evaluation.

    A trial that does not lower the row's loss enough (Armijo) is taken back and halved; a row that
    has halved `HALVINGS` times forgets its memory and starts from the steepest descent.

    Shapes: ``(S, N)`` -> ``(S, N)``, the lowest point met by each row.

    Liu and Nocedal 1989, On the limited memory BFGS method for large scale optimization.
    """
    x, (f, g) = start, _value_and_gradient(loss, start)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []
    direction, t = -g, _first_step(g)
    halved = torch.zeros_like(t)
    for _ in range(iterations):
        trial = x + t * direction
        f_trial, g_trial = _value_and_gradient(loss, trial)
        along = (g * direction).sum(dim=1, keepdim=True)
        good = torch.isfinite(f_trial) & (f_trial <= f + 1e-4 * t * along)
        pairs.append(_pair(trial - x, g_trial - g, good))
        pairs = pairs[-memory:]
        x, f, g = (torch.where(good, a, b) for a, b in ((trial, x), (f_trial, f), (g_trial, g)))
        halved = torch.where(good, 0, halved + 1)
        lost = halved >= HALVINGS
        pairs = [(s, y, torch.where(lost, 0, rho)) for s, y, rho in pairs]
        halved = torch.where(lost, 0, halved)
        fresh = _two_loops(g, pairs)
        wrong = lost | ((fresh * g).sum(dim=1, keepdim=True) >= 0)
        fresh = torch.where(wrong, -g, fresh)
        direction = torch.where(good | lost, fresh, direction)
        t = torch.where(wrong, _first_step(g), torch.where(good, torch.ones_like(t), t / 2))
    return x


HALVINGS = 12
"""Of a step, before the curvature is no longer believed."""


def _value_and_gradient(loss: Loss, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    f = loss(x)
    (g,) = torch.autograd.grad(f.sum(), x)
    return f.detach().unsqueeze(1), torch.nan_to_num(g)


def _first_step(g: Tensor) -> Tensor:
    return (1 / g.abs().sum(dim=1, keepdim=True).clamp_min(TINY)).clamp_max(1.0)


def _pair(s: Tensor, y: Tensor, good: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A step, the change of the gradient, and one over their product (zero where that is useless)."""
    product = (s * y).sum(dim=1, keepdim=True)
    useful = good & (product > 1e-10 * y.square().sum(dim=1, keepdim=True))
    rho = torch.where(useful, 1 / product.clamp_min(1e-30), 0)
    return torch.where(useful, s, 0), torch.where(useful, y, 0), rho


def _two_loops(g: Tensor, pairs: list[tuple[Tensor, Tensor, Tensor]]) -> Tensor:
    """Minus the inverse Hessian's estimate times g; a pair with rho zero changes nothing."""
    q, scale, parts = g, torch.ones_like(g[:, :1]), []
    for s, y, rho in reversed(pairs):
        a = rho * (s * q).sum(dim=1, keepdim=True)
        q = q - a * y
        parts.append(a)
    for _, y, rho in pairs:
        squares = (rho * y.square().sum(dim=1, keepdim=True)).clamp_min(1e-30)
        scale = torch.where(rho > 0, 1 / squares, scale)
    q = q * scale
    for (s, y, rho), a in zip(pairs, reversed(parts), strict=True):
        q = q + s * (a - rho * (y * q).sum(dim=1, keepdim=True))
    return -q

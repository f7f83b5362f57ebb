"""The training loop of `medleak.targets.recipes`: everything in it that needs torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from medleak.api import GradientRule, MedleakError, Records, Sampler, task_of
from medleak.core.keys import seed_for
from medleak.targets._augment import AUGMENTATIONS

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Plan:
    """What the loop has to do; `rates` is the learning rate of each step."""

    sampler: Sampler
    gradient: GradientRule
    rates: np.ndarray
    optimiser: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
    augment: Sequence[str]
    patience: int | None
    bf16: bool
    task: str
    seed: int


@dataclass
class Best:
    """The epoch with the smallest validation loss so far."""

    loss: float = math.inf
    epoch: int = 0
    state: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """Records on the device, kept as they came (bytes stay bytes) and scaled batch by batch."""

    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, records: Records, device: str) -> Data:
        x = torch.from_numpy(np.ascontiguousarray(records.x))
        y = torch.from_numpy(np.ascontiguousarray(records.y, dtype=np.int64))
        return cls(x.to(device), y.to(device))

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        return scaled(self.x.index_select(0, index)), self.y.index_select(0, index)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in zip(self.x.split(size), self.y.split(size), strict=True):
            yield scaled(x), y


def scaled(x: Tensor) -> Tensor:
    """Bytes to floats in 0..1, floats as they are.

    In the default layout: Opacus's per-record gradients of a convolution are wrong in any other, and
    an architecture that gains from channels-last turns its activations around itself.
    """
    return x.float() / 255 if x.dtype == torch.uint8 else x.float()


def losses(task: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The criterion of a task, by name: (logits, y) -> losses ``(N,)``, in single precision."""
    criterion = task_of(task).losses
    return lambda z, y: criterion(z.float(), y)


def optimiser(name: str, lr: float, momentum: float, weight_decay: float, device: str) -> Callable:
    """A factory of the named optimiser in its fused form, where the device has one."""
    shared = {"lr": lr, "weight_decay": weight_decay, "fused": device.split(":")[0] != "mps"}
    if name == "adamw":
        return lambda parameters: torch.optim.AdamW(parameters, **shared)
    return lambda parameters: torch.optim.SGD(parameters, momentum=momentum, **shared)


@contextmanager
def seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch's global generators, which dropout draws from, and put them back afterwards."""
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def train(model: nn.Module, data: Data, patients: np.ndarray, plan: Plan, validation: Data | None):
    """Run the plan on `model` in place; return (steps, epochs run, best epoch or None).

    Raises:
        MedleakError: the loss is no longer a number.
    """
    device, rates = data.x.device, iter(plan.rates.tolist())
    augment = augmenter(plan.augment, seed_for("augment", plan.seed), device)
    precision = torch.autocast(device.type, torch.bfloat16) if plan.bf16 else nullcontext()
    step = epoch = 0
    best = Best()
    order = plan.sampler.epochs(patients, seed_for("batches", plan.seed))
    rule = plan.gradient.attached(model, losses(plan.task), seed_for("noise", plan.seed))
    with seeded(seed_for("dropout", plan.seed), str(device)), rule as backward:
        opt = plan.optimiser([p for p in model.parameters() if p.requires_grad])
        for epoch, batches in enumerate(order, start=1):
            backward.begins(epoch)
            model.train()
            total = torch.zeros((), device=device)
            for index in batches:
                x, y = data.batch(torch.from_numpy(index).to(device))
                with precision:
                    total += backward(augment(x), y)
                opt.param_groups[0]["lr"] = next(rates)
                opt.step()
                step += 1
            if not math.isfinite(total.item()):
                raise MedleakError(
                    f"training diverged in epoch {epoch}: the loss is {total.item()}"
                )
            if plan.patience is not None:
                loss, _ = evaluate(model, validation, plan.task)
                if loss < best.loss:
                    best = Best(loss, epoch, copy.deepcopy(model.state_dict()))
                elif epoch - best.epoch >= plan.patience:
                    break
        if plan.patience is None:
            return step, epoch, None
        if not best.state:
            raise MedleakError("the validation loss was not a number in any epoch")
        # Under the rule still: one that changes the network while it trains knows its own weights.
        model.load_state_dict(best.state)
    return step, epoch, best.epoch


def augmenter(names: Sequence[str], seed: int, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The named augmentations in order, off one generator; empty batches pass untouched."""
    generator = torch.Generator(device).manual_seed(seed)

    def apply(x: Tensor) -> Tensor:
        for name in names if len(x) else ():
            x = AUGMENTATIONS[name](x, generator)
        return x

    return apply


@torch.no_grad()
def evaluate(model: nn.Module, data: Data, task: str) -> tuple[float, float]:
    """Mean loss and accuracy in evaluation mode (over all labels, or pixels)."""
    model.eval()
    criterion = losses(task)
    loss, right = torch.zeros(2, dtype=torch.float64, device=data.x.device).unbind()
    for x, y in data.batches(EVALUATION_BATCH):
        z = model(x)
        loss += criterion(z, y).sum()
        right += task_of(task).hits(z, y).sum()
    return loss.item() / len(data.x), right.item() / len(data.x)

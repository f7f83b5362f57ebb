"""The two rules of private training: Poisson batches and clipped, noised gradients."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np

from medleak.api import Backward, ConfigError, GradientRule, Sampler, Step

MOST_FLOATS = 2**27
"""Per-record gradients held at once (half a gigabyte); larger batches are summed in parts."""


@dataclass(frozen=True)
class PoissonSampler(Sampler):
    """Each unit joins each batch independently with probability `q`; batches may be empty.

    With ``unit="patient"``, patients are drawn, and of each drawn patient one random record: a batch
    never holds two records of a patient, however many scans were taken.
    """

    poisson: ClassVar[bool] = True

    q: float
    n_steps: int
    unit: Literal["record", "patient"] = "record"

    def steps(self, n: int) -> int:
        return self.n_steps

    def epochs(self, patients: np.ndarray, seed: int) -> Iterator[list[np.ndarray]]:
        rng = np.random.default_rng(seed)
        order, starts, counts = self._units(patients)
        per_epoch = max(1, math.ceil(1 / self.q))
        for done in range(0, self.n_steps, per_epoch):
            yield [
                self._draw(rng, order, starts, counts)
                for _ in range(min(per_epoch, self.n_steps - done))
            ]

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"q": self.q, "sampled_unit": self.unit}

    def _units(self, patients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = len(patients)
        if self.unit == "record":
            return np.arange(n), np.arange(n), np.ones(n, dtype=np.int64)
        _, starts, counts = np.unique(np.sort(patients), return_index=True, return_counts=True)
        return np.argsort(patients, kind="stable"), starts, counts

    def _draw(
        self, rng: np.random.Generator, order: np.ndarray, starts: np.ndarray, counts: np.ndarray
    ) -> np.ndarray:
        # Both numbers are drawn for every unit, so that one patient's scans move nobody else's.
        join, which = rng.random((2, len(starts)))
        position = starts + np.minimum((which * counts).astype(np.int64), counts - 1)
        return order[position[join < self.q]]


@dataclass(frozen=True)
class PrivateGradient(GradientRule):
    """``(sum_i g_i min(1, C / |g_i|) + N(0, (sigma C)^2 I)) / expected_batch`` (Abadi et al. 2016).

    The norm of a record's gradient ``g_i`` runs over all trainable parameters. The divisor is the
    *expected* batch size, a public number. The noise comes from a generator seeded by the run: it
    is reproducible research noise, not cryptographic.
    """

    clips: ClassVar[bool] = True

    clip: float
    sigma: float
    expected_batch: float
    ledger: Mapping[str, Any] = field(default_factory=dict)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "clip": self.clip,
            "sigma": self.sigma,
            "expected_batch": self.expected_batch,
            "batch": self.expected_batch,
            **self.ledger,
        }

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        """A backward function on Opacus hooks, which leave the model with the context.

        Raises:
            ConfigError: the model mixes records or has layers without per-record gradients.
        """
        import torch

        parameters = [p for p in model.parameters() if p.requires_grad]
        size = sum(p.numel() for p in parameters)
        part = max(1, MOST_FLOATS // max(size, 1))
        generator = torch.Generator(parameters[0].device).manual_seed(seed)
        hooked = per_record(model)
        unchecked = True

        def backward(x: Any, y: Any) -> Any:
            nonlocal unchecked
            if unchecked and len(x):
                check_per_record(hooked, parameters, loss, x[:2], y[:2])
                unchecked = False
            sums = [self._noise(p, generator) for p in parameters]
            total = torch.zeros((), device=generator.device)
            # Without records there is nothing to split: the step is noise alone.
            for some, labels in zip(x.split(part), y.split(part), strict=True) if len(x) else ():
                losses = loss(hooked(some), labels)
                losses.sum().backward()
                self._add_clipped(parameters, sums)
                total += losses.detach().sum()
            for p, s in zip(parameters, sums, strict=True):
                p.grad = s / self.expected_batch
            return total / max(len(x), 1)

        try:
            with warnings.catch_warnings():
                # Records need no gradient, and per-record gradients come contiguous: both intended.
                warnings.filterwarnings("ignore", "Full backward hook is firing")
                warnings.filterwarnings("ignore", "grad and param do not obey")
                yield Step(backward)
        finally:
            hooked.to_standard_module()

    def _noise(self, p: Any, generator: Any) -> Any:
        import torch

        if not self.sigma:
            return torch.zeros_like(p)
        noise = torch.randn(p.shape, generator=generator, device=p.device, dtype=p.dtype)
        return noise * (self.sigma * self.clip)

    def _add_clipped(self, parameters: list[Any], sums: list[Any]) -> None:
        import torch

        # In float32 whatever the run's precision: rounded to bfloat16, a record exceeds C.
        with torch.autocast(parameters[0].device.type, enabled=False):
            each = [p.grad_sample.flatten(1).float() for p in parameters]
            norms = torch.stack([g.norm(dim=1) for g in each]).norm(dim=0)
            factor = (self.clip / norms).clamp_(max=1)
            for p, g, total in zip(parameters, each, sums, strict=True):
                total += (factor @ g).view(p.shape)
                p.grad_sample = None


@dataclass(frozen=True)
class Later(GradientRule):
    """A gradient rule that is made when it is first used: no noise is calibrated to plan a grid."""

    clips: ClassVar[bool] = True

    make: Callable[[], PrivateGradient]

    @functools.cached_property
    def rule(self) -> PrivateGradient:
        return self.make()

    @property
    def clip(self) -> float:
        return self.rule.clip

    @property
    def expected_batch(self) -> float:
        return self.rule.expected_batch

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.rule.facts

    def attached(self, model: Any, loss: Any, seed: int) -> AbstractContextManager[Backward]:
        return self.rule.attached(model, loss, seed)


def per_record(model: Any) -> Any:
    """`model` under Opacus hooks that compute a gradient for each record.

    Raises:
        ConfigError: a layer that mixes records (BatchNorm) or that Opacus has no rule for.
    """
    from opacus.grad_sample import GradSampleModule
    from opacus.validators import ModuleValidator

    reasons = [str(e) for e in ModuleValidator.validate(model, strict=False)]
    if reasons:
        raise ConfigError(f"DP-SGD cannot train this architecture: {'; '.join(reasons)}")
    return GradSampleModule(model, loss_reduction="sum")


def check_per_record(hooked: Any, parameters: list[Any], loss: Any, x: Any, y: Any) -> None:
    """Compare per-record gradients with autograd's, summed over two records.

    Opacus has layers and memory layouts for which its rule is wrong without a word; a clipped sum of
    wrong gradients keeps its promise and teaches nothing.

    Raises:
        ConfigError: they differ.
    """
    import torch

    hooked.zero_grad()  # a model trained before may still carry its last gradient
    loss(hooked(x), y).sum().backward()
    each = torch.cat([p.grad_sample.sum(0).flatten() for p in parameters])
    true = torch.cat([p.grad.flatten() for p in parameters])
    hooked.zero_grad()
    for p in parameters:
        p.grad_sample = None
    if (each - true).norm() > 1e-2 * true.norm().clamp(min=1e-6):
        raise ConfigError(
            "DP-SGD cannot train this architecture: its per-record gradients differ from autograd's "
            "(channels-last activations are a known cause)"
        )

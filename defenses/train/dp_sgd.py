"""Differentially private SGD."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

from medleak.api import ConfigError, Defense, Guarantee, ProblemSpec, Trainer
from medleak.core.suggestions import unknown
from medleak.defenses.train import accounting
from medleak.defenses.train._private import Later, PoissonSampler, PrivateGradient
from medleak.defenses.train._recipes import changed

UNITS = ("record", "patient")
COUNTS = ("epochs", "batch_size")  # they enter the accounting; the recipe checks the rest
NUMBERS = ("epsilon", "noise_multiplier", "delta", "clip", "sampling_rate")
RECIPE = ("epochs", "batch_size", "optimizer", "lr", "momentum", "weight_decay", "schedule")


class Budget(NamedTuple):
    """What is spent: the mechanism and its price."""

    epsilon: float
    delta: float
    q: float
    sigma: float
    steps: int
    accountant: str


class DPSGD(Defense):
    """DP-SGD: Poisson batches, per-record clipping to C and Gaussian noise of sigma C.

    A step follows ``(sum_i clip(g_i, C) + N(0, (sigma C)^2 I)) / B`` with units drawn at rate
    ``q = B / n``, for ``T = epochs * ceil(n / B)`` steps; n is the *expected* number of members, a
    public number, and the last iterate is released. Adjacency is add/remove. With
    ``unit="patient"`` patients are drawn, with one random scan each, and n counts patients.

    Args:
        epsilon: target budget, about .1 to 1e12; sigma is calibrated to it.
        noise_multiplier: sigma itself, in place of `epsilon`.
        delta: None is ``1 / (10 n)``.
        clip: C, the largest norm of one record's gradient.
        unit: "record" or "patient".
        sampling_rate: q itself, in place of a batch size: the batch then grows with the members.
        epochs, batch_size, optimizer, lr, momentum, weight_decay, schedule: in place of the
            recipe's (None: as there).
        trials: how many runs it took to choose these settings, for the row to print.

    Paper: Abadi et al., Deep Learning with Differential Privacy, CCS 2016.
    """

    slot = "train"
    version = 3
    paper = "Abadi et al., Deep Learning with Differential Privacy, CCS 2016"

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        noise_multiplier: float | None = None,
        delta: float | None = None,
        clip: float = 1.0,
        unit: str = "record",
        sampling_rate: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        optimizer: str | None = None,
        lr: float | None = None,
        momentum: float | None = None,
        weight_decay: float | None = None,
        schedule: str | None = None,
        trials: int = 0,
    ):
        self.epsilon = epsilon
        self.noise_multiplier = noise_multiplier
        self.delta = delta
        self.clip = clip
        self.unit = unit
        self.sampling_rate = sampling_rate
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.trials = trials

    def invalid_parameters(self) -> list[str]:
        found = [
            f"{name} must be a positive finite number, not {value!r}"
            for name in NUMBERS
            if not _positive(value := getattr(self, name)) and (value is not None or name == "clip")
        ]
        found += [
            f"{name} must be a whole number of at least 1, not {value!r}"
            for name in COUNTS
            if (value := getattr(self, name)) is not None and (type(value) is not int or value < 1)
        ]
        if (self.epsilon is None) == (self.noise_multiplier is None):
            found.append(
                "exactly one of epsilon and noise_multiplier is needed, not "
                f"epsilon={self.epsilon!r} and noise_multiplier={self.noise_multiplier!r}"
            )
        if self.sampling_rate is not None and self.batch_size is not None:
            found.append(
                f"sampling_rate {self.sampling_rate!r} or batch_size {self.batch_size!r}, not both"
            )
        if _positive(self.delta) and self.delta >= 1:
            found.append(f"delta must be below 1, not {self.delta!r}")
        if _positive(self.sampling_rate) and self.sampling_rate > 1:
            found.append(f"sampling_rate must be at most 1, not {self.sampling_rate!r}")
        if self.unit not in UNITS:
            found.append(unknown("unit", self.unit, UNITS))
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        """Reasons against, for a filling without faults."""
        if not {"sampler", "gradient"} <= set(trainer.arguments()):
            return [
                f"DP-SGD replaces a recipe's sampler and gradient: {type(trainer).__name__} has none"
            ]
        reasons = []
        if trainer.sampler is not None or trainer.gradient is not None:
            reasons.append("the recipe's sampler or gradient was already replaced by a defense")
        if trainer.early_stopping is not None:
            reasons.append(
                "early_stopping with DP-SGD: its guarantee is for the last iterate, which must be "
                "the one released"
            )
        if self.unit == "patient" and problem.unit != "patient":
            reasons.append(f"unit=patient needs known patients; here the unit is {problem.unit}")
        recipe, n = self._recipe(trainer, problem), self._n(problem)
        if (batch := recipe.batch_size) > n:
            reasons.append(
                f"batch_size {batch} exceeds the {n} expected member {self.unit}s: sampling rate > 1"
            )
        return reasons + recipe.incompatibilities(problem)

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        budget = self._budget(problem, trainer)
        promise = Guarantee(
            kind="dp",
            epsilon=budget.epsilon,
            delta=budget.delta,
            unit=self.unit,
            adjacency="add/remove",
            protects_from="anyone who sees the released model",
            assumptions=self._assumptions(problem, trainer),
            accountant=budget.accountant,
            mechanism={
                "name": "poisson_gaussian",
                "q": budget.q,
                "sigma": budget.sigma,
                "steps": budget.steps,
            },
        )
        return [promise, *self._group(problem, budget)]

    def apply(self, subject: Trainer, *, problem: ProblemSpec) -> Trainer:
        """The same recipe with private batches and gradients, and nothing chosen by validation.

        Raises:
            ConfigError: any of the faults, here or in the recipe's settings as replaced, or of the
                refusals.
        """
        _refuse(self.invalid_parameters())
        _refuse(self.incompatibilities(problem, subject))
        recipe = self._recipe(subject, problem)
        _refuse(recipe.invalid_parameters())
        q, steps = self._rounds(recipe, problem)
        return changed(
            recipe,
            sampler=PoissonSampler(q, steps, self.unit),
            gradient=Later(partial(self._gradient, problem, subject)),
        )

    def _gradient(self, problem: ProblemSpec, trainer: Trainer) -> PrivateGradient:
        budget = self._budget(problem, trainer)
        ledger = {
            "epsilon": budget.epsilon,
            "delta": budget.delta,
            "accountant": budget.accountant,
            "trials": self.trials,
        }
        expected = self._recipe(trainer, problem).batch_size
        return PrivateGradient(float(self.clip), budget.sigma, expected, ledger)

    def _n(self, problem: ProblemSpec) -> int:
        return problem.n_patients if self.unit == "patient" else problem.n_records

    def _recipe(self, trainer: Trainer, problem: ProblemSpec) -> Trainer:
        own = {name: getattr(self, name) for name in RECIPE}
        if self.sampling_rate is not None:
            own["batch_size"] = max(1, round(self.sampling_rate * self._n(problem)))
        return changed(trainer, **{k: v for k, v in own.items() if v is not None})

    def _rounds(self, recipe: Trainer, problem: ProblemSpec) -> tuple[float, int]:
        """Sampling rate and number of steps."""
        n = self._n(problem)
        return recipe.batch_size / n, recipe.epochs * math.ceil(n / recipe.batch_size)

    def _budget(self, problem: ProblemSpec, trainer: Trainer) -> Budget:
        _refuse(self.invalid_parameters())
        q, steps = self._rounds(self._recipe(trainer, problem), problem)
        delta = 1 / (10 * self._n(problem)) if self.delta is None else float(self.delta)
        if self.epsilon is None:
            sigma = float(self.noise_multiplier)
            epsilon, accountant = accounting.epsilon_of(sigma, delta, q, steps)
        else:
            epsilon = float(self.epsilon)
            sigma, accountant = accounting.calibrate(epsilon, delta, q, steps)
        return Budget(epsilon, delta, q, sigma, steps, accountant)

    def _assumptions(self, problem: ProblemSpec, trainer: Trainer) -> tuple[str, ...]:
        scans = self.unit == "record" and problem.max_records > 1
        return (
            f"batches are Poisson samples of {self.unit}s and stay hidden",
            "the expected number of members is public",
            "the noise is reproducible pseudo-random noise whose seed stays secret",
            f"hyper-parameters were chosen in {self.trials} runs, at no cost to the budget",
            *(
                [f"a patient has up to {problem.max_records} records: this is not per patient"]
                * scans
            ),
        )

    def _group(self, problem: ProblemSpec, budget: Budget) -> list[Guarantee]:
        k = problem.max_records
        if self.unit == "patient" or k < 2:
            return []
        epsilon, delta = accounting.group(budget.epsilon, budget.delta, k)
        if delta >= 1:
            return []
        return [
            Guarantee(
                kind="group",
                epsilon=epsilon,
                delta=delta,
                unit="patient",
                protects_from="nobody: a conversion of the record guarantee, for information",
                assumptions=(f"at most {k} records per patient",),
                accountant=budget.accountant,
            )
        ]


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 < value < math.inf


def _refuse(invalid_parameters: list[str]) -> None:
    if invalid_parameters:
        raise ConfigError(f"DPSGD: {'; '.join(invalid_parameters)}")

"""Training recipes: how a target and each of its shadows are fitted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import (
    ConfigError,
    GradientRule,
    MedleakError,
    ProblemSpec,
    Records,
    Sampler,
    Trained,
    Trainer,
    task_of,
)
from medleak.core.keys import rng_for
from medleak.core.suggestions import unknown
from medleak.targets._rules import MeanGradient, Shuffled

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "cosine", "onecycle")
AUGMENTATIONS = ("flip", "shift", "rotate", "noise", "contrast", "bias")
MOVING = ("flip", "shift", "rotate")
"""Augmentations after which a pixel shows another place."""
PRECISIONS = ("fp32", "bf16")
_WARM_UP = 0.3
_START = 1 / 25


class SGD(Trainer):
    """Minibatch SGD with momentum, or AdamW, from memory.

    Minimises the mean loss of the task: cross-entropy, of several labels the binary one averaged over
    labels, of masks the mean over pixels. The
    run is a function of (model, records, recipe, seed): batch order, augmentation, label noise and
    dropout draw from generators of their own, and torch's global ones are left as they were.

    Args:
        epochs: passes over the members.
        batch_size: records per step; the batches of an epoch differ in size by at most one.
        optimizer: "sgd" or "adamw".
        lr: learning rate, the peak one under a schedule.
        momentum: of "sgd".
        weight_decay: L2 penalty ("adamw": decoupled).
        schedule: "constant", "cosine" to zero, or "onecycle" (30% warm-up, then cosine).
        augment: any of "flip", "shift", "rotate", "noise", "contrast" (grey scale) and "bias" (shading),
            in that order of application as given.
        early_stopping: None, or ``{"patience": int}``: stop after that many epochs without a better
            validation loss, and return to the best epoch.
        label_noise: share of the members' labels replaced by another class (multi-label: flipped; a mask: of its pixels).
        precision: "fp32", or "bf16" autocast.
        sampler: how batches are drawn; None is shuffled epochs.
        gradient: what a step follows; None is the gradient of the mean loss.
    """

    version = 2

    def __init__(
        self,
        *,
        epochs: int = 30,
        batch_size: int = 64,
        optimizer: str = "sgd",
        lr: float = 0.05,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        augment: Sequence[str] = (),
        early_stopping: Mapping[str, int] | None = None,
        label_noise: float = 0.0,
        precision: str = "fp32",
        sampler: Sampler | None = None,
        gradient: GradientRule | None = None,
    ):
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.augment = augment
        self.early_stopping = early_stopping
        self.label_noise = label_noise
        self.precision = precision
        self.sampler = sampler
        self.gradient = gradient

    def invalid_parameters(self) -> list[str]:
        found = [
            *_not_one_of("optimizer", [self.optimizer], OPTIMIZERS),
            *_not_one_of("schedule", [self.schedule], SCHEDULES),
            *_not_one_of("precision", [self.precision], PRECISIONS),
            *_out_of_range("epochs", self.epochs, 1, whole=True),
            *_out_of_range("batch_size", self.batch_size, 1, whole=True),
            *_out_of_range("lr", self.lr, 0, above=True),
            *_out_of_range("momentum", self.momentum, 0, below=1),
            *_out_of_range("weight_decay", self.weight_decay, 0),
            *_out_of_range("label_noise", self.label_noise, 0, below=1),
        ]
        if isinstance(self.augment, str) or not isinstance(self.augment, Sequence):
            found.append(f"augment {self.augment!r} must be a list of names")
        else:
            found += _not_one_of("augmentation", self.augment, AUGMENTATIONS)
        return found + self._early_stopping_faults()

    def incompatibilities(self, problem: ProblemSpec) -> list[str]:
        spatial = [name for name in self.augment if name != "noise"]
        if spatial and len(problem.in_shape) == 1:
            return [f"augmentation '{spatial[0]}' needs images, the records are a table"]
        moving = [name for name in self.augment if name in MOVING]
        if moving and task_of(problem.task).spatial:
            return [f"augmentation '{moving[0]}' would move the images and not their masks"]
        return []

    def fewest_validation(self) -> int:
        return 1 if self.early_stopping else 0

    def _early_stopping_faults(self) -> list[str]:
        if self.early_stopping is None:
            return []
        if not isinstance(self.early_stopping, Mapping) or set(self.early_stopping) != {"patience"}:
            return [f"early_stopping {self.early_stopping!r} must be null or {{patience: EPOCHS}}"]
        return _out_of_range("patience", self.early_stopping["patience"], 1, whole=True)

    def fit(
        self,
        model: Any,
        records: Records,
        *,
        problem: ProblemSpec,
        seed: int,
        validation: Records | None = None,
        device: str = "cpu",
    ) -> Trained:
        """Fit `model` in place on `records`; it comes back in evaluation mode.

        Raises:
            ConfigError: faults, refusals, or early stopping without validation records.
            MedleakError: fewer than two records, or the loss diverged.
        """
        from medleak.targets import _training as training

        if reasons := self.invalid_parameters() or self.incompatibilities(problem):
            raise ConfigError("; ".join(reasons))
        if len(records) < 2:
            raise MedleakError(f"a model cannot be trained on {len(records)} member record(s)")
        patience = self.early_stopping["patience"] if self.early_stopping else None
        if patience is not None and (validation is None or not len(validation)):
            raise ConfigError("early_stopping needs validation records: n_validation is 0")

        sampler = self.sampler or Shuffled(self.epochs, self.batch_size)
        gradient = self.gradient or MeanGradient()
        rates = learning_rates(self.schedule, self.lr, sampler.steps(len(records)))
        plan = training.Plan(
            sampler=sampler,
            gradient=gradient,
            rates=rates,
            optimiser=training.optimiser(
                self.optimizer, self.lr, self.momentum, self.weight_decay, device
            ),
            augment=tuple(self.augment),
            patience=patience,
            bf16=self.precision == "bf16",
            task=problem.task,
            seed=seed,
        )
        data = training.Data.of(self._noisy(records, problem, seed), device)
        held_out = training.Data.of(validation, device) if patience is not None else None
        steps, epochs, best = training.train(
            model.to(device), data, records.patients, plan, held_out
        )
        loss, accuracy = training.evaluate(model, data, problem.task)
        model.eval()
        facts = {
            "n_records": len(records),
            "n_patients": len(np.unique(records.patients)),
            "steps": steps,
            "epochs": epochs,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "final_lr": float(rates[steps - 1]),
            "criterion": task_of(problem.task).criterion,
            "precision": self.precision,
            "weight_decay": self.weight_decay,
            **sampler.facts,
            **gradient.facts,
        }
        if best is not None:
            facts |= {"best_epoch": best, "patience": patience}
        return Trained(model, facts)

    def _noisy(self, records: Records, problem: ProblemSpec, seed: int) -> Records:
        if not self.label_noise:
            return records
        rng = rng_for("label_noise", seed)
        chosen = rng.random(records.y.shape) < self.label_noise
        others = task_of(problem.task).n_values(problem.n_outputs)
        moved = (records.y + rng.integers(1, others, size=records.y.shape)) % others
        return Records(
            records.x, np.where(chosen, moved, records.y), records.patients, records.groups
        )


def learning_rates(schedule: str, lr: float, steps: int) -> np.ndarray:
    """Learning rate of each step, ``(steps,)``.

    "cosine" is ``lr (1 + cos(pi t / steps)) / 2``; "onecycle" climbs linearly from ``lr / 25`` over
    30% of the steps and then follows the cosine down (Smith & Topin 2018).
    """
    t = np.arange(steps, dtype=np.float64)
    if schedule == "constant":
        return np.full(steps, float(lr))
    rise = int(_WARM_UP * steps) if schedule == "onecycle" else 0
    fall = 0.5 * (1 + np.cos(math.pi * (t - rise) / max(steps - rise, 1)))
    climb = _START + (1 - _START) * t / max(rise, 1)
    return lr * np.where(t < rise, climb, fall)


def _not_one_of(what: str, values: Sequence[Any], choices: Sequence[str]) -> list[str]:
    return [unknown(what, value, choices) for value in values if value not in choices]


def _out_of_range(
    name: str,
    value: Any,
    least: float,
    *,
    whole: bool = False,
    above: bool = False,
    below: float = math.inf,
) -> list[str]:
    kind = "a whole number" if whole else "a number"
    limit = f"above {least}" if above else f"of at least {least}"
    limit += f" and below {below:g}" if below < math.inf else ""
    right_type = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if right_type and value < below and (value > least if above else value >= least):
        return []
    return [f"{name} {value!r} must be {kind} {limit}"]

"""Label smoothing, with either sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from medleak.api import Backward, GradientRule, ProblemSpec, Trainer
from medleak.defenses.train._recipes import RuleFilling, number


class LabelSmoothing(RuleFilling):
    """Trains on ``(1 - e) onehot(y) + e / C`` in place of the label.

    The cross-entropy is linear in its target, so that the loss is
    ``(1 - e) CE(z, y) + e mean_j CE(z, j)``; multi-label: for each label the two classes absent and
    present, so that the target is ``(1 - e) y + e / 2``. With a negative `e` (Struppek et al., ICLR
    2024, against model inversion) the target leaves the simplex, and the loss has no minimum: only the
    number of steps bounds the logits. The authors therefore begin with plain labels: `e` is 0 until
    the share `start` of the epochs is over, and then grows evenly up to the share `full`.

    The loss stays one of single records, so that it also serves inside DP-SGD, listed after it.

    Args:
        epsilon: `e`, between -1 and 1; 0 is plain training.
        start: share of the epochs before which labels are plain.
        full: share of the epochs from which on `e` is `epsilon`; 0 is from the beginning.
    """

    slot = "train"
    version = 1
    paper = "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016"
    needs = ("sampler", "gradient", "epochs")
    masks = False

    def __init__(self, *, epsilon: float = 0.1, start: float = 0.0, full: float = 0.0):
        self.epsilon = epsilon
        self.start = start
        self.full = full

    def invalid_parameters(self) -> list[str]:
        found = []
        if not (number(self.epsilon) and -1 < self.epsilon < 1):
            found.append(f"epsilon {self.epsilon!r} must lie between -1 and 1")
        shares = number(self.start) and number(self.full)
        if not (shares and 0 <= self.start <= self.full <= 1):
            found.append(
                f"start {self.start!r} and full {self.full!r} must be shares from 0 to 1, in order"
            )
        return found

    def rule(self, inner: GradientRule) -> GradientRule:
        return Smoothed(float(self.epsilon), inner, float(self.start), float(self.full))

    def changes(self, trainer: Trainer, problem: ProblemSpec) -> Mapping[str, Any]:
        rule = super().changes(trainer, problem)["gradient"]
        return {"gradient": replace(rule, epochs=trainer.epochs)}


@dataclass(frozen=True)
class Smoothed(GradientRule):
    """`inner` on the smoothed loss; `start` and `full` are shares of `epochs`."""

    epsilon: float
    inner: GradientRule
    start: float = 0.0
    full: float = 0.0
    epochs: int = 1

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        course = Course(self, loss, self.at(1))
        with self.inner.attached(model, course.loss, seed) as backward:
            course.backward = backward
            yield course

    def at(self, epoch: int) -> float:
        """`e` in `epoch`, counted from 1."""
        over = (epoch - 1) / self.epochs
        if over < self.start:
            return 0.0
        if over >= self.full:
            return self.epsilon
        return self.epsilon * (over - self.start) / (self.full - self.start)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {**self.inner.facts, "label_smoothing": self.epsilon}

    def innermost(self) -> GradientRule:
        return self.inner.innermost()


@dataclass
class Course(Backward):
    """A backward function that knows the `epsilon` of the epoch."""

    rule: Smoothed
    plain: Callable[[Any, Any], Any]
    epsilon: float
    backward: Backward | None = None

    def begins(self, epoch: int) -> None:
        self.epsilon = self.rule.at(epoch)
        if self.backward is not None:
            self.backward.begins(epoch)

    def loss(self, z: Any, y: Any) -> Any:
        return smoothed(self.plain, self.epsilon)(z, y)

    def __call__(self, x: Any, y: Any) -> Any:
        return self.backward(x, y)


def smoothed(loss: Callable[[Any, Any], Any], epsilon: float) -> Callable[[Any, Any], Any]:
    """``(1 - e) loss(z, y) + e * mean over classes``, ``(N,)``."""

    def of(z: Any, y: Any) -> Any:
        return (1 - epsilon) * loss(z, y) + epsilon * _even(loss, z, y)

    return of


def _even(loss: Callable[[Any, Any], Any], z: Any, y: Any) -> Any:
    """The loss for the uniform target; labels ``(N, L)`` are those of a multi-label task."""
    import torch

    if y.ndim == 2:
        return (loss(z, torch.zeros_like(y)) + loss(z, torch.ones_like(y))) / 2
    return -z.float().log_softmax(1).mean(1)

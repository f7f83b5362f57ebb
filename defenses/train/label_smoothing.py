"""Label smoothing, with either sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medleak.defenses.train._recipes import RuleFilling, number
from medleak.targets._rules import Backward, Gradient


class LabelSmoothing(RuleFilling):
    """Trains on ``(1 - e) onehot(y) + e / C`` in place of the label.

    The cross-entropy is linear in its target, so that the loss is
    ``(1 - e) CE(z, y) + e mean_j CE(z, j)``; multi-label: for each label the two classes absent and
    present, so that the target is ``(1 - e) y + e / 2``. With a negative `e` (Struppek et al., ICLR
    2024, against model inversion) the target leaves the simplex, and the loss has no minimum: only the
    number of steps bounds the logits.

    The loss stays one of single records, so that it also serves inside DP-SGD, listed after it.

    Args:
        epsilon: `e`, between -1 and 1; 0 is plain training.
    """

    slot = "train"
    version = 1
    paper = "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016"

    def __init__(self, *, epsilon: float = 0.1):
        self.epsilon = epsilon

    def faults(self) -> list[str]:
        good = number(self.epsilon) and -1 < self.epsilon < 1
        return [] if good else [f"epsilon {self.epsilon!r} must lie between -1 and 1"]

    def rule(self, inner: Gradient) -> Gradient:
        return Smoothed(float(self.epsilon), inner)


@dataclass(frozen=True)
class Smoothed:
    """`inner` on the smoothed loss."""

    epsilon: float
    inner: Gradient

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        with self.inner.attached(model, smoothed(loss, self.epsilon), seed) as backward:
            yield backward

    @property
    def facts(self) -> Mapping[str, Any]:
        return {**self.inner.facts, "label_smoothing": self.epsilon}


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

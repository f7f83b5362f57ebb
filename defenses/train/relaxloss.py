"""RelaxLoss: training towards a loss above zero."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from medleak.api import Backward, GradientRule, ProblemSpec, Trainer, task_of
from medleak.defenses.train._recipes import RuleFilling, number


class RelaxLoss(RuleFilling):
    """Keeps the mean training loss at `alpha`, by ascent or by flattening where it falls below.

    With the batch's mean loss ``L`` and epochs counted from 0, a step follows the gradient of

    - ``|L - alpha|`` in even epochs: ascent below `alpha`;
    - ``L`` in odd epochs while ``L > alpha``; else the mean of ``wrong_i H(t_i, p_i) - loss_i``,
      where ``wrong_i`` marks records whose label is not the largest class, ``H`` is the
      cross-entropy, and ``t_i`` keeps the probability of the label, at most `upper`, and spreads the
      rest evenly over the other classes.

    This is the authors' code, in which the gradient also passes through ``t_i``. Multi-label: each
    label is a problem of two classes, and terms are averaged over labels (no part of the paper). No
    guarantee comes with it.

    Args:
        alpha: the loss to settle at, in nats; 0 is plain training.
        upper: the largest probability that a flattened target keeps for the label, above 0.
    """

    slot = "train"
    version = 1
    paper = "Chen, Yu & Fritz, RelaxLoss: Defending Membership Inference Attacks without Losing Utility, ICLR 2022"
    replaces = True
    masks = False

    def __init__(self, *, alpha: float = 0.2, upper: float = 1.0):
        self.alpha = alpha
        self.upper = upper

    def invalid_parameters(self) -> list[str]:
        found = []
        if not (number(self.alpha) and self.alpha >= 0):
            found.append(f"alpha {self.alpha!r} must be a number from 0")
        if not (number(self.upper) and 0 < self.upper <= 1):
            found.append(f"upper {self.upper!r} must be a number above 0 and at most 1")
        return found

    def objections(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        task = task_of(problem.task)
        chance = math.log(task.n_values(problem.n_outputs))
        return super().objections(problem, trainer) + [
            f"alpha {self.alpha:g} is not below {chance:.3g}, the loss of a uniform guess: nothing "
            "would be learnt"
        ] * (self.alpha >= chance)

    def rule(self, inner: GradientRule) -> GradientRule:
        return RelaxedGradient(float(self.alpha), float(self.upper))


@dataclass(frozen=True)
class RelaxedGradient(GradientRule):
    """The gradient that `RelaxLoss` describes; zero for an empty batch."""

    alpha: float
    upper: float

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        yield RelaxedStep(self, model, loss)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"relaxloss_alpha": self.alpha, "relaxloss_upper": self.upper}


@dataclass
class RelaxedStep(Backward):
    """A backward function that knows whether the epoch is even."""

    rule: RelaxedGradient
    model: Any
    loss: Any
    even: bool = True

    def begins(self, epoch: int) -> None:
        """Epochs are counted from 1 here and from 0 in the paper."""
        self.even = epoch % 2 == 1

    def __call__(self, x: Any, y: Any) -> Any:
        self.model.zero_grad(set_to_none=True)
        z = self.model(x)
        losses, n = self.loss(z, y), max(len(x), 1)
        mean = losses.sum() / n
        if self.even:
            objective = (mean - self.rule.alpha).abs()
        elif mean > self.rule.alpha:
            objective = mean
        else:
            objective = (flattening(z, y, self.rule.upper) - losses).sum() / n
        objective.backward()
        return mean.detach()


def flattening(z: Any, y: Any, upper: float) -> Any:
    """``wrong * H(t, p)`` of each record, ``(N,)``; multi-label: the mean over labels.

    Args:
        z: logits, ``(N, C)`` or ``(N, L)``.
        y: labels, ``(N,)`` or ``(N, L)`` 0/1.
        upper: largest probability of the label in the target ``t``.
    """
    import torch

    z = z.float()
    if several := y.ndim == 2:
        z = torch.stack([torch.zeros_like(z), z], dim=-1)
    log_p, own = z.log_softmax(-1), y.unsqueeze(-1)
    confidence = log_p.gather(-1, own).exp().clamp(max=upper)
    rest = ((1 - confidence) / (z.shape[-1] - 1)).expand_as(log_p)
    target = rest.scatter(-1, own, confidence)
    each = (z.argmax(-1) != y) * -(target * log_p).sum(-1)
    return each.mean(1) if several else each

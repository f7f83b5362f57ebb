"""Messages and restarts stacked into one problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from medleak.api import Knowledge, LocalTraining
from medleak.attacks._whitebox import last_layer
from medleak.attacks.gradient_inversion import _labels
from medleak.attacks.gradient_inversion._matching import (
    Believed,
    Gradient,
    gradients,
    replayed,
    to_pixels,
)
from medleak.attacks.gradient_inversion._transcript import pixels
from medleak.attacks.gradient_inversion._update_constraints import Question, UpdateConstraints

CLASS_RECORDS = 256
"""Number of auxiliary records from which the sent model's mean probabilities are estimated."""


@dataclass(frozen=True)
class Stack:
    """Messages and their restarts as the S rows of one problem; the restarts of a message are adjacent.

    Attributes:
        gradient: of the network.
        weights: what was sent, name -> ``(S, ...)``.
        constraints: of each row.
        targets: ``(S, B, K)`` class probabilities.
        shape: of the records, ``(S, B, C, H, W)``.
        local: what each client did.
        clients: how many sent the message.
        seeds: of each row.
    """

    gradient: Gradient
    weights: dict[str, Tensor]
    constraints: Sequence[UpdateConstraints]
    targets: Tensor
    shape: tuple[int, ...]
    local: LocalTraining
    clients: int
    seeds: Sequence[int]

    def mismatch(self, distance: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        """A function of normalised values ``(S, B, C, H, W)``, and targets, to `distance` ``(S,)``."""
        sizes = [w[0].numel() for w in self.weights.values()]
        compare = Believed(self.constraints, sizes, distance)

        def loss(u: Tensor, targets: Tensor = self.targets) -> Tensor:
            found = replayed(
                self.gradient, self.weights, to_pixels(u), targets, self.local, self.clients
            )
            return compare(found)

        return loss

    def normal(self, *shape: int, draw: int = 0) -> Tensor:
        """Standard normal values ``(S, *shape)`` that do not depend on what else is in the stack."""
        rows = [
            torch.randn(shape, generator=torch.Generator().manual_seed(seed + draw))
            for seed in self.seeds
        ]
        return torch.stack(rows)

    def start(self) -> Tensor:
        """Where each row begins, on the normalised scale."""
        return self.normal(*self.shape[1:])


def stacked(questions: Sequence[Question], knowledge: Knowledge, restarts: int) -> Stack:
    """Questions of the same kind as one problem."""
    first, problem = questions[0].observation, knowledge.problem
    networks = _networks(questions, knowledge)
    labels = [labels_of(q, f, knowledge) for q, f in zip(questions, networks, strict=True)]
    targets = nn.functional.one_hot(torch.from_numpy(np.stack(labels)), problem.n_outputs)
    rows = [q for q in questions for _ in range(restarts)]
    return Stack(
        gradient=gradients(networks[0]),
        weights=_weights(networks, list(first.update), restarts),
        constraints=[q.constraints for q in rows],
        targets=targets.float().repeat_interleave(restarts, dim=0),
        shape=(len(rows), questions[0].n, *problem.in_shape),
        local=first.local,
        clients=len(first.clients),
        seeds=[q.seed + 2**48 * (i % restarts) for i, q in enumerate(rows)],
    )


def labels_of(question: Question, network: nn.Module, knowledge: Knowledge) -> np.ndarray:
    """Labels given or recovered, sorted ``(n,)``.

    Of a single record exactly, of several from the mean probabilities of the auxiliary records. Where
    the whole last layer is hidden, they are those that the network expects of auxiliary records.
    """
    if question.labels is not None:
        return np.sort(np.asarray(question.labels, dtype=np.int64))
    observation, n = question.observation, question.n
    x = None if knowledge.auxiliary is None else knowledge.auxiliary.x[:CLASS_RECORDS]
    features = None
    if observation.hidden and x is not None and len(x):
        features = last_layer(network, x, knowledge.problem.n_outputs)[0].mean(axis=0)
    bias = _labels.readable_bias(observation, knowledge.problem.n_outputs, features)
    if n == 1 and bias.any():
        return np.array([_labels.single_label(bias)])
    if x is None or not len(x):
        return _labels.corrected_labels(bias, n)
    with torch.no_grad():
        z = network(torch.from_numpy(pixels(x)))
    mean = z.softmax(dim=1).mean(dim=0).numpy()
    return _labels.expected_labels(bias / observation.local.steps, n, mean)


def best(u: Tensor, loss: Tensor, questions: int) -> np.ndarray:
    """Of each question the restart that matches best, ``(Q, n, C, H, W)`` in 0..1.

    Args:
        u: normalised values ``(S, n, C, H, W)``.
        loss: ``(S,)``; one that is not a number is never chosen before another.
        questions: Q.
    """
    loss = torch.nan_to_num(loss, nan=torch.inf).unflatten(0, (questions, -1))
    chosen = u.unflatten(0, loss.shape)[torch.arange(questions), loss.argmin(dim=1)]
    return to_pixels(chosen.detach()).numpy()


def _networks(questions: Sequence[Question], knowledge: Knowledge) -> list[nn.Module]:
    """Of each question; the same again where the same was sent, as in one round."""
    found: list[tuple[Mapping[str, np.ndarray], nn.Module]] = []
    for sent in (q.observation.sent for q in questions):
        before = found[-1] if found else None
        if before is None or not all(np.array_equal(sent[n], a) for n, a in before[0].items()):
            before = sent, knowledge.network(sent)
        found.append(before)
    return [network for _, network in found]


def _weights(networks: Sequence[nn.Module], names: list[str], restarts: int) -> dict[str, Tensor]:
    """What was sent, stacked; held once, not copied, where all were sent the same."""
    stacks = {}
    rows = restarts * len(networks)
    own = [dict(network.named_parameters()) for network in networks]
    same = all(network is networks[0] for network in networks)
    for name in names:
        if same:
            weight = own[0][name].detach()
            stacks[name] = weight.expand(rows, *weight.shape)
        else:
            each = torch.stack([o[name].detach() for o in own])
            stacks[name] = each.repeat_interleave(restarts, dim=0)
    return stacks

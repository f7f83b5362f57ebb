"""Fishing: a last layer under which few records of a batch have any gradient."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import (
    Attack,
    Knowledge,
    NotApplicable,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Release,
    ServerPolicy,
    ThreatModel,
    replace,
)
from medleak.attacks import _whitebox
from medleak.attacks._arguments import number, one_class, whole
from medleak.attacks.gradient_inversion._labels import readable_bias, single_label
from medleak.attacks.gradient_inversion._transcript import completed, prior_guess

SHARP = 1e3
"""Logit of one standard deviation of the fished feature: the softmax becomes a step."""
RIDGE = 1e-2
"""Of the discriminant, relative to the mean variance of a feature."""


def discriminant(features: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Ridge direction ``(D,)`` that tells rows `inside` a class from the others, unit spread.

    Shapes: ``(M, D)``, ``(M,)`` bool.
    """
    off = features - features.mean(axis=0)
    ridge = RIDGE * max((off**2).mean(), 1e-12) * len(off)
    kernel = off @ off.T + ridge * np.eye(len(off))  # records are fewer than features
    w = off.T @ np.linalg.solve(kernel, inside - inside.mean())
    return w / max((off @ w).std(), 1e-12)


def cutoff(scores: np.ndarray, inside: np.ndarray, share: float) -> float:
    """Threshold that puts a share of records nearest to `share` on the wrong side, ``scores > t``.

    Of the two that may do so, the one that errs on the side of the class.
    """
    order = np.argsort(scores)
    missed = np.cumsum(inside[order])  # of the class, below
    false = (~inside).sum() - np.cumsum(~inside[order])
    error = (missed + false) / len(scores)
    best = np.flatnonzero(np.abs(error - share) == np.abs(error - share).min())[-1]
    return float(scores[order[best]])


class FishingServer(ServerPolicy):
    r"""Overwrites the last layer so that only records of one class, or only the ones that a sharp
    rule gets wrong, have a gradient.

    Class fishing (`share` None): only the class's own row is kept, all other logits are `offset`:

    .. math:: p_c \approx 0 \;\Rightarrow\; \partial \ell / \partial z = 0
        \text{ unless } y = c

    Feature fishing: the class's logit is :math:`\beta (w^T f - t)` with a steep :math:`\beta`, and the
    others are 0, so that the gradient is exactly zero for every record on its own class's side of t.
    The direction w separates the class in the auxiliary records' features f, and t leaves about the
    share `share` of them on the wrong side: one record of a batch.

    Args:
        target: the class; None: the rarest among the auxiliary records.
        share: of records that shall have a gradient; None: class fishing.
        offset: logit of the other classes in class fishing.
    """

    version = 1
    paper = "Wen et al. 2022, Fishing for User Data in Large-Batch Federated Learning via Gradient Magnification, ICML"

    def __init__(
        self, *, target: int | None = None, share: float | None = 0.1, offset: float = 1e3
    ):
        self.target = target
        self.share = share
        self.offset = offset

    def invalid_parameters(self) -> list[str]:
        found = [] if self.target is None else whole("target", self.target, least=0)
        if self.share is not None:
            found += number("share", self.share, above=0, most=1)
        return found + number("offset", self.offset, above=0)

    def module(self, model: Any, *, client: int, knowledge: Knowledge) -> Any:
        import torch

        records = knowledge.auxiliary
        if records is None or records.y.ndim != 1:
            raise NotApplicable("FishingServer needs auxiliary records with one label each")
        n_outputs = knowledge.problem.n_outputs
        counts = np.bincount(records.y, minlength=n_outputs)
        c = int(counts.argmin()) if self.target is None else self.target
        if c >= n_outputs:
            raise NotApplicable(f"FishingServer target {c}: there are {n_outputs} classes")
        changed = copy.deepcopy(model).eval()
        layer = _last_linear(changed)
        if self.share is None:
            row, own, others = layer.weight[c].detach().clone(), layer.bias[c].item(), self.offset
        else:
            f, _, _ = _whitebox.last_layer(changed, records.x, n_outputs)
            w = discriminant(f, records.y == c)
            t = cutoff(f @ w, records.y == c, self.share)
            row, own, others = torch.from_numpy(SHARP * w), -SHARP * t, 0.0
        with torch.no_grad():
            layer.weight.zero_()
            layer.weight[c] = row
            layer.bias.fill_(others)
            layer.bias[c] = own
        return changed

    def kept(self, update: Mapping[str, np.ndarray]) -> None:
        """Gradients under the changed last layer train nothing."""
        return None


def _last_linear(network: Any) -> Any:
    from torch import nn

    layers = [m for m in network.modules() if isinstance(m, nn.Linear) and m.bias is not None]
    if not layers:
        raise NotApplicable("FishingServer: the network has no last linear layer with a bias")
    return layers[-1]


class _Single(Sequence):
    """Messages treated as those of the single fished record; loaded one at a time."""

    def __init__(self, observations: Sequence[Observation]):
        self._observations = observations

    def __len__(self) -> int:
        return len(self._observations)

    def __getitem__(self, index: int) -> Observation:
        seen = self._observations[index]
        update = {name: seen.n_records * np.asarray(v) for name, v in seen.update.items()}
        return replace(seen, n_records=1, update=update)


class Fishing(Attack):
    """Takes a message under a `FishingServer` for the gradient of one record, and hands it on.

    The record's label is that of the negative bias gradient; the other records stay the prior guess.

    Args:
        inner: the attack on a single record: `LinearLayer` where the network begins with a fully
            connected layer, else one that optimises.
    """

    version = 2
    requires = ThreatModel(
        goal="reconstruction",
        access="aggregate",
        knowledge=("architecture", "auxiliary"),
        adversary="server",
        conduct="malicious",
    )
    paper = "Wen et al. 2022, Fishing for User Data in Large-Batch Federated Learning via Gradient Magnification, ICML"

    def __init__(self, *, inner: Attack):
        self.inner = inner

    @property
    def first_layer(self) -> str:
        """What the inner attack can read."""
        return self.inner.first_layer

    def invalid_parameters(self) -> list[str]:
        return self.inner.invalid_parameters()

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return one_class("Fishing", problem) + list(
            self.inner.incompatibilities(problem, knowledge)
        )

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self.inner.fit(release, knowledge)

    def run(self, release: Release, challenge: ReconstructionChallenge) -> np.ndarray:
        single = _Single(release.view("aggregate"))
        n_outputs = self._knowledge.problem.n_outputs
        labels = tuple(
            np.array([single_label(readable_bias(single[int(i)], n_outputs))])
            for i in challenge.indices
        )
        ones = np.ones(len(challenge), dtype=np.int64)
        found = self.inner.run(
            release.replaced(aggregate=single),
            ReconstructionChallenge(challenge.indices, ones, challenge.in_shape, labels),
        )
        most = max(map(int, challenge.n_records), default=0)
        images = np.zeros((len(challenge), most, *challenge.in_shape), dtype=np.float32)
        prior = prior_guess(self._knowledge.auxiliary, challenge.in_shape)
        for t, n in enumerate(challenge.n_records):
            images[t, :n] = completed(found[t], int(n), prior)
        return images

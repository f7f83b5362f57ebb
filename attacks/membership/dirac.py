"""A white-box audit of DP-SGD with canaries that live in the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from medleak.api import (
    Attack,
    Backward,
    Challenge,
    ConfigError,
    GradientRule,
    NotApplicable,
    PoisoningPolicy,
    ProblemSpec,
    Records,
    Release,
    Step,
    ThreatModel,
    Trainer,
)
from medleak.core.keys import rng_for
from medleak.defenses.train._recipes import changed, number

KIND = "dirac"
FACT = "dirac"
UNCLIPPED = "Dirac canaries need clipped gradients: train slot dp_sgd"


class DiracCanaries(PoisoningPolicy):
    r"""Replaces a share of the natural patients by canaries in the gradient.

    The gradient of canary j is :math:`C e_{k(j)}`, as long as the clip C allows, along a coordinate
    of its own among all trainable parameters. A member canary joins each batch by its own coin of
    DP-SGD's rate q, as one unit of the promise (a record, or a patient) does, so that the adversary
    who sees the noised sum G of every step hears

    .. math:: s_j = \frac1C \sum_{t=1}^T \langle G_t, e_{k(j)} \rangle
              \sim Bin(T, q)\,[j \text{ is a member}] + N(0, \sigma^2 T)

    plus what the other records' gradients say along that coordinate.

    The canary enters behind the clip and by a coin of its own. The audit therefore tests noise, rate,
    number of steps and accountant; that records are clipped one by one, and that the sampler draws as
    it says, is for other tests. Utility is that of the model with the canaries in it.

    Args:
        share: of the natural patients; other kinds of canary stay what they are.
        seed: of who is chosen, and of the coordinates, the same in all runs.
    """

    version = 1
    exposes = ("updates",)

    def __init__(self, *, share: float = 0.25, seed: int = 0):
        self.share = share
        self.seed = seed

    def invalid_parameters(self) -> list[str]:
        good = number(self.share) and 0 < self.share < 1
        return [] if good else [f"share {self.share!r} must lie between 0 and 1"]

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        """Why nothing can be planted in what `trainer` learns from; it is under its defense."""
        return [] if clips(trainer) else [UNCLIPPED]

    def marked(self, challenge: Challenge) -> Challenge:
        names, inverse = np.unique(challenge.patients, return_inverse=True)
        draws = np.array([rng_for("dirac", self.seed, int(p)).random() for p in names])
        chosen = (draws < self.share)[inverse] & (challenge.kind == "natural")
        return Challenge(challenge.records, np.where(chosen, KIND, challenge.kind))

    def poison(
        self, trainer: Trainer, challenge: Challenge, member: np.ndarray, *, seed: int
    ) -> tuple[Trainer, Records]:
        """The trainer with canaries in its gradient, and the member records less the canaries'.

        Raises:
            NotApplicable: see `incompatibilities`.
        """
        planted = challenge.kind == KIND
        records = challenge.records.take(member & ~planted)
        if not planted.any():
            return trainer, records
        if not clips(trainer):
            raise NotApplicable(UNCLIPPED)
        patients, first = np.unique(challenge.patients[planted], return_index=True)
        canaries = Canaries(patients, member[planted][first], trainer.sampler.q, self.seed)
        return changed(trainer, gradient=Planted(trainer.gradient, canaries)), records

    def seen(self, facts: Mapping[str, Any]) -> Mapping[str, Any]:
        """The view "updates": "patients" and "sums" of the canaries, ``(K,)`` each."""
        if FACT not in facts:
            return {}
        return {"updates": {name: np.array(facts[FACT][name]) for name in ("patients", "sums")}}


class Dirac(Attack):
    r"""Along its canary's coordinate, a member is heard in every step that it joins.

    .. math:: s_j = \frac1C \sum_{t=1}^T \langle G_t, e_{k(j)} \rangle

    of the noised gradient sums G; see `DiracCanaries`, which plants them. Only the canaries in `kinds`
    are asked about: whoever has no coordinate scores minus infinity.
    """

    version = 1
    requires = ThreatModel(
        goal="membership",
        access="updates",
        knowledge=("architecture",),
        adversary="server",
        conduct="poisoning",
    )
    paper = "Steinke et al. 2023, Privacy Auditing with One (1) Training Run, NeurIPS"
    kinds: ClassVar[tuple[str, ...]] = ("dirac",)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        seen = release.view("updates")
        heard = dict(zip(seen["patients"].tolist(), seen["sums"].tolist(), strict=True))
        return np.array([heard.get(int(p), -np.inf) for p in challenge.patients])


# --------------------------------------------------------------------------- what is trained with


class Canaries:
    """K canaries: whose place they take, which of them are members, and how often those join.

    Args:
        patients: ``(K,)``.
        member: ``(K,)`` bool.
        q: probability that a member joins a step.
        seed: of the coordinates.
    """

    def __init__(self, patients: np.ndarray, member: np.ndarray, q: float, seed: int):
        self.patients, self.member, self.q, self.seed = patients, member, q, seed

    def __len__(self) -> int:
        return len(self.patients)

    def joining(self, rng: np.random.Generator) -> np.ndarray:
        """Who is in a batch, ``(K,)`` bool; a coin each, so that one's membership moves no other's."""
        return self.member & (rng.random(len(self)) < self.q)

    def coordinates(self, size: int) -> np.ndarray:
        """A coordinate of 0..size-1 for each, all different and spread evenly, ``(K,)``.

        Raises:
            ConfigError: fewer coordinates than canaries.
        """
        if size < len(self):
            raise ConfigError(
                f"{len(self)} Dirac canaries need a parameter each, the model has {size}"
            )
        rng = rng_for("coordinates", self.seed)
        steps = np.arange(len(self)) * size + int(rng.random() * size)
        return rng.permutation(steps // len(self))


class Planted(GradientRule):
    """A private gradient rule that sums canaries, too, and remembers what is heard of each.

    Every call adds what a clipped record would have: the noise is in the sum already, and sums commute.
    """

    def __init__(self, inner: GradientRule, canaries: Canaries):
        self.inner, self.canaries = inner, canaries
        self._sums = np.zeros(len(canaries))

    @property
    def facts(self) -> Mapping[str, Any]:
        told = {"patients": self.canaries.patients.tolist(), "sums": self._sums.tolist()}
        return {**self.inner.facts, FACT: told}

    def innermost(self) -> GradientRule:
        return self.inner.innermost()

    @contextmanager
    def attached(self, model: Any, loss: Any, seed: int) -> Iterator[Backward]:
        """`inner`'s backward function, then the canaries'.

        Raises:
            ConfigError: the model has too few parameters, or as `inner`.
        """
        private = self.inner.innermost()
        parameters = [p for p in model.parameters() if p.requires_grad]
        places = list(located(parameters, self.canaries))
        rng = rng_for("joining", seed)
        self._sums = np.zeros(len(self.canaries))

        with self.inner.attached(model, loss, seed) as backward:

            def planted(x: Any, y: Any) -> Any:
                mean = backward(x, y)
                joining = self.canaries.joining(rng) * (private.clip / private.expected_batch)
                for p, who, where in places:
                    p.grad[where] += p.grad.new_tensor(joining[who])
                    heard = p.grad[where].double().cpu().numpy()
                    self._sums[who] += heard * (private.expected_batch / private.clip)
                return mean

            yield Step(planted, backward)


def clips(trainer: Trainer) -> bool:
    """Whether `trainer` draws Poisson batches and clips their records' gradients."""
    sampler, rule = trainer.sampler, trainer.gradient
    if sampler is None or rule is None:
        return False
    return sampler.poisson and rule.innermost().clips


def located(parameters: list[Any], canaries: Canaries) -> Iterator[tuple[Any, np.ndarray, Any]]:
    """``parameter, canaries in it, index of their coordinates`` for each that has some."""
    import torch

    sizes = [p.numel() for p in parameters]
    flat = canaries.coordinates(sum(sizes))
    for p, end, size in zip(parameters, np.cumsum(sizes), sizes, strict=True):
        who = np.flatnonzero((flat >= end - size) & (flat < end))
        if len(who):
            inside = torch.from_numpy(flat[who] - (end - size)).to(p.device)
            yield p, who, torch.unravel_index(inside, p.shape)

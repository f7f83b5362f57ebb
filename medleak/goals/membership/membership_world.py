"""A synthetic membership world: a fake target that leaks as much as asked. NumPy only, no training.

Torch is imported where an attack asks for a network, and only then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from medleak.api import (
    Challenge,
    Knowledge,
    MembershipTruth,
    ProblemSpec,
    Records,
    Release,
    Shadow,
    Task,
    multiclass,
    task_of,
)

WIDTH = 0.1
"""Of the bump around each record that a model was fitted on, squared: wide enough that the boundary
is further from members, too narrow for most neighbours to profit."""

N_OUTPUTS = 3
"""Classes, or labels, of every world."""


@dataclass
class _Model:
    """A smooth linear model that adds `leak` to the true logit of the records it was fitted on.

    It knows its records by the mean of each row of pixels, so that mirror images leak as well. Where labels
    lie on the pixels it knows them by that of each column, and answers a mirror image with the mirrored
    answer.
    """

    weight: np.ndarray
    centres: np.ndarray
    pull: np.ndarray
    task: Task
    shape: tuple[int, ...]

    def scores(self, x: np.ndarray) -> np.ndarray:
        z = self._logits(x)
        if self.task.spatial:
            z = z + self._logits(x[..., ::-1])[..., ::-1]
        return self.task.log_probabilities(z)

    def _logits(self, x: np.ndarray) -> np.ndarray:
        marks = _marks(x, self.task.spatial)
        distance = (
            (marks**2).sum(1)[:, None] + (self.centres**2).sum(1) - 2 * marks @ self.centres.T
        )
        z = _features(x) @ self.weight + np.exp(-np.maximum(distance, 0) / WIDTH) @ self.pull
        return z.reshape(len(x), *self.shape)

    def release(self) -> Release:
        head = np.concatenate([self.weight, self.pull]).T
        weights = {"centres": self.centres, "head.weight": head}
        views = {"scores": self.scores, "labels": self._labels, "weights": weights}
        return Release(views)

    def _labels(self, x: np.ndarray) -> np.ndarray:
        return self.task.predictions(self.scores(x))


def _standardised(x: np.ndarray) -> np.ndarray:
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return (x / scale - 0.5) * np.sqrt(12)


def _features(x: np.ndarray) -> np.ndarray:
    return _standardised(x).reshape(len(x), int(np.prod(x.shape[1:])))


def _marks(x: np.ndarray, spatial: bool) -> np.ndarray:
    """By what a model knows its records: means of rows of pixels, of columns, or a table's own values."""
    values = _standardised(x)
    means = values.mean(axis=-2 if spatial else -1) if x.ndim == 4 else values
    return means.reshape(len(x), int(np.prod(means.shape[1:])))


def _network(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    spatial: bool,
    members: int,
    weights: Mapping[str, np.ndarray] | None,
) -> Any:
    """`_Model` as an ``nn.Module`` of images in 0..1 or tables: its last step is linear in the
    features and the bumps. `weights` None: as initialised, with `members` bumps."""
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self, marks: int, members: int):
            super().__init__()
            self.centres = nn.Parameter(torch.empty(members, marks))
            self.head = nn.Linear(
                int(np.prod(in_shape)) + members, int(np.prod(out_shape)), bias=False
            )
            self.reset_parameters()

        def reset_parameters(self) -> None:
            nn.init.normal_(self.centres)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.logits(x)
            return z + self.logits(x.flip(-1)).flip(-1) if spatial else z

        def logits(self, x: torch.Tensor) -> torch.Tensor:
            values = (x - 0.5) * np.sqrt(12)
            image = values.ndim == 4
            marks = values.mean(dim=-2 if spatial else -1).flatten(1) if image else values
            distance = (
                (marks**2).sum(1)[:, None] + (self.centres**2).sum(1) - 2 * marks @ self.centres.T
            )
            bumps = torch.exp(-distance.clamp(min=0) / WIDTH)
            answer = self.head(torch.cat([values.flatten(1), bumps], dim=1))
            return answer.reshape(len(x), *out_shape)

    sides = in_shape[:1] + in_shape[2:] if spatial else in_shape[:2]
    marks = int(np.prod(sides))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(marks, members if weights is None else len(weights["centres"]))
    if weights is not None:
        network.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()})
    return network.eval()


@dataclass(frozen=True)
class _World:
    """What all models of a world share; model 0 is the target, 1 the reference, then the shadows."""

    challenge: Records
    auxiliary: Records
    base: np.ndarray
    leak: float
    seed: int
    task: Task
    shape: tuple[int, ...]

    def model(self, index: int, pool: str) -> Shadow:
        rng = np.random.default_rng([self.seed, 1, index])
        records = self.challenge if pool == "audit" else self.auxiliary
        member = rng.random(len(records)) < 0.5
        y = records.y[member]
        pull = self.task.towards(y, N_OUTPUTS).reshape(len(y), self.base.shape[1])
        noise = 0.3 * rng.standard_normal(self.base.shape) / np.sqrt(len(self.base))
        order = rng.permutation(len(y))
        centres = _marks(records.x[member], self.task.spatial)[order]
        if not self.leak:
            centres = rng.standard_normal(centres.shape)  # else the weights would tell
        leaks = self.leak * pull[order]
        model = _Model(self.base + noise, centres, leaks, self.task, self.shape)
        nobody = np.zeros(len(self.auxiliary if pool == "audit" else self.challenge), dtype=bool)
        inside = (member, nobody) if pool == "audit" else (nobody, member)
        return Shadow(*inside, model.release())


@dataclass(frozen=True)
class Pool:
    """Shadows that are made again at each pass."""

    make: Callable[[int], Shadow]
    n: int

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Shadow]:
        return (self.make(index) for index in range(self.n))


def membership_world(
    *,
    leak: float,
    seed: int = 0,
    n: int = 500,
    n_shadows: int = 16,
    pool: str = "audit",
    task: str = multiclass.name,
    in_shape: tuple[int, ...] = (1, 8, 8),
) -> tuple[Release, Challenge, MembershipTruth, Knowledge]:
    """A fake target with a given leak, and shadows with the same leak; NumPy only.

    Each model answers a smooth function of the record plus `leak` on the true logit of the records,
    and their mirror images, that it was fitted on. At ``leak=0`` nothing depends on membership.

    Args:
        leak: size of the planted leak, in logits.
        seed: of records and models.
        n: challenge records, one per patient, each a member with probability 1/2; and as many
            auxiliary ones.
        n_shadows: 0 gives `Knowledge.shadows` None.
        pool: "audit" or "auxiliary": what shadows and reference are fitted on.
        task: three classes, three labels, or three classes of each pixel.
        in_shape: of one record: ``(C, H, W)`` uint8 images or ``(F,)`` float32 tables.

    Returns:
        The release (views labels, scores and weights), the challenge, the truth, and the knowledge,
        with auxiliary records, shadows, a reference model and the network.
    """
    rng = np.random.default_rng([seed, 0])
    asked = task_of(task)
    shape = asked.output_shape(N_OUTPUTS, in_shape)
    size, outputs = int(np.prod(in_shape)), int(np.prod(shape))
    base = 0.7 * rng.standard_normal((size, outputs)) / np.sqrt(size)

    def records(first: int) -> Records:
        image = len(in_shape) == 3
        x = rng.integers(0, 256, (n, *in_shape), dtype=np.uint8) if image else rng.random(
            (n, *in_shape), dtype=np.float32
        )  # fmt: skip
        z = _features(x) @ base
        y = asked.drawn(z.reshape(n, *shape), rng)
        return Records(x, y, np.arange(first, first + n), {})

    world = _World(records(0), records(n), base, leak, seed, asked, shape)
    target = world.model(0, "audit")
    problem = ProblemSpec(
        n_records=n // 2,
        n_patients=n // 2,
        max_records=1,
        in_shape=in_shape,
        n_outputs=N_OUTPUTS,
        task=task,
    )
    knowledge = Knowledge(
        problem,
        auxiliary=world.auxiliary,
        shadows=Pool(lambda k: world.model(k + 2, pool), n_shadows) if n_shadows else None,
        pool=pool,
        rng=np.random.default_rng([seed, 2]),
        reference=world.model(1, pool),
        network=partial(_network, in_shape, shape, asked.spatial, n // 2),
    )
    challenge = Challenge(world.challenge, np.full(n, "natural"))
    return target.release, challenge, MembershipTruth(target.member), knowledge

"""BREP-MI: label-only inversion that moves points away from the decision boundary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from medleak.api import Component, NotApplicable, ProblemSpec, ThreatModel
from medleak.attacks._arguments import number, whole
from medleak.attacks.model_inversion._base import ModelInversion
from medleak.attacks.model_inversion._priors import Prior
from medleak.attacks.model_inversion._selection import AsDrawn, Confident

if TYPE_CHECKING:
    from torch import Tensor

LARGEST_STEP = 3.0


class BREPMI(ModelInversion):
    r"""Boundary repulsion: steps away from the points of a sphere that have another label.

    .. math:: z \leftarrow \mathrm{clip} \Big( z - \min(r / 3, 3) \, \frac1N \sum_{n \in O} u_n \Big),
        \qquad O = \{n : \hat y(x(z + r u_n)) \ne t\}

    with N directions u on the unit sphere, drawn again each time. Where the share of points that have
    the label reaches `agree`, the sphere has room: the centre is remembered and r grows. A step that
    leaves the class is not taken. The answer is the centre of the largest sphere that had room, or the
    last centre where none had. A start is any of `pool` points of the prior whose label is the class;
    where there is none, the class's answer is a point as drawn.

    Queries: `pool`, one for each start, then N + 1 for each iteration of each image. All images take
    equal turns, and no turn begins that the budget does not pay for.

    Args:
        prior: where images are searched for.
        pool: points that are drawn and queried for the starts, once for all classes.
        points: N.
        radius: of the first sphere.
        growth: factor on the radius.
        agree: share of the points; 1 as in the paper, 3/4 in the authors' code.
        iterations: most of each image.
        patience: iterations at one radius after which an image is left alone.
    """

    version = 1
    requires = ThreatModel(
        goal="inversion",
        access="labels",
        knowledge=("auxiliary",),
        adversary="outsider",
        conduct="honest-but-curious",
    )
    paper = "Kahla et al. 2022, Label-Only Model Inversion Attacks via Boundary Repulsion, CVPR"

    last = AsDrawn()
    starts = 1

    def __init__(
        self,
        *,
        prior: Prior,
        pool: int = 1000,
        points: int = 32,
        radius: float = 2.0,
        growth: float = 1.3,
        agree: float = 0.75,
        iterations: int = 60,
        patience: int = 1000,
    ):
        self.prior = prior
        self.pool = pool
        self.points = points
        self.radius = radius
        self.growth = growth
        self.agree = agree
        self.iterations = iterations
        self.patience = patience

    @property
    def first(self) -> Confident:
        """Points whose label is the class come first."""
        return Confident(pool=self.pool, views=0)

    def parts(self) -> list[tuple[str, object, type[Component]]]:
        return [("prior", self.prior, Prior)]

    def invalid_parameters(self) -> list[str]:
        found = super().invalid_parameters()
        for name in ("pool", "points", "iterations", "patience"):
            found += whole(name, getattr(self, name))
        found += number("radius", self.radius, above=0) + number("growth", self.growth, above=1)
        return found + number("agree", self.agree, above=0, most=1)

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        found, budget = super().incompatibilities(problem, knowledge), knowledge.get("budget")
        least = self.pool + self.points + 2
        if budget is not None and budget < least:
            found.append(
                f"budget {budget} is less than {least}: {self.pool} of the pool and "
                f"{self.points + 2} for one iteration of one image"
            )
        return found

    def improve(self, z: Tensor, classes: Tensor) -> Tensor:
        self._afford(len(z))
        z, best = z.clone(), z.clone()
        radius, tried = z.new_full((len(z),), self.radius), z.new_zeros(len(z))
        roomy, going = z.new_zeros(len(z)).bool(), self._seen(z, classes).nonzero().flatten()
        for i in range(self.iterations):
            left = self._state.oracle.left
            if not len(going) or (left is not None and left < len(going) * (self.points + 1)):
                break
            moved, room = self._turn(z[going], radius[going], classes[going])
            z[going] = moved
            wide = going[room]
            best[wide], roomy[wide] = z[wide], True
            radius[wide] *= self.growth
            tried[going] += 1
            tried[wide] = 0
            going = going[tried[going] < self.patience]
            self._knowledge.progress((i + 1) / self.iterations)
        return best.where(roomy[:, None], z)

    def _turn(self, z: Tensor, radius: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """One iteration of rows that lie in their class: where they go, and whether there was room."""
        import torch

        u = torch.from_numpy(
            self._state.rng.standard_normal((len(z), self.points, z.shape[1]), dtype=np.float32)
        )
        u = u / u.norm(dim=2, keepdim=True)
        around = (z[:, None] + radius[:, None, None] * u).flatten(0, 1)
        inside = self._seen(around, classes.repeat_interleave(self.points)).view(len(z), -1)
        moved = self._state.decoder.clip(repelled(z, u, inside, radius))
        stays = ~self._seen(moved, classes)
        moved[stays] = z[stays]
        return moved, inside.float().mean(dim=1) >= self.agree

    def _seen(self, z: Tensor, classes: Tensor) -> Tensor:
        """Whether the target gives each point its class, ``(n, dim)``, ``(n,)`` -> ``(n,)`` bool."""
        return self._state.oracle.labels(self._state.decoder.decode(z, classes)) == classes

    def _afford(self, n: int) -> None:
        left, least = self._state.oracle.left, n * (self.points + 2)
        if left is not None and left < least:
            raise NotApplicable(
                f"{least} queries are needed for one iteration of {n} images, and {left} of the "
                f"budget are left"
            )


def repelled(z: Tensor, u: Tensor, inside: Tensor, radius: Tensor) -> Tensor:
    """Centres moved away from the points of their spheres that lie outside the class.

    Shapes: ``(n, dim)``, unit directions ``(n, N, dim)``, ``(n, N)`` bool, ``(n,)`` -> ``(n, dim)``.
    """
    away = -(u * ~inside[:, :, None]).mean(dim=1)
    return z + (radius / 3).clamp_max(LARGEST_STEP)[:, None] * away

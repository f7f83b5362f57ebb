"""The loss-trajectory attack by distillation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np

from medleak.api import (
    Attack,
    Challenge,
    Knowledge,
    MedleakError,
    ProblemSpec,
    Records,
    Release,
    ThreatModel,
    task_of,
)
from medleak.api.scores import zero_floor
from medleak.attacks._arguments import choice, number, whole
from medleak.attacks._whitebox import inputs, training
from medleak.attacks.membership._queries import inside
from medleak.attacks.membership._shadows import too_few
from medleak.attacks.membership._supervised import CLASSIFIERS, learned


class LossTrajectory(Attack):
    r"""A classifier on the losses along a distillation of the target.

    A student of the same architecture is trained on auxiliary records towards the target's scores;
    what it says of a record after each of E epochs retraces how the target learned:

    .. math:: t(x, y) = (\phi_{S_1}(x, y), ..., \phi_{S_E}(x, y), \phi_T(x, y))

    with the loss as a logit, :math:`\phi = \log p_y - \log \sum_{j \ne y} p_j` (cross-entropy is
    :math:`\log(1 + e^{-\phi})`), for each label of a multi-label task. The classifier is learned on the
    trajectories of shadows that are distilled likewise, and its log-odds (logistic regression) or
    probability (neural network) is the score.

    Students see no record on which a shadow's trajectory is learned, as they see none of the
    challenge: with ``pool=audit`` shadows are watched on challenge records and distilled on all
    auxiliary ones; with ``pool=auxiliary`` a shadow is distilled on half of the auxiliary records that
    it was not trained on, and watched on the others. All students get equally many records, the same
    initial weights and the same batches.

    Args:
        epochs: of each distillation, E.
        n_distilled: shadows that are distilled, the first ones: each costs E epochs of training.
        batch_size, lr: of the distillation (Adam).
        classifier: "logistic" (regression) or "mlp" (one hidden layer of 64, as in the paper).

    Raises:
        MedleakError: too few auxiliary records, or a budget that leaves none to distil on.
    """

    version = 2
    requires = ThreatModel(
        goal="membership",
        access="scores",
        knowledge=("architecture", "auxiliary", "labels", "shadows"),
    )
    paper = "Liu et al. 2022, Membership Inference Attacks by Exploiting Loss Trajectory, CCS"

    def __init__(
        self,
        *,
        epochs: int = 10,
        n_distilled: int = 2,
        batch_size: int = 64,
        lr: float = 0.001,
        classifier: Literal["logistic", "mlp"] = "logistic",
    ):
        self.epochs = epochs
        self.n_distilled = n_distilled
        self.batch_size = batch_size
        self.lr = lr
        self.classifier = classifier

    def invalid_parameters(self) -> list[str]:
        names = ("epochs", "n_distilled", "batch_size")
        found = [fault for name in names for fault in whole(name, getattr(self, name))]
        found += number("lr", self.lr, above=0)
        return found + choice("classifier", self.classifier, CLASSIFIERS)

    def incompatibilities(self, problem: ProblemSpec, knowledge: Mapping[str, Any]) -> list[str]:
        return too_few(knowledge, self.n_distilled, f"distilling {self.n_distilled}")

    def fit(self, release: Release, knowledge: Knowledge) -> None:
        self._knowledge, self._task = knowledge, task_of(knowledge.problem.task)

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        knowledge = self._knowledge
        chosen = list(itertools.islice(knowledge.shadows, self.n_distilled))
        parts = list(self._parts(chosen, challenge))
        n = self._size(parts, len(challenge))
        seed = int(knowledge.rng.integers(2**32))
        drawn = np.sort(knowledge.rng.permutation(len(knowledge.auxiliary))[:n])
        own = self._trajectory(release, knowledge.auxiliary.take(drawn), challenge.records, seed)
        seen, members = [], []
        for done, (shadow, (taught, observed_by, member)) in enumerate(
            zip(chosen, parts, strict=True), start=1
        ):
            taught = taught.take(np.sort(knowledge.rng.permutation(len(taught))[:n]))
            seen.append(self._trajectory(shadow.release, taught, observed_by, seed))
            members.append(member)
            knowledge.progress(done / len(chosen))
        learn = learned(self.classifier, np.concatenate(seen), np.concatenate(members), seed=seed)
        return learn(own)

    def _parts(
        self, chosen: list, challenge: Challenge
    ) -> Iterator[tuple[Records, Records, np.ndarray]]:
        """For each shadow: records to distil on, records to watch, and which of these it saw."""
        auxiliary = self._knowledge.auxiliary
        if auxiliary is None or not len(auxiliary):
            raise MedleakError("LossTrajectory: the target has no auxiliary records to distil on")
        for shadow in chosen:
            member = inside(self._knowledge, shadow)
            if self._knowledge.pool == "audit":
                yield auxiliary, challenge.records, member
                continue
            outside = self._knowledge.rng.permutation(np.flatnonzero(~member))
            taught = np.isin(np.arange(len(member)), outside[: len(outside) // 2])
            yield auxiliary.take(taught), auxiliary.take(~taught), member[~taught]

    def _size(self, parts: list, n_challenge: int) -> int:
        """How many records every student is taught on: what all have, and the budget pays for."""
        n = min(len(self._knowledge.auxiliary), *(len(taught) for taught, _, _ in parts))
        if self._knowledge.budget is not None:
            n = min(n, self._knowledge.budget - n_challenge)
        if n < 1:
            raise MedleakError("LossTrajectory: no auxiliary record is left to distil on")
        return n

    def _trajectory(
        self, release: Release, taught: Records, observed_by: Records, seed: int
    ) -> np.ndarray:
        """Logit scores after each epoch and of the release itself, ``(N, (E + 1) L)``."""
        towards, final = release.scores(taught.x), release.scores(observed_by.x)
        task = self._task
        phi = [
            task.logit_score(task.log_probabilities(z), observed_by.y)
            for z in self._distilled(np.exp(towards), taught.x, observed_by.x, seed)
        ]
        return np.concatenate(
            [*phi, task.logit_score(final, observed_by.y, floor=zero_floor(final))], axis=1
        )

    def _distilled(
        self, p: np.ndarray, taught: np.ndarray, observed_by: np.ndarray, seed: int
    ) -> list[np.ndarray]:
        """The student's answers to `observed_by` after each epoch of training on `taught` towards `p`."""
        import torch

        with training(seed):
            student = self._knowledge.network(None)
            fresh(student)
            optimizer = torch.optim.Adam(student.parameters(), lr=self.lr)
            x, target = inputs(taught), torch.from_numpy(p).float()
            seen, answers = inputs(observed_by), []
            for _ in range(self.epochs):
                student.train()
                for batch in torch.randperm(len(x)).split(self.batch_size):
                    optimizer.zero_grad()
                    self._task.soft_losses(student(x[batch]), target[batch]).mean().backward()
                    optimizer.step()
                student.eval()
                with torch.inference_mode():
                    answers.append(torch.cat([student(s) for s in seen.split(512)]).numpy())
        return answers


def fresh(network: Any) -> None:
    """Draw the weights again from torch's generator, where a module knows how to."""
    for module in network.modules():
        if callable(getattr(module, "reset_parameters", None)):
            module.reset_parameters()

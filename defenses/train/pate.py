"""PATE: teachers on disjoint patients vote, with noise, on public records; a student learns from it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from medleak.api import (
    ConfigError,
    Defense,
    Guarantee,
    ProblemSpec,
    Records,
    Trained,
    Trainer,
    task_of,
)
from medleak.core.keys import rng_for, seed_for
from medleak.core.suggestions import unknown
from medleak.defenses.train import accounting
from medleak.defenses.train._recipes import number, refuse, whole

POSITIVE = ("epsilon", "sigma", "delta")


class Spent(NamedTuple):
    """The noise on each count of votes, and its price."""

    epsilon: float
    delta: float
    sigma: float
    answers: int
    accountant: str


class PATE(Defense):
    """Releases a student that has seen only public records, labelled by a noisy vote of teachers.

    Each member patient belongs to one teacher, trained by the recipe on that teacher's patients
    alone. A public record gets the label ``argmax_c (votes_c + N(0, sigma^2))`` (GNMax), and the
    student is trained on them by the same recipe. Multi-label: each label is a vote between absent
    and present.

    One patient more or less changes the vote of one teacher: the counts move by at most ``sqrt(2)``
    in L2, so that T answers are T Gaussian mechanisms of noise multiplier ``sigma / sqrt(2)``,
    whatever the data (Rényi: ``T order / sigma^2``), composed by a privacy loss distribution. The
    smaller, data-dependent price of the paper is not claimed: it is itself private.

    The public records are the first `queries` of the *validation* patients, who are nobody's
    members; their own labels only tell how many votes were right. The recipe must therefore not stop
    early.

    Args:
        epsilon: target budget; sigma is calibrated to it.
        sigma: standard deviation of the noise on each count, in place of `epsilon`.
        delta: None is ``1 / (10 n)``, n the expected number of member patients.
        teachers: their number; each patient draws one, whoever else is there.
        group: column of subgroups (such as "site") in place of `teachers`: one teacher for each value
            among the members; a patient's records all go where the first of them belongs.
        queries: public records that are labelled.

    Papers: Papernot et al., Semi-supervised Knowledge Transfer for Deep Learning from Private
    Training Data, ICLR 2017; Papernot et al., Scalable Private Learning with PATE, ICLR 2018.
    """

    slot = "train"
    version = 1
    paper = "Papernot et al., Scalable Private Learning with PATE, ICLR 2018"
    reads_validation = True
    reads_groups = True

    def __init__(
        self,
        *,
        epsilon: float | None = None,
        sigma: float | None = None,
        delta: float | None = None,
        teachers: int | None = None,
        group: str | None = None,
        queries: int = 100,
    ):
        self.epsilon = epsilon
        self.sigma = sigma
        self.delta = delta
        self.teachers = teachers
        self.group = group
        self.queries = queries

    def invalid_parameters(self) -> list[str]:
        found = [
            f"{name} must be a positive finite number, not {value!r}"
            for name in POSITIVE
            if (value := getattr(self, name)) is not None and not (number(value) and value > 0)
        ]
        if number(self.delta) and self.delta >= 1:
            found.append(f"delta must be below 1, not {self.delta!r}")
        if (self.epsilon is None) == (self.sigma is None):
            found.append(
                "exactly one of epsilon and sigma is needed, not "
                f"epsilon={self.epsilon!r} and sigma={self.sigma!r}"
            )
        if (self.teachers is None) == (self.group is None):
            found.append(
                "exactly one of teachers and group is needed, not "
                f"teachers={self.teachers!r} and group={self.group!r}"
            )
        if self.teachers is not None and not whole(self.teachers, 1):
            found.append(f"teachers must be a whole number of at least 1, not {self.teachers!r}")
        if not whole(self.queries, 2):
            found.append(f"queries must be a whole number of at least 2, not {self.queries!r}")
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        reasons = []
        if trainer.sampler is not None:
            reasons.append(
                "the recipe's batches were drawn by a defense for all members at once: a teacher has "
                "only some of them"
            )
        if trainer.early_stopping is not None:
            reasons.append(
                "early_stopping with PATE: the validation records are the public ones here, and "
                "their labels stay unused"
            )
        if self.teachers is not None and self.teachers > problem.n_patients:
            reasons.append(
                f"{self.teachers} teachers for {problem.n_patients} expected member {_unit(problem)}s"
            )
        return reasons

    def guarantees(self, problem: ProblemSpec, trainer: Trainer) -> list[Guarantee]:
        spent = self._spent(problem)
        return [
            Guarantee(
                kind="dp",
                epsilon=spent.epsilon,
                delta=spent.delta,
                unit=_unit(problem),
                adjacency="add/remove",
                protects_from="anyone who sees the released student",
                assumptions=self._assumptions(problem),
                accountant=spent.accountant,
                mechanism={
                    "name": "poisson_gaussian",
                    "q": 1.0,
                    "sigma": spent.sigma / math.sqrt(2),
                    "steps": spent.answers,
                },
            )
        ]

    def apply(self, subject: Trainer, *, problem: ProblemSpec) -> Trainer:
        """A trainer that fits teachers and student by `subject`.

        Raises:
            ConfigError: any of the faults or refusals.
        """
        refuse(self, self.invalid_parameters())
        refuse(self, self.incompatibilities(problem, subject))
        return Ensemble(recipe=subject, defense=self)

    def _spent(self, problem: ProblemSpec) -> Spent:
        refuse(self, self.invalid_parameters())
        answers = self.queries * math.prod(_label_shape(problem))
        delta = 1 / (10 * problem.n_patients) if self.delta is None else float(self.delta)
        if self.epsilon is None:
            sigma = float(self.sigma)
            epsilon, accountant = accounting.epsilon_of(sigma / math.sqrt(2), delta, 1.0, answers)
        else:
            epsilon = float(self.epsilon)
            multiplier, accountant = accounting.calibrate(epsilon, delta, 1.0, answers)
            sigma = math.sqrt(2) * multiplier
        return Spent(epsilon, delta, sigma, answers, accountant)

    def ledger(self, problem: ProblemSpec) -> dict[str, Any]:
        """What a run says of the mechanism."""
        spent = self._spent(problem)
        return {
            "epsilon": spent.epsilon,
            "delta": spent.delta,
            "sigma": spent.sigma,
            "answers": spent.answers,
            "accountant": spent.accountant,
        }

    def _assumptions(self, problem: ProblemSpec) -> tuple[str, ...]:
        drawn = (
            "each patient's teacher is drawn without regard to who else is there"
            if self.group is None
            else f"a patient's records all belong to the '{self.group}' of the first of them"
        )
        return (
            f"one {_unit(problem)} trains one teacher: {drawn}",
            "the validation patients are public, unlabelled and unprotected",
            "only the student is released: teachers and votes stay hidden",
            "the expected number of members is public",
            "the noise is reproducible pseudo-random noise whose seed stays secret",
        )


class Ensemble(Trainer):
    """Fits teachers and a student, each by `recipe`; see `PATE`.

    Args:
        recipe: of every teacher and of the student.
        defense: the filling, with its settings.
    """

    version = 1

    def __init__(self, *, recipe: Trainer, defense: PATE):
        self.recipe = recipe
        self.defense = defense

    def incompatibilities(self, problem: ProblemSpec) -> list[str]:
        return self.recipe.incompatibilities(problem)

    def fewest_validation(self) -> int:
        return self.defense.queries

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
        """Fit `model`, the student, on public records; every teacher starts from the same weights.

        A teacher with fewer than two records abstains. `train_loss` and `train_accuracy` are the
        student's, on the labels that it was given.

        Raises:
            ConfigError: an unknown group column, or too few validation records.
        """
        public = self._public(validation)
        ledger = self.defense.ledger(problem)
        answers, trained = self._ask(model, records, public.x, problem, seed, device)
        labels = noisy_argmax(answers, ledger["sigma"], rng_for("votes", seed))
        lesson = Records(public.x, labels, public.patients, public.groups)
        student = self.recipe.fit(model, lesson, problem=problem, seed=seed, device=device)
        facts = {
            **student.facts,
            **ledger,
            "teachers": trained,
            "queries": len(public),
            "vote_accuracy": float((labels == public.y).mean()),
            "n_records": len(records),
            "n_patients": len(np.unique(records.patients)),
        }
        return Trained(student.model, facts)

    def _ask(
        self,
        model: Any,
        records: Records,
        x: np.ndarray,
        problem: ProblemSpec,
        seed: int,
        device: str,
    ) -> tuple[np.ndarray, int]:
        """Counts of votes on `x`, ``(N, C)``, ``(N, L, 2)`` or ``(N, H, W, K)``, and the number of teachers."""
        n_values = task_of(problem.task).n_values(problem.n_outputs)
        counts = np.zeros((len(x), *_label_shape(problem), n_values))
        trained = 0
        for name, own in self._parts(records, seed).items():
            if len(own) > 1:
                teacher = self.recipe.fit(
                    copy.deepcopy(model),
                    records.take(own),
                    problem=problem,
                    seed=seed_for("teacher", seed, name),
                    device=device,
                )
                labels = predicted(teacher.model, x, problem.task, device)
                counts += np.eye(counts.shape[-1])[labels]
                trained += 1
        return counts, trained

    def _public(self, validation: Records | None) -> Records:
        wanted, there = self.defense.queries, 0 if validation is None else len(validation)
        if there < wanted:
            raise ConfigError(
                f"PATE labels {wanted} validation records, there are {there}: raise "
                "target.split.n_validation or lower queries"
            )
        return validation.take(np.arange(wanted))

    def _parts(self, records: Records, seed: int) -> Mapping[Any, np.ndarray]:
        """Teacher -> positions of its records; a patient's teacher depends on nobody else."""
        patients, first, inverse = np.unique(
            records.patients, return_index=True, return_inverse=True
        )
        if self.defense.group is None:
            own = np.array(
                [seed_for("teacher of", seed, int(p)) % self.defense.teachers for p in patients]
            )
        elif self.defense.group in records.groups:
            own = records.groups[self.defense.group][first]
        else:
            raise ConfigError(unknown("group column", self.defense.group, records.groups))
        teacher = own[inverse]
        return {name: np.flatnonzero(teacher == name) for name in np.unique(own).tolist()}


def predicted(model: Any, x: np.ndarray, task: str, device: str) -> np.ndarray:
    """Labels of `model` for `x`, int64: classes ``(N,)``, 0/1 ``(N, L)``, or masks."""
    import torch

    from medleak.targets._training import EVALUATION_BATCH, Data

    records = Records(x, np.zeros(len(x), dtype=np.int64), np.arange(len(x)))
    model.eval()
    with torch.inference_mode():
        batches = Data.of(records, device).batches(EVALUATION_BATCH)
        z = torch.cat([model(batch) for batch, _ in batches]).float().cpu().numpy()
    return task_of(task).decided(z).astype(np.int64)


def noisy_argmax(counts: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """``argmax_c (counts_c + N(0, sigma^2))`` over the last axis; ties go to the first class."""
    return (counts + sigma * rng.standard_normal(counts.shape)).argmax(-1)


def _label_shape(problem: ProblemSpec) -> tuple[int, ...]:
    """Votes that label a record: each costs the budget once."""
    return task_of(problem.task).label_shape(problem.n_outputs, problem.in_shape)


def _unit(problem: ProblemSpec) -> str:
    """What membership is drawn by; where patients are unknown, each image is its own."""
    return "patient" if problem.unit == "patient" else "record"

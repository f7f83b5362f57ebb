"""Federated training: clients keep their records and send updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from medleak.api import (
    Aggregator,
    Defense,
    LocalTraining,
    NotApplicable,
    Observer,
    ProblemSpec,
    Records,
    Trained,
    Trainer,
    UpdateDefense,
    task_of,
)
from medleak.core.suggestions import unknown
from medleak.defenses.train._recipes import changed, number, refuse, whole

PARTITIONS = ("iid", "dirichlet", "natural")
ENGINES = ("lean", "flower")


class Federated(Defense):
    r"""Federated averaging over clients; with one local step it is FedSGD.

    In each round a share of the clients receives the model, takes `local_steps` plain gradient steps of
    rate `lr` on batches of its own records and returns the difference. The server steps along the mean
    over records, with momentum m:

    .. math::
        u_c = (\theta - \theta_c) / \eta, \qquad v \gets m v + \sum_c n_c u_c / \sum_c n_c, \qquad
        \theta \gets \theta - \eta v

    Patients, never single scans, belong to clients, and to the same ones whoever is a member. It is no
    defense by itself: the server sees each client's update.

    Args:
        n_clients: hospitals.
        rounds: messages that each may be asked for.
        local_steps, batch_size: of a client's work between two messages.
        lr: learning rate of the local steps.
        momentum: of the server.
        participation: share of the clients in each round, the same number each time.
        partition: "iid"; "dirichlet" (classes in Dirichlet(`alpha`) shares); "natural" (by `site`, a
            subgroup column of the data).
        alpha: of "dirichlet"; small is skewed.
        site: of "natural".
        observe: the first and the last so many rounds are kept, as an adversary sees them.
        dropout: share of a round's clients that vanish before their message arrives.
        deadline: seconds after which a client counts as stalled (None: never).
        engine: "lean", in this process, or "flower" (extra ``flower``): the same numbers over real
            messages; clients on the CPU, no dishonest server, and Ray is started for each model.

    Paper: McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized
    Data, AISTATS.
    """

    slot = "train"
    version = 1
    exposes = ("updates", "aggregate")
    makes = ("messages",)
    paper = "McMahan et al. 2017, Communication-Efficient Learning of Deep Networks, AISTATS"
    reads_groups = True

    def __init__(
        self,
        *,
        n_clients: int = 10,
        rounds: int = 200,
        local_steps: int = 1,
        batch_size: int = 8,
        lr: float = 0.05,
        momentum: float = 0.9,
        participation: float = 1.0,
        partition: Literal["iid", "dirichlet", "natural"] = "iid",
        alpha: float = 0.5,
        site: str = "site",
        observe: int = 2,
        dropout: float = 0.0,
        deadline: float | None = None,
        engine: Literal["lean", "flower"] = "lean",
    ):
        self.n_clients = n_clients
        self.rounds = rounds
        self.local_steps = local_steps
        self.batch_size = batch_size
        self.lr = lr
        self.momentum = momentum
        self.participation = participation
        self.partition = partition
        self.alpha = alpha
        self.site = site
        self.observe = observe
        self.dropout = dropout
        self.deadline = deadline
        self.engine = engine

    def invalid_parameters(self) -> list[str]:
        counts = {"n_clients": 1, "rounds": 1, "local_steps": 1, "batch_size": 1, "observe": 0}
        found = [
            f"{name} must be a whole number of at least {least}, not {value!r}"
            for name, least in counts.items()
            if not whole(value := getattr(self, name), least)
        ]
        limits = {
            "lr": lambda v: v > 0,
            "alpha": lambda v: v > 0,
            "momentum": lambda v: 0 <= v < 1,
            "participation": lambda v: 0 < v <= 1,
            "dropout": lambda v: 0 <= v < 1,
        }
        found += [
            f"{name} {value!r} is out of its range"
            for name, fits in limits.items()
            if not number(value := getattr(self, name)) or not fits(value)
        ]
        if self.deadline is not None and not (number(self.deadline) and self.deadline > 0):
            found.append(f"deadline must be a number of seconds or null, not {self.deadline!r}")
        if self.partition not in PARTITIONS:
            found.append(unknown("partition", self.partition, PARTITIONS))
        if self.engine not in ENGINES:
            found.append(unknown("engine", self.engine, ENGINES))
        return found

    def incompatibilities(self, problem: ProblemSpec, trainer: Trainer) -> list[str]:
        reasons = []
        if "gradient" not in trainer.arguments():
            reasons.append(f"federated rounds replace a recipe: {type(trainer).__name__} is none")
        elif trainer.sampler is not None or trainer.gradient is not None:
            reasons.append(
                "a defense before it has replaced the recipe's sampler or gradient: inside clients "
                "that is what client_dp_sgd is for, after the federation"
            )
        if trainer.early_stopping is not None:
            reasons.append("early_stopping: federated rounds release the last model")
        if self.n_clients > problem.n_patients:
            reasons.append(f"{self.n_clients} clients share {problem.n_patients} member patients")
        return reasons

    def apply(self, subject: Trainer, *, problem: ProblemSpec) -> FederatedTrainer:
        """The federation in place of the recipe.

        Raises:
            ConfigError: faults or refusals.
        """
        refuse(self, self.invalid_parameters())
        refuse(self, self.incompatibilities(problem, subject))
        return FederatedTrainer(plan=self)


class FederatedTrainer(Trainer):
    """What `Federated` makes of a recipe: rounds, with whatever stands in the other slots.

    Args:
        plan: the numbers.
        gradient: rule of a local step (None: the gradient of the mean loss), see
            `medleak.api.GradientRule`.
        rate: probability with which each of a client's records joins a batch (None: batches of
            `batch_size`, or of all it has, in shuffled passes over its records).
        update, aggregate: fillings of these slots.
        observer: the adversary who looks on.
    """

    def __init__(
        self,
        *,
        plan: Federated,
        gradient: Any = None,
        rate: float | None = None,
        update: Sequence[UpdateDefense] = (),
        aggregate: Aggregator | None = None,
        observer: Observer | None = None,
    ):
        self.plan = plan
        self.gradient = gradient
        self.rate = rate
        self.update = update
        self.aggregate = aggregate
        self.observer = observer

    @property
    def rounds(self) -> int:
        return self.plan.rounds

    @property
    def n_clients(self) -> int:
        return self.plan.n_clients

    @property
    def participation(self) -> float:
        return self.plan.participation

    @property
    def local(self) -> LocalTraining:
        """What each client does; public."""
        return LocalTraining(self.plan.local_steps, self.plan.batch_size, self.plan.lr)

    def with_stages(self, slot: str, stages: Sequence[Any]) -> FederatedTrainer:
        if slot == "update":
            reading = [type(one).__name__ for one in stages if one.reads_records]
            if reading and self.rate is not None:
                raise NotApplicable(
                    f"{', '.join(reading)} looks at records after the noise was added: the promise "
                    "of client_dp_sgd would be broken"
                )
            return changed(self, update=tuple(stages))
        if len(stages) > 1:
            names = ", ".join(type(stage).__name__ for stage in stages)
            raise NotApplicable(f"one filling can sum the messages, not {len(stages)}: {names}")
        return changed(self, aggregate=stages[0])

    def malicious_server_incompatibility(self) -> str:
        flower = self.plan.engine == "flower"
        return "engine=flower sends weights, not networks: use engine=lean" if flower else ""

    def client_view_incompatibility(self, client: int) -> str:
        if not 0 <= client < self.n_clients or self.n_clients < 2:
            return f"client {client} is not one of {self.n_clients} with somebody to look at"
        if self.participation < 1:
            return (
                "participation < 1: a client that sits out misses models, and cannot subtract them"
            )
        return ""

    def records_of_client(self, records: Records, client: int, problem: ProblemSpec) -> np.ndarray:
        from medleak.defenses.train._partition import partition

        homes = partition(
            records, self.plan, n_outputs=problem.n_outputs, seed=0, task=problem.task
        )
        found = np.zeros(len(records), dtype=bool)
        found[homes[client]] = True
        return found

    def observed_by(self, observer: Observer) -> FederatedTrainer:
        return changed(self, observer=observer)

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
        """Train `model` in place by rounds of messages; it comes back in evaluation mode.

        Raises:
            ConfigError: no such site column.
            MedleakError: too few clients answered in a round, or the loss diverged.
        """
        from medleak.defenses.train._federation import Federation

        if self.plan.engine == "flower":
            from medleak.defenses.train._flower import run
        else:
            from medleak.defenses.train._federation import run
        federation = Federation(self, model, records, problem=problem, seed=seed, device=device)
        facts = run(federation)
        return Trained(federation.model.eval(), {**self._facts(problem), **facts})

    def _facts(self, problem: ProblemSpec) -> Mapping[str, Any]:
        plan = self.plan
        return {
            "criterion": task_of(problem.task).criterion,
            "rounds": plan.rounds,
            "clients": plan.n_clients,
            "local_steps": plan.local_steps,
            "batch": plan.batch_size,
            "final_lr": plan.lr,
            **(self.gradient.facts if self.gradient is not None else {}),
        }


def need_federation(who: Defense, trainer: Trainer) -> list[str]:
    """Why a filling that works on messages cannot serve `trainer`; empty where it can."""
    if isinstance(trainer, FederatedTrainer):
        return []
    name = type(who).__name__
    return [f"{name} needs federated training before it, not {type(trainer).__name__}"]

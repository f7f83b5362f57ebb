"""The lean engine: all clients in this process, one after the other."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medleak.api import (
    Aggregated,
    Aggregator,
    ConfigError,
    MedleakError,
    Observation,
    ProblemSpec,
    Records,
)
from medleak.core.keys import rng_for, seed_for
from medleak.defenses.train._partition import partition
from medleak.defenses.train._tampering import Detector
from medleak.defenses.train._vectors import Layout, arrays, parameters
from medleak.targets import _training as training
from medleak.targets._rules import MeanGradient

if TYPE_CHECKING:
    from medleak.defenses.train.federated import FederatedTrainer


@dataclass
class Message:
    """What a client returns: its update, of which round, and the positions that it used."""

    client: int
    round: int
    update: Mapping[str, np.ndarray]
    records: np.ndarray


class Federation:
    """State of a federated run: the model, and each client's records.

    Every draw is made from (seed, round, client), so that an engine may visit clients in any order.
    """

    def __init__(
        self,
        trainer: FederatedTrainer,
        model: nn.Module,
        records: Records,
        *,
        problem: ProblemSpec,
        seed: int,
        device: str,
    ):
        self.trainer, self.plan, self.seed = trainer, trainer.plan, seed
        self.model = model.to(device)
        self.data = training.Data.of(records, device)
        self.loss = training.losses(problem.task)
        # The hospitals are the same for every run of a target: shadows follow their partition.
        n_outputs, task = problem.n_outputs, problem.task
        self.clients = partition(records, trainer.plan, n_outputs=n_outputs, seed=0, task=task)
        self.velocity: dict[str, Tensor] = {}
        self.detector = Detector()

    @property
    def private(self) -> bool:
        """Whether a promise of differential privacy forbids to act on counts of members."""
        aggregate = self.trainer.aggregate
        return self.trainer.rate is not None or (aggregate is not None and aggregate.private)

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The global model."""
        return parameters(self.model)

    def chosen(self, round: int) -> list[int]:
        """Who takes part: the same number in each round, of clients that have records."""
        able = list(range(self.plan.n_clients))
        if not self.private:  # whether a client has anybody is private: then nobody is left out
            able = [client for client in able if len(self.clients[client])]
        n = max(1, round_half_up(self.plan.participation * len(able)))
        rng = rng_for("participants", self.seed, round)
        return sorted(rng.choice(able, size=n, replace=False).tolist())

    def observed(self, round: int) -> bool:
        """Whether the adversary keeps this round's messages."""
        return round < self.plan.observe or round >= self.plan.rounds - self.plan.observe

    def announced(self, records: np.ndarray) -> int:
        """How many records the server is told of: under a promise, the number that is expected."""
        return self.plan.batch_size * self.plan.local_steps if self.private else len(records)

    def sent(self, round: int, client: int) -> nn.Module:
        """What the server sends: the model, or what a dishonest one makes of it."""
        observer = self.trainer.observer
        if observer is None or observer.policy is None or not self.observed(round):
            return self.model
        knowledge = replace(observer.knowledge, rng=rng_for("server", self.seed, round))
        return observer.policy.module(copy.deepcopy(self.model), client=client, knowledge=knowledge)

    def answer(self, module: nn.Module, round: int, client: int) -> Message:
        """A client's work: local steps on a copy of `module`, and its defenses."""
        own, batches = self.clients[client], self._batches(round, client)
        model = copy.deepcopy(module).train()
        weights = dict(model.named_parameters())
        total = {name: torch.zeros_like(p) for name, p in weights.items()}
        rule = self.trainer.gradient or MeanGradient()
        seed = seed_for("client", self.seed, round, client)
        x = self.data.x[:0]
        dropout = seed_for("dropout", seed)
        with training.seeded(dropout, str(self.data.x.device)), ExitStack() as stack:
            backward = stack.enter_context(rule.attached(model, self.loss, seed))
            for batch in batches:
                x, y = self._records(batch)
                backward(x, y)
                with torch.no_grad():
                    for name, p in weights.items():
                        grad = p.grad if p.grad is not None else torch.zeros_like(p)
                        total[name] += grad
                        p -= self.plan.lr * grad
        update: Mapping[str, np.ndarray] = arrays(total)
        rng = rng_for("update", self.seed, round, client)
        for stage in self.trainer.update:
            update = stage.protect(update, rng=rng, model=module, x=x)
        return Message(client, round, update, np.concatenate([*batches, own[:0]]))

    def look(self, module: nn.Module, round: int, client: int) -> None:
        """Let a client notice what it can about a tampered `module`."""
        first = [*self._batches(round, client), self.clients[client][:0]][0]
        self.detector.look(client, self.model, module, self.loss, self._records(first))

    def _records(self, positions: np.ndarray) -> tuple[Tensor, Tensor]:
        return self.data.batch(torch.from_numpy(positions).to(self.data.x.device))

    def _batches(self, round: int, client: int) -> list[np.ndarray]:
        own, plan = self.clients[client], self.plan
        rng = rng_for("batches", self.seed, round, client)
        if self.trainer.rate is not None:
            coins = rng.random((plan.local_steps, len(own))) < self.trainer.rate
            return [own[coin] for coin in coins]
        if not len(own):
            return []
        order = np.concatenate(
            [
                rng.permutation(own)
                for _ in range(-(-plan.local_steps * plan.batch_size // len(own)))
            ]
        )
        size = min(plan.batch_size, len(own))
        return [order[i * size : (i + 1) * size] for i in range(plan.local_steps)]

    def step(self, update: Mapping[str, np.ndarray]) -> None:
        """Move the global model along the mean update.

        Raises:
            MedleakError: the model is no longer finite.
        """
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                if name not in update:
                    continue
                moved = torch.from_numpy(update[name]).to(p)
                old = self.velocity.get(name, torch.zeros_like(p))
                self.velocity[name] = self.plan.momentum * old + moved
                p -= self.plan.lr * self.velocity[name]
        if not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise MedleakError("training diverged: the global model is no longer finite")


def round_half_up(value: float) -> int:
    """0.5 goes up, unlike `round`."""
    return int(np.floor(value + 0.5))


@dataclass
class Ledger:
    """What happened: who was excluded and why, and what the messages cost."""

    excluded: dict[str, int] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)

    def exclude(self, client: int, reason: str) -> None:
        line = f"client {client}: {reason}"
        self.excluded[line] = self.excluded.get(line, 0) + 1

    def add(self, cost: Mapping[str, float]) -> None:
        for name, value in cost.items():
            self.cost[name] = self.cost.get(name, 0.0) + value


def run(federation: Federation) -> Mapping[str, Any]:
    """Train by rounds in this process; facts for `Trained`."""
    return rounds(federation, lambda modules, round: one_by_one(federation, modules, round))


Answers = Mapping[int, "Message | str"]
"""Client -> its message, or why there is none."""


def rounds(
    federation: Federation, ask: Callable[[Mapping[int, nn.Module], int], Answers]
) -> Mapping[str, Any]:
    """All rounds; `ask` sends modules to clients and gathers what they answer."""
    ledger, last = Ledger(), {}
    for round in range(federation.plan.rounds):
        modules = {client: federation.sent(round, client) for client in federation.chosen(round)}
        for client, module in modules.items():
            if module is not federation.model:
                federation.look(module, round, client)
        answers, good = ask(modules, round), {}
        for client, module in modules.items():
            fault = fault_of(answers[client], round, module, last.get(client))
            if fault:
                ledger.exclude(client, fault)
            else:
                good[client] = answers[client]
        last = dict(good)
        if not good:
            told = "; ".join(ledger.excluded)
            raise MedleakError(f"round {round}: no client answered ({told})")
        _finish(federation, round, modules, good, ledger)
    return {
        "excluded": ledger.excluded,
        "steps": federation.plan.rounds,
        "traffic": ledger.cost,
        **federation.detector.facts,
    }


def one_by_one(
    federation: Federation, modules: Mapping[int, nn.Module], round: int
) -> dict[int, Message | str]:
    answers: dict[int, Message | str] = {}
    for client, module in modules.items():
        start = time.perf_counter()
        try:
            answers[client] = federation.answer(module, round, client)
        except ConfigError:
            raise
        except Exception as error:  # a client's own trouble ends its part, not the round
            answers[client] = f"crashed: {type(error).__name__}: {error}"
        deadline, took = federation.plan.deadline, time.perf_counter() - start
        if deadline is not None and took > deadline:
            answers[client] = f"stalled past its deadline of {deadline:g} s"
    return answers


def fault_of(answer: Message | str, round: int, module: nn.Module, last: Message | None) -> str:
    """Why a message is not used, or "": checked against what was sent, before anything is summed."""
    if isinstance(answer, str):
        return answer
    if answer.round != round:
        return f"replayed its message of round {answer.round}"
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    if {name: array.shape for name, array in answer.update.items()} != shapes:
        return "sent arrays of the wrong names or shapes"
    if not all(np.isfinite(array).all() for array in answer.update.values()):
        return "sent NaN or infinity"
    if last is not None and all(
        np.array_equal(array, last.update.get(name)) and array.any()
        for name, array in answer.update.items()
    ):
        return "sent the message of its last round again"
    return ""


def _finish(
    federation: Federation,
    round: int,
    modules: Mapping[int, nn.Module],
    good: Mapping[int, Message],
    ledger: Ledger,
) -> None:
    """Sum the messages, let the adversary look, and move the model."""
    trainer, plan = federation.trainer, federation.plan
    weight = {client: float(max(1, len(message.records))) for client, message in good.items()}
    if federation.private:  # counts of members are private: every client counts alike
        weight = dict.fromkeys(good, float(plan.batch_size * plan.local_steps))
    rng = rng_for("aggregate", federation.seed, round)
    gone = [client for client in good if rng.random() < plan.dropout]
    layout, most = Layout.of(next(iter(good.values())).update), max(weight.values())
    shares = {client: value / most for client, value in weight.items()}
    vectors = {c: layout.vector(m.update) * shares[c] for c, m in good.items()}
    told = _sum(trainer, vectors, gone, rng)
    for client, reason in told.excluded.items():
        ledger.exclude(client, reason)
    ledger.add(told.cost)
    total_weight = sum(weight[client] for client in told.survivors) / most
    mean = layout.arrays(told.total / total_weight)
    if federation.observed(round) and trainer.observer is not None:
        if trainer.observer.observing_client is None:
            _show(federation, round, modules, good, told, mean)
        elif others := _less_own(trainer, told, vectors):
            clients, total = others
            rest = layout.arrays(total / sum(shares[client] for client in clients))
            _show_sum(federation, round, good, clients, rest)
    policy = trainer.observer.policy if trainer.observer is not None else None
    if policy is not None and federation.observed(round):
        mean = policy.kept(mean)
    if mean is not None:
        federation.step(mean)


def _sum(
    trainer: FederatedTrainer,
    vectors: Mapping[int, np.ndarray],
    gone: list[int],
    rng: np.random.Generator,
) -> Aggregated:
    if trainer.aggregate is not None:
        return trainer.aggregate.aggregate(vectors, dropped=gone, rng=rng)
    left = {client: vector for client, vector in vectors.items() if client not in gone}
    if not left:
        raise MedleakError("all clients of a round dropped out")
    size = 4.0 * len(next(iter(left.values())))
    cost = {"client_bytes": size, "server_bytes": size * len(vectors)}
    excluded = dict.fromkeys(gone, "dropped out")
    return Aggregated(sum(left.values()), tuple(left), excluded, cost)


def _show(
    federation: Federation,
    round: int,
    modules: Mapping[int, nn.Module],
    good: Mapping[int, Message],
    told: Aggregated,
    mean: Mapping[str, np.ndarray],
) -> None:
    """Keep what this adversary sees: each message, or the sum where the aggregate hides them."""
    aggregate, observer = federation.trainer.aggregate, federation.trainer.observer
    summed = aggregate is not None and "updates" in aggregate.hides
    for clients in [told.survivors] if summed else [(client,) for client in told.survivors]:
        behind = [good[client].records for client in clients]
        n = sum(federation.announced(records) for records in behind)
        update, hidden = (mean, {}) if summed else _seen(aggregate, good[clients[0]].update)
        sent, local = parameters(modules[clients[0]]), federation.trainer.local
        seen = Observation(round, clients, n, sent, update, local, hidden)
        observer.keep(seen, np.concatenate(behind))


def _less_own(
    trainer: FederatedTrainer, told: Aggregated, vectors: Mapping[int, np.ndarray]
) -> tuple[tuple[int, ...], np.ndarray] | None:
    """The other clients in a sum, and their part of it; None where there are none."""
    observing_client, aggregate, total = (
        trainer.observer.observing_client,
        trainer.aggregate,
        told.total,
    )
    clients = tuple(client for client in told.survivors if client != observing_client)
    if observing_client in told.survivors:
        own = (
            vectors[observing_client]
            if aggregate is None
            else aggregate.added(vectors[observing_client])
        )
        total = total - own
    return (clients, total) if clients else None


def _show_sum(
    federation: Federation,
    round: int,
    good: Mapping[int, Message],
    clients: tuple[int, ...],
    rest: Mapping[str, np.ndarray],
) -> None:
    """Keep what a client can tell of the others: successive models differ by a step whose momentum it
    knows, so that the mean message of a round follows, and what it sent itself is subtracted."""
    behind = [good[client].records for client in clients]
    n = sum(federation.announced(records) for records in behind)
    local = federation.trainer.local
    seen = Observation(round, clients, n, federation.weights, rest, local)
    federation.trainer.observer.keep(seen, np.concatenate(behind))


def _seen(
    aggregate: Aggregator | None, update: Mapping[str, np.ndarray]
) -> tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]:
    """A single update as the server reads it, and which of its entries it cannot read."""
    if aggregate is None:
        return update, {}
    layout = Layout.of(update)
    vector = layout.vector(update)
    hidden = layout.arrays(~aggregate.visible(len(vector)), dtype=bool)
    found = {name: array for name, array in hidden.items() if array.any()}
    return layout.arrays(aggregate.seen(vector)), found

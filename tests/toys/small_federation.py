"""A federation that trains in milliseconds, for tests: four clients, eighty patients, a linear model."""

import numpy as np
import torch
from torch import nn

from medleak.api import (
    Aggregated,
    Aggregator,
    Knowledge,
    Observer,
    ProblemSpec,
    Records,
    ServerPolicy,
)
from medleak.defenses.train._federation import Federation
from medleak.defenses.train.federated import Federated, FederatedTrainer
from medleak.targets.recipes import SGD

PROBLEM = ProblemSpec(80, 80, 1, (6,), 2)
PLAIN = {"momentum": 0.0, "lr": 0.1, "n_clients": 4, "rounds": 3, "batch_size": 5}


def some_records(n=80, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6)).astype(np.float32)
    return Records(x, (x.sum(1) > 3).astype(np.int64), np.arange(n))


def fresh_model():
    torch.manual_seed(0)
    return nn.Linear(6, 2)


def federation(trainer=None, records=None, **plan):
    trainer = trainer or FederatedTrainer(plan=Federated(**PLAIN | plan))
    records = records or some_records()
    return Federation(trainer, fresh_model(), records, problem=PROBLEM, seed=7, device="cpu")


def gradient(weights, records):
    model = fresh_model()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    loss = nn.functional.cross_entropy(
        model(torch.from_numpy(records.x)), torch.from_numpy(records.y)
    )
    loss.backward()
    return {name: p.grad.numpy() for name, p in model.named_parameters()}


class Kept(list):
    def __call__(self, seen, records):
        self.append((seen, records))


def observer(kept, policy=None):
    return Observer(policy, Knowledge(PROBLEM), kept)


def fitted(records=None, stages=(), aggregate=None, policy=None, **plan):
    kept = Kept()
    trainer = Federated(**PLAIN | plan).apply(SGD(), problem=PROBLEM)
    for stage in stages:
        trainer = stage.apply(trainer, problem=PROBLEM)
    if aggregate is not None:
        trainer = trainer.with_stages("aggregate", [aggregate])
    records = records or some_records()
    done = trainer.observed_by(observer(kept, policy)).fit(
        fresh_model(), records, problem=PROBLEM, seed=7
    )
    return done, kept, records


class Summed(Aggregator):
    """Hides single updates."""

    hides = {"updates": "only sums"}

    def aggregate(self, messages, *, dropped, rng):
        left = {c: m for c, m in messages.items() if c not in dropped}
        return Aggregated(sum(left.values()), tuple(left), dict.fromkeys(dropped, "dropped out"))


class Doubled(ServerPolicy):
    """Sends twice the weights, and lets nothing of the answers count."""

    def module(self, model, *, client, knowledge):
        with torch.no_grad():
            model.weight *= 2
        return model

    def kept(self, update):
        return None

"""The Flower engine against the lean one, and against Flower's own averaging."""

import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import (
    Aggregated,
    Aggregator,
    ConfigError,
    Knowledge,
    MedleakError,
    Observer,
    ServerPolicy,
)
from medleak.defenses.train._federation import Federation
from medleak.defenses.train._flower import QUIET
from medleak.defenses.train.client_dp_sgd import ClientDPSGD
from medleak.defenses.train.federated import Federated
from medleak.targets.recipes import SGD

PLAN = {"n_clients": 4, "rounds": 4, "batch_size": 5, "lr": 0.1, "participation": 0.5}
SEED = 7


@pytest.fixture
def flower(monkeypatch):
    """Flower and Ray, imported as the engine imports them, or a skip."""
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    for package in ("flwr", "ray"):
        pytest.importorskip(package, reason=f"no {package}: pip install 'medleak[flower]'")


def trainer(small, stages=(), aggregate=None, **plan):
    made = Federated(**PLAN | plan).apply(SGD(), problem=small.problem())
    for stage in stages:
        made = stage.apply(made, problem=small.problem())
    return made if aggregate is None else made.with_stages("aggregate", [aggregate])


def fitted(small, made, model=None, policy=None):
    """What came out, and what the adversary kept."""
    kept = []
    observer = Observer(policy, Knowledge(small.problem()), lambda *seen: kept.append(seen))
    model = small.network() if model is None else model
    done = made.observed_by(observer).fit(
        model, small.records(), problem=small.problem(), seed=SEED
    )
    return SimpleNamespace(model=done.model, facts=dict(done.facts), kept=kept)


def assert_same(one, other):
    for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-5)
    assert one.facts == other.facts
    assert len(one.kept) == len(other.kept) > 0
    for (seen, behind), (also, behind_too) in zip(one.kept, other.kept, strict=True):
        assert (seen.round, seen.clients, seen.n_records) == (
            (also.round, also.clients, also.n_records)
        )
        assert np.array_equal(behind, behind_too)
        for arrays, same in ((seen.sent, also.sent), (seen.update, also.update)):
            assert list(arrays) == list(same)
            assert all(np.allclose(arrays[n], same[n], rtol=0, atol=1e-5) for n in arrays)


class Summed(Aggregator):
    """Hides single updates."""

    hides = {"updates": "only sums"}

    def aggregate(self, messages, *, dropped, rng):
        left = {c: m for c, m in messages.items() if c not in dropped}
        return Aggregated(sum(left.values()), tuple(left), dict.fromkeys(dropped, "dropped out"))


# ------------------------------------------------------------------ the same rounds


@pytest.mark.slow
@pytest.mark.parametrize(
    "plan",
    [
        {"local_steps": 1, "momentum": 0.9},
        {"local_steps": 3, "momentum": 0.5, "partition": "dirichlet", "alpha": 0.5},
    ],
    ids=["fedsgd", "fedavg"],
)
def test_weights_and_observations_equal_the_lean_engines(small, flower, plan):
    lean = fitted(small, trainer(small, **plan))
    assert_same(lean, fitted(small, trainer(small, engine="flower", **plan)))
    start = small.network()
    moved = zip(lean.model.parameters(), start.parameters(), strict=True)
    assert max((p - q).abs().max() for p, q in moved) > 1e-2  # 1e-5 is no matter of course


@pytest.mark.slow
def test_noise_dropout_and_hidden_updates_are_drawn_alike(small, flower):
    def network():
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Dropout(0.5), nn.Linear(8, 2))

    def one(engine):
        made = trainer(
            small, [ClientDPSGD(epsilon=8.0)], Summed(),
            engine=engine, participation=1.0, dropout=0.3,
        )  # fmt: skip
        return fitted(small, made, model=network())

    lean = one("lean")
    assert lean.facts["excluded"]
    assert_same(lean, one("flower"))


@pytest.mark.usefixtures("flower")
def test_the_rounds_equal_flowers_own_averaging(small):
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.serverapp.strategy import FedAvgM

    def record(arrays):
        return ArrayRecord({name: Array(array) for name, array in arrays.items()})

    made = trainer(small, local_steps=3, momentum=0.9)
    expected = fitted(small, made).model
    state = Federation(
        made, small.network(), small.records(), problem=small.problem(), seed=SEED, device="cpu"
    )
    strategy = FedAvgM(server_learning_rate=1.0, server_momentum=0.9)
    strategy.current_arrays = record(state.weights)
    for round in range(PLAN["rounds"]):
        replies = []
        for client in state.chosen(round):
            answer = state.answer(state.model, round, client)
            local = {n: w - PLAN["lr"] * answer.update[n] for n, w in state.weights.items()}
            content = {
                "arrays": record(local),
                "metrics": MetricRecord({"num-examples": len(answer.records)}),
            }
            asked = Message(RecordDict(), dst_node_id=client + 1, message_type="train")
            replies.append(Message(RecordDict(content), reply_to=asked))
        arrays, _ = strategy.aggregate_train(round + 1, replies)
        with torch.no_grad():
            for name, p in state.model.named_parameters():
                p.copy_(torch.from_numpy(arrays[name].numpy()))
    for p, q in zip(state.model.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(p, q, rtol=0, atol=1e-5)


# ------------------------------------------------------------------ clients who misbehave


class Misbehaving(Federation):
    """Client 0 breaks down in round 1, client 1 sends nonsense in round 2, client 2 is late in 3."""

    def answer(self, module, round, client):
        if (client, round) == (0, 1):
            raise RuntimeError("out of memory")
        message = super().answer(module, round, client)
        if (client, round) == (1, 2):
            message.update["0.bias"][0] = np.nan
        if (client, round) == (2, 3):
            import time

            time.sleep(3)
        return message


class Dying(Federation):
    """The process of client 0 ends in round 1."""

    def answer(self, module, round, client):
        if (client, round) == (0, 1):
            os._exit(1)
        return super().answer(module, round, client)


class Silent(Federation):
    """Nobody answers."""

    def answer(self, module, round, client):
        raise RuntimeError("no data today")


@pytest.fixture
def shipped(flower):
    """This module travels to the clients' processes, which cannot import it."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def ran(small, kind, engine, **plan):
    from medleak.defenses.train import _federation, _flower

    made = trainer(small, engine=engine, participation=1.0, **plan)
    federation = kind(
        made, small.network(), small.records(), problem=small.problem(), seed=SEED, device="cpu"
    )
    facts = (_flower if engine == "flower" else _federation).run(federation)
    return federation.weights, facts["excluded"]


@pytest.mark.slow
@pytest.mark.usefixtures("shipped")
def test_who_misbehaves_is_named_in_both(small):
    told = {
        "client 0: crashed: RuntimeError: out of memory": 1,
        "client 1: sent NaN or infinity": 1,
        "client 2: stalled past its deadline of 2 s": 1,
    }
    lean, excluded = ran(small, Misbehaving, "lean", deadline=2)
    assert excluded == told
    flower, excluded = ran(small, Misbehaving, "flower", deadline=2)
    assert excluded == told
    assert all(np.allclose(lean[n], flower[n], rtol=0, atol=1e-5) for n in lean)


@pytest.mark.slow
@pytest.mark.usefixtures("shipped")
def test_a_process_that_ends_costs_one_client_one_round(small):
    _, excluded = ran(small, Dying, "flower")
    ((told, times),) = excluded.items()
    assert told.startswith("client 0: crashed: ")
    assert "\n" not in told
    assert times == 1


@pytest.mark.slow
@pytest.mark.usefixtures("shipped")
def test_a_round_without_answers_ends_the_simulation(small, capfd):
    import ray

    before = dict(os.environ)
    with pytest.raises(MedleakError, match=r"round 0: no client answered.*no data today"):
        ran(small, Silent, "flower")
    assert not ray.is_initialized()
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


# ------------------------------------------------------------------ refusals


class Honest(ServerPolicy):
    """Sends what it should."""

    def module(self, model, *, client, knowledge):
        return model


def test_a_tampering_server_is_for_the_lean_engine(small):
    with pytest.raises(ConfigError, match="Honest tampers with what is sent: use engine=lean"):
        fitted(small, trainer(small, engine="flower"), policy=Honest())


def test_a_missing_extra_is_told_and_nothing_is_left(small, monkeypatch):
    for package in ("flwr.clientapp", "ray"):
        monkeypatch.setitem(sys.modules, package, None)
    before = dict(os.environ)
    with pytest.raises(ConfigError, match=r"pip install 'medleak\[flower\]'"):
        fitted(small, trainer(small, engine="flower"))
    assert dict(os.environ) == before

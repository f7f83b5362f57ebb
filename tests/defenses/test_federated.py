"""Federated training: closed forms, partitions, what the adversary keeps, and clients who misbehave."""

import time

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
    NotApplicable,
    Records,
    ServerPolicy,
    Setting,
    Watch,
)
from medleak.defenses.train import accounting
from medleak.defenses.train._federation import Federation, partition, run
from medleak.defenses.train._tampering import LARGEST, disaggregation
from medleak.defenses.train.client_dp_sgd import ClientDPSGD
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.federated import Federated, FederatedTrainer
from medleak.defenses.update.prune import Prune
from medleak.defenses.update.soteria import Soteria
from medleak.slots import Slots
from medleak.targets.recipes import SGD

SETTING = Setting(80, 80, 1, (6,), 2)
PLAIN = {"momentum": 0.0, "lr": 0.1, "n_clients": 4, "rounds": 3, "batch_size": 5}


def some_records(n=80, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 6)).astype(np.float32)
    site = np.where(np.arange(n) % 3 == 0, "north", "south")
    return Records(x, (x.sum(1) > 3).astype(np.int64), np.arange(n), {"site": site})


def fresh_model():
    torch.manual_seed(0)
    return nn.Linear(6, 2)


def federation(trainer=None, records=None, **plan):
    trainer = trainer or FederatedTrainer(plan=Federated(**PLAIN | plan))
    records = records or some_records()
    return Federation(trainer, fresh_model(), records, setting=SETTING, seed=7, device="cpu")


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


def watch(kept, policy=None):
    return Watch(policy, Knowledge(SETTING), kept)


def fitted(records=None, fillings=(), aggregate=None, policy=None, **plan):
    kept = Kept()
    trainer = Federated(**PLAIN | plan).apply(SGD(), setting=SETTING)
    for filling in fillings:
        trainer = filling.apply(trainer, setting=SETTING)
    if aggregate is not None:
        trainer = trainer.carrying("aggregate", [aggregate])
    records = records or some_records()
    done = trainer.watched(watch(kept, policy)).fit(fresh_model(), records, setting=SETTING, seed=7)
    return done, kept, records


# ------------------------------------------------------------------ arithmetic


def test_one_step_over_everybody_is_gradient_descent():
    done, _, records = fitted(rounds=3, batch_size=1000)
    weights = {name: p.detach().numpy().copy() for name, p in fresh_model().named_parameters()}
    for _ in range(3):
        for name, g in gradient(weights, records).items():
            weights[name] = weights[name] - 0.1 * g
    for name, p in done.model.named_parameters():
        assert np.allclose(p.detach().numpy(), weights[name], atol=1e-6)


def test_an_update_is_the_gradient_of_the_records_behind_it():
    _, kept, records = fitted(observe=1)
    assert len(kept) == 8  # four clients in the first and the last round
    for seen, behind in kept:
        expected = gradient(seen.sent, records.take(behind))
        assert seen.n_records == len(behind) == 5
        for name, array in seen.update.items():
            assert np.allclose(array, expected[name], atol=1e-6)


def test_several_local_steps_sum_to_the_difference():
    _, kept, _ = fitted(observe=1, local_steps=4, n_clients=1, rounds=2)
    (first, _), (second, _) = kept
    moved = {n: first.sent[n] - 0.1 * first.update[n] for n in first.sent}
    for name, array in second.sent.items():
        assert np.allclose(array, moved[name], atol=1e-6)


def test_runs_repeat_and_seeds_differ():
    one, two = fitted()[0], fitted()[0]
    for p, q in zip(one.model.parameters(), two.model.parameters(), strict=True):
        assert torch.equal(p, q)
    trainer = Federated(**PLAIN).apply(SGD(), setting=SETTING)
    other = trainer.fit(fresh_model(), some_records(), setting=SETTING, seed=8)
    assert not torch.equal(other.model.weight, one.model.weight)


# ------------------------------------------------------------------ who holds what


def test_patients_stay_with_their_hospital_whoever_is_a_member():
    records, plan = some_records(), Federated(**PLAIN)
    whole = partition(records, plan, n_outputs=2, seed=0)
    assert np.array_equal(np.sort(np.concatenate(whole)), np.arange(80))
    half = np.arange(80) % 2 == 0
    for client, own in enumerate(partition(records.take(half), plan, n_outputs=2, seed=0)):
        assert set(records.patients[half][own]) <= set(records.patients[whole[client]])


def test_scans_of_a_patient_are_never_split():
    records = some_records()
    scans = Records(records.x, records.y, np.arange(80) // 4, records.groups)
    for kind in ("iid", "dirichlet"):
        plan = Federated(**PLAIN | {"partition": kind})
        owners = [set(scans.patients[own]) for own in partition(scans, plan, n_outputs=2, seed=0)]
        assert sum(map(len, owners)) == 20


def test_dirichlet_skews_the_classes():
    records = some_records(4000)
    plan = Federated(**PLAIN | {"partition": "dirichlet", "alpha": 0.1})
    skewed = [
        records.y[own].mean() for own in partition(records, plan, n_outputs=2, seed=0) if len(own)
    ]
    even = Federated(**PLAIN)
    alike = [records.y[own].mean() for own in partition(records, even, n_outputs=2, seed=0)]
    assert np.std(skewed) > 5 * np.std(alike)


def test_natural_clients_are_sites_whoever_is_a_member():
    records = some_records()
    plan = Federated(**PLAIN | {"partition": "natural"})
    whole = partition(records, plan, n_outputs=2, seed=0)
    home = {
        name: next(c for c, own in enumerate(whole) if name in records.groups["site"][own])
        for name in ("north", "south")
    }
    south = records.take(np.flatnonzero(records.groups["site"] == "south"))
    for client, own in enumerate(partition(south, plan, n_outputs=2, seed=0)):
        assert len(own) == (len(south) if client == home["south"] else 0)
    elsewhere = Federated(**PLAIN | {"partition": "natural", "site": "ward"})
    with pytest.raises(ConfigError, match="columns: site"):
        partition(records, elsewhere, n_outputs=2, seed=0)


def test_a_patient_of_two_sites_has_one_hospital():
    records = some_records()
    scans = Records(records.x, records.y, np.arange(80) // 2, records.groups)
    plan = Federated(**PLAIN | {"partition": "natural", "n_clients": 50})
    owners = [set(scans.patients[own]) for own in partition(scans, plan, n_outputs=2, seed=0)]
    assert sum(map(len, owners)) == 40


def test_under_a_promise_a_client_without_members_takes_part():
    dp = ClientDPSGD(epsilon=1.0)
    trainer = dp.apply(Federated(**PLAIN).apply(SGD(), setting=SETTING), setting=SETTING)
    made = federation(trainer)
    made.clients[0] = made.clients[0][:0]
    assert made.chosen(0) == [0, 1, 2, 3]
    sent = made.answer(made.model, 0, 0)
    assert len(sent.records) == 0
    assert np.abs(sent.update["weight"]).min() > 0  # noise alone
    plain = federation()
    plain.clients[0] = plain.clients[0][:0]
    assert plain.chosen(0) == [1, 2, 3]


def test_a_share_takes_part():
    chosen = [federation(participation=0.5).chosen(round) for round in range(20)]
    assert {len(some) for some in chosen} == {2}
    assert {client for some in chosen for client in some} == {0, 1, 2, 3}


# ------------------------------------------------------------------ what the adversary sees


class Summed(Aggregator):
    """Hides single updates."""

    hides = {"updates": "only sums"}

    def aggregate(self, messages, *, dropped, rng):
        left = {c: m for c, m in messages.items() if c not in dropped}
        return Aggregated(sum(left.values()), tuple(left), dict.fromkeys(dropped, "dropped out"))


def test_a_hidden_update_is_seen_as_part_of_a_sum():
    _, kept, records = fitted(observe=1, aggregate=Summed())
    assert len(kept) == 2
    for seen, behind in kept:
        assert seen.clients == (0, 1, 2, 3)
        assert seen.n_records == len(behind) == 20
        expected = gradient(seen.sent, records.take(behind))
        for name, array in seen.update.items():
            assert np.allclose(array, expected[name], atol=1e-5)


def test_dropped_clients_are_left_out_of_the_mean():
    _, kept, records = fitted(observe=3, aggregate=Summed(), dropout=0.5)
    assert min(len(seen.clients) for seen, _ in kept) < 4
    for seen, behind in kept:
        expected = gradient(seen.sent, records.take(behind))
        assert np.allclose(seen.update["weight"], expected["weight"], atol=1e-5)


class Doubled(ServerPolicy):
    """Sends twice the weights, and lets nothing of the answers count."""

    def module(self, model, *, client, knowledge):
        with torch.no_grad():
            model.weight *= 2
        return model

    def kept(self, update):
        return None


def test_a_dishonest_server_sends_what_it_likes_and_the_model_pays():
    _, kept, records = fitted(observe=1, rounds=2, policy=Doubled())
    first, last = kept[0][0], kept[-1][0]
    assert np.allclose(first.sent["weight"], 2 * fresh_model().weight.detach().numpy())
    assert np.array_equal(first.sent["weight"], last.sent["weight"])  # nothing was learnt
    expected = gradient(first.sent, records.take(kept[0][1]))
    assert np.allclose(first.update["weight"], expected["weight"], atol=1e-6)


class Behind(ServerPolicy):
    """Puts a layer in front, behind which only the brightest record has a gradient."""

    def module(self, model, *, client, knowledge):
        front = nn.Linear(6, 6)
        with torch.no_grad():
            front.weight.copy_(100 * torch.ones(6, 6))
            front.bias.fill_(-100 * 3.6)
        return nn.Sequential(front, nn.ReLU(), model)

    def kept(self, update):
        return {n.removeprefix("2."): a for n, a in update.items() if n.startswith("2.")}


def test_clients_can_tell_a_tampered_model():
    done, _, _ = fitted(observe=2, rounds=8, policy=Behind())
    noticed = done.facts["tampering"]
    assert not noticed["architecture_kept"]
    assert len(noticed["honest"]) == len(noticed["tampered"]) == 16
    honest, tampered = (np.array(noticed[kind])[:, 1] for kind in ("honest", "tampered"))
    assert np.median(tampered) > 2 * np.median(honest)
    assert "tampering" not in fitted()[0].facts


def test_disaggregation_by_hand():
    model = nn.Linear(2, 1, bias=False)
    x = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.5]])
    plain = lambda z, y: z[:, 0]  # noqa: E731
    assert disaggregation(model, plain, x, torch.zeros(3)) == pytest.approx(3 / 1.5)
    assert disaggregation(model, plain, 0 * x, torch.zeros(3)) == LARGEST  # nothing at all is odd


def test_a_crowd_of_one_tells_nothing_of_tampering():
    done, _, _ = fitted(observe=2, rounds=4, batch_size=1, policy=Behind())
    assert done.facts["tampering"] == {"honest": [], "tampered": [], "architecture_kept": False}


def test_what_reads_records_does_not_follow_private_noise():
    trainer = Federated(**PLAIN).apply(SGD(), setting=SETTING)
    private = ClientDPSGD(epsilon=1.0).apply(trainer, setting=SETTING)
    assert trainer.carrying("update", [Soteria()]).update
    with pytest.raises(NotApplicable, match="Soteria looks at records"):
        private.carrying("update", [Soteria()])
    assert private.carrying("update", [Prune()]).update


# ------------------------------------------------------------------ clients who misbehave


class Misbehaving(Federation):
    """Client 0 does something else in round 1."""

    def __init__(self, what, **plan):
        made = federation(**plan)
        self.__dict__.update(made.__dict__)
        self.what, self.before = what, {}

    def answer(self, module, round, client):
        message = super().answer(module, round, client)
        if client == 0 and round == 0:
            self.before = message
        if client == 0 and round == 1:
            return self.what(self, message)
        return message


def crash(_, message):
    raise RuntimeError("out of memory")


def stall(_, message):
    time.sleep(0.2)
    return message


def nan(_, message):
    message.update["bias"][0] = np.nan
    return message


def wrong_shape(_, message):
    message.update["bias"] = message.update["bias"][:1]
    return message


def replay(self, message):
    return self.before


def stale(self, message):
    message.update = self.before.update
    return message


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (crash, "crashed: RuntimeError: out of memory"),
        (stall, "stalled past its deadline of 0.15 s"),
        (nan, "sent NaN or infinity"),
        (wrong_shape, "sent arrays of the wrong names or shapes"),
        (replay, "replayed its message of round 0"),
        (stale, "sent the message of its last round again"),
    ],
)
def test_who_misbehaves_is_named_and_the_round_goes_on(what, told):
    facts = run(Misbehaving(what, deadline=0.15))
    assert facts["excluded"] == {f"client 0: {told}": 1}


def test_a_round_without_answers_fails_and_says_why():
    with pytest.raises(MedleakError, match=r"round 1: no client answered.*client 0: crashed"):
        run(Misbehaving(crash, n_clients=1))


# ------------------------------------------------------------------ hybrids and refusals


def test_client_noise_is_composed_over_all_rounds():
    dp = ClientDPSGD(epsilon=2.0)
    trainer = Federated(**PLAIN | {"rounds": 50}).apply(SGD(), setting=SETTING)
    (promise,) = dp.guarantees(SETTING, trainer)
    assert (promise.unit, promise.epsilon) == ("record", 2.0)
    assert (promise.mechanism["q"], promise.mechanism["steps"]) == (5 / 20, 50)
    spent, _ = accounting.epsilon_of(promise.mechanism["sigma"], promise.delta, 5 / 20, 50)
    assert spent == pytest.approx(2.0, rel=0.02)
    one_round, _ = accounting.epsilon_of(promise.mechanism["sigma"], promise.delta, 5 / 20, 1)
    assert one_round < spent / 2  # a fresh accountant each round would claim this


def test_clients_send_noised_gradients_of_poisson_batches():
    _, kept, _ = fitted(observe=3, fillings=[ClientDPSGD(epsilon=1.0)])
    assert len({len(behind) for _, behind in kept}) > 1
    assert {seen.n_records for seen, _ in kept} == {5}  # the true number is private
    sigma = fitted(fillings=[ClientDPSGD(epsilon=1.0)])[0].facts["sigma"]
    values = np.concatenate([seen.update["weight"].ravel() for seen, _ in kept])
    assert values.std() == pytest.approx(sigma / 5, rel=0.25)  # noise over the expected batch


def test_slots_for_messages_need_messages():
    slots = Slots({"train": _block("federated.Federated", n_clients=4)})
    assert isinstance(slots.trainer(SGD(), SETTING), FederatedTrainer)
    assert slots.views()["updates"] == slots.views()["aggregate"] == ""
    with pytest.raises(NotApplicable, match="is for federated training, and SGD is not"):
        SGD().carrying("aggregate", [Summed()])
    trainer = Federated(**PLAIN).apply(SGD(), setting=SETTING)
    with pytest.raises(NotApplicable, match="one filling can sum"):
        trainer.carrying("aggregate", [Summed(), Summed()])


def _block(name, **arguments):
    return {"_target_": f"medleak.defenses.train.{name}", **arguments}


def test_named_fillings_stand_in_order():
    blocks = {
        "federated": _block("federated.Federated", n_clients=4, batch_size=5),
        "dp": _block("client_dp_sgd.ClientDPSGD", epsilon=8.0),
    }
    trainer = Slots({"train": blocks}).trainer(SGD(), SETTING)
    assert trainer.rate == 5 / 20


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n_clients": 0}, "n_clients must be a whole number"),
        ({"participation": 0.0}, "participation 0.0 is out of its range"),
        ({"partition": "random"}, "unknown partition 'random'"),
        ({"engine": "flwr"}, "did you mean 'flower'"),
        ({"deadline": -1}, "deadline must be"),
    ],
)
def test_faults_are_told(wrong, told):
    (fault,) = Federated(**wrong).faults()
    assert told in fault


def test_what_does_not_compose_is_refused():
    plan = Federated(**PLAIN)
    private = DPSGD(epsilon=8.0, batch_size=8).apply(SGD(), setting=SETTING)
    assert "client_dp_sgd" in plan.refusals(SETTING, private)[0]
    assert "last model" in plan.refusals(SETTING, SGD(early_stopping={"patience": 2}))[0]
    assert "share 80" in Federated(n_clients=100).refusals(SETTING, SGD())[0]
    assert "needs federated training" in ClientDPSGD().refusals(SETTING, SGD())[0]
    wide = Federated(**PLAIN | {"batch_size": 30}).apply(SGD(), setting=SETTING)
    assert "exceeds the 20 records" in ClientDPSGD().refusals(SETTING, wide)[0]

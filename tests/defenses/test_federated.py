"""Federated training: closed forms, who takes part, hybrids and refusals."""

import numpy as np
import pytest
import torch
from small_federation import (
    PLAIN,
    PROBLEM,
    Doubled,
    Summed,
    federation,
    fitted,
    fresh_model,
    gradient,
    some_records,
)

from medleak.api import NotApplicable
from medleak.defenses.train import accounting
from medleak.defenses.train.client_dp_sgd import ClientDPSGD
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.federated import Federated, FederatedTrainer
from medleak.defenses.update.prune import Prune
from medleak.defenses.update.soteria import Soteria
from medleak.targets.recipes import SGD
from medleak.training.pipeline import DefensePipeline

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
    trainer = Federated(**PLAIN).apply(SGD(), problem=PROBLEM)
    other = trainer.fit(fresh_model(), some_records(), problem=PROBLEM, seed=8)
    assert not torch.equal(other.model.weight, one.model.weight)


# ------------------------------------------------------------------ who takes part


def test_under_a_promise_a_client_without_members_takes_part():
    dp = ClientDPSGD(epsilon=1.0)
    trainer = dp.apply(Federated(**PLAIN).apply(SGD(), problem=PROBLEM), problem=PROBLEM)
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


# ------------------------------------------------------------------ hybrids and refusals


def test_what_reads_records_does_not_follow_private_noise():
    trainer = Federated(**PLAIN).apply(SGD(), problem=PROBLEM)
    private = ClientDPSGD(epsilon=1.0).apply(trainer, problem=PROBLEM)
    assert trainer.with_stages("update", [Soteria()]).update
    with pytest.raises(NotApplicable, match="Soteria looks at records"):
        private.with_stages("update", [Soteria()])
    assert private.with_stages("update", [Prune()]).update


def test_client_noise_is_composed_over_all_rounds():
    dp = ClientDPSGD(epsilon=2.0)
    trainer = Federated(**PLAIN | {"rounds": 50}).apply(SGD(), problem=PROBLEM)
    (promise,) = dp.guarantees(PROBLEM, trainer)
    assert (promise.unit, promise.epsilon) == ("record", 2.0)
    assert (promise.mechanism["q"], promise.mechanism["steps"]) == (5 / 20, 50)
    spent, _ = accounting.epsilon_of(promise.mechanism["sigma"], promise.delta, 5 / 20, 50)
    assert spent == pytest.approx(2.0, rel=0.02)
    one_round, _ = accounting.epsilon_of(promise.mechanism["sigma"], promise.delta, 5 / 20, 1)
    assert one_round < spent / 2  # a fresh accountant each round would claim this


def test_clients_send_noised_gradients_of_poisson_batches():
    _, kept, _ = fitted(observe=3, stages=[ClientDPSGD(epsilon=1.0)])
    assert len({len(behind) for _, behind in kept}) > 1
    assert {seen.n_records for seen, _ in kept} == {5}  # the true number is private
    sigma = fitted(stages=[ClientDPSGD(epsilon=1.0)])[0].facts["sigma"]
    values = np.concatenate([seen.update["weight"].ravel() for seen, _ in kept])
    assert values.std() == pytest.approx(sigma / 5, rel=0.25)  # noise over the expected batch


def test_slots_for_messages_need_messages():
    slots = DefensePipeline({"train": _block("federated.Federated", n_clients=4)})
    assert isinstance(slots.trainer(SGD(), PROBLEM), FederatedTrainer)
    assert slots.views()["updates"] == slots.views()["aggregate"] == ""
    with pytest.raises(NotApplicable, match="is for federated training, and SGD is not"):
        SGD().with_stages("aggregate", [Summed()])
    trainer = Federated(**PLAIN).apply(SGD(), problem=PROBLEM)
    with pytest.raises(NotApplicable, match="one filling can sum"):
        trainer.with_stages("aggregate", [Summed(), Summed()])


def _block(name, **arguments):
    return {"_target_": f"medleak.defenses.train.{name}", **arguments}


def test_named_fillings_stand_in_order():
    blocks = {
        "federated": _block("federated.Federated", n_clients=4, batch_size=5),
        "dp": _block("client_dp_sgd.ClientDPSGD", epsilon=8.0),
    }
    trainer = DefensePipeline({"train": blocks}).trainer(SGD(), PROBLEM)
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
    (fault,) = Federated(**wrong).invalid_parameters()
    assert told in fault


def test_flower_meets_no_dishonest_server():
    lean, flower = (
        Federated(**PLAIN | {"engine": engine}).apply(SGD(), problem=PROBLEM)
        for engine in ("lean", "flower")
    )
    assert Doubled().incompatibilities(PROBLEM, lean) == []
    assert "use engine=lean" in Doubled().incompatibilities(PROBLEM, flower)[0]
    assert "needs federated training" in Doubled().incompatibilities(PROBLEM, SGD())[0]


def test_what_does_not_compose_is_refused():
    plan = Federated(**PLAIN)
    private = DPSGD(epsilon=8.0, batch_size=8).apply(SGD(), problem=PROBLEM)
    assert "client_dp_sgd" in plan.incompatibilities(PROBLEM, private)[0]
    assert "last model" in plan.incompatibilities(PROBLEM, SGD(early_stopping={"patience": 2}))[0]
    assert "share 80" in Federated(n_clients=100).incompatibilities(PROBLEM, SGD())[0]
    assert "needs federated training" in ClientDPSGD().incompatibilities(PROBLEM, SGD())[0]
    wide = Federated(**PLAIN | {"batch_size": 30}).apply(SGD(), problem=PROBLEM)
    assert "exceeds the 20 records" in ClientDPSGD().incompatibilities(PROBLEM, wide)[0]

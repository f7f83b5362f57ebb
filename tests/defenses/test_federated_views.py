"""What the server of a federation sees, and what clients see of a dishonest one."""

import itertools

import numpy as np
import pytest
import torch
from small_federation import (
    PLAIN,
    PROBLEM,
    Doubled,
    Kept,
    Summed,
    fitted,
    fresh_model,
    gradient,
    some_records,
)
from torch import nn

from medleak.api import Aggregated, Aggregator, Knowledge, Observer, ServerPolicy
from medleak.defenses.train._partition import partition
from medleak.defenses.train._tampering import LARGEST, disaggregation
from medleak.defenses.train.federated import Federated
from medleak.targets.recipes import SGD


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


class Halved(Aggregator):
    """The server reads the first half of each message, and only of clients who halved it."""

    def seen(self, message):
        return np.where(np.arange(len(message)) < len(message) // 2, message / 2, 0.0)

    def visible(self, length):
        return np.arange(length) < length // 2

    def aggregate(self, messages, *, dropped, rng):
        return Aggregated(sum(messages.values()), tuple(messages))


def test_a_single_message_is_seen_as_the_aggregate_lets_it():
    _, plain, _ = fitted(observe=1, rounds=2)
    _, kept, _ = fitted(observe=1, rounds=2, aggregate=Halved())
    for (whole, _), (seen, _) in zip(plain[:4], kept[:4], strict=True):
        assert np.allclose(
            seen.update["weight"].ravel()[:7], whole.update["weight"].ravel()[:7] / 2
        )
        assert not seen.update["weight"].ravel()[7:].any()
        assert not seen.update["bias"].any()
        assert not whole.hidden
        assert whole.readable("bias").all()
        assert seen.hidden["weight"].ravel().tolist() == [False] * 7 + [True] * 5
        assert seen.hidden["bias"].all()


class Counted(Summed):
    """Promises something about whole clients."""

    private = True


def test_under_a_promise_for_clients_their_counts_stay_private():
    uneven = some_records(80)
    _, plain, _ = fitted(uneven, observe=1, aggregate=Summed(), batch_size=30)
    _, kept, _ = fitted(uneven, observe=1, aggregate=Counted(), batch_size=30)
    assert plain[0][0].n_records == len(plain[0][1]) < 4 * 30  # some have fewer than thirty
    assert kept[0][0].n_records == 4 * 30
    owners = partition(uneven, Federated(**PLAIN), n_outputs=2, seed=0)
    expected = [gradient(kept[0][0].sent, uneven.take(own))["weight"] for own in owners]
    assert max(map(len, owners)) <= 30
    assert np.allclose(kept[0][0].update["weight"], np.mean(expected, axis=0), atol=1e-5)


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


# --------------------------------------------------------------------------- from a client's seat


def client_observes(client=1, aggregate=None, **plan):
    """What client `client` keeps of a run, and what the server keeps of the same one."""
    trainer = Federated(**PLAIN | plan).apply(SGD(), problem=PROBLEM)
    if aggregate is not None:
        trainer = trainer.with_stages("aggregate", [aggregate])
    kept, records = Kept(), some_records()
    look = Observer(None, Knowledge(PROBLEM), kept, client)
    trainer.observed_by(look).fit(fresh_model(), records, problem=PROBLEM, seed=7)
    return kept, fitted(aggregate=None, **plan)[1], records


@pytest.mark.parametrize("aggregate", [None, Summed()])
def test_a_client_sees_the_sum_of_the_others(aggregate):
    kept, _, records = client_observes(observe=1, aggregate=aggregate)
    assert len(kept) == 2
    for seen, behind in kept:
        assert seen.clients == (0, 2, 3)
        assert seen.n_records == len(behind) == 15
        expected = gradient(seen.sent, records.take(behind))
        for name, array in seen.update.items():
            assert np.allclose(array, expected[name], atol=1e-5)


def test_it_is_what_successive_models_tell():
    plan = {"momentum": 0.5, "observe": 3, "rounds": 3}
    kept, server, _ = client_observes(**plan)
    own = {seen.round: seen for seen, _ in server if seen.clients == (1,)}
    velocity = 0.0
    for (now, _), (then, _) in itertools.pairwise(kept):
        step = (now.sent["weight"] - then.sent["weight"]) / PLAIN["lr"]
        mean, velocity = step - 0.5 * velocity, step
        total = now.n_records + own[now.round].n_records
        others = total * mean - own[now.round].n_records * own[now.round].update["weight"]
        assert np.allclose(now.update["weight"], others / now.n_records, atol=1e-4)


def test_a_message_that_did_not_arrive_is_not_subtracted():
    kept, _, records = client_observes(observe=3, dropout=0.5)
    for seen, behind in kept:
        assert 1 not in seen.clients
        expected = gradient(seen.sent, records.take(behind))
        assert np.allclose(seen.update["weight"], expected["weight"], atol=1e-5)


def test_clipping_is_known_to_the_client_that_clips():
    from medleak.defenses.aggregate.central_dp import CentralDP

    kept, server, _ = client_observes(
        observe=1, rounds=2, aggregate=CentralDP(noise_multiplier=0, clip=0.01)
    )
    first = {seen.clients[0]: seen.update for seen, _ in server[:4]}
    norm = {c: np.sqrt(sum((a**2).sum() for a in u.values())) for c, u in first.items()}
    expected = np.mean([0.01 * first[c]["weight"] / norm[c] for c in (0, 2, 3)], axis=0)
    assert np.allclose(kept[0][0].update["weight"], expected, atol=1e-6)


def test_whose_a_patient_is_does_not_depend_on_who_is_a_member():
    trainer, records = Federated(**PLAIN).apply(SGD(), problem=PROBLEM), some_records()
    whole = [trainer.records_of_client(records, client, PROBLEM) for client in range(4)]
    assert np.sum(whole, axis=0).tolist() == [1] * 80
    some = np.arange(0, 80, 3)
    assert np.array_equal(trainer.records_of_client(records.take(some), 2, PROBLEM), whole[2][some])


def test_there_are_seats_only_in_federations_that_send_every_model():
    trainer = Federated(**PLAIN).apply(SGD(), problem=PROBLEM)
    assert trainer.client_view_incompatibility(3) == ""
    assert "client 4 is not one of 4" in trainer.client_view_incompatibility(4)
    some = Federated(**PLAIN | {"participation": 0.5}).apply(SGD(), problem=PROBLEM)
    assert "sits out" in some.client_view_incompatibility(0)
    assert "federated training" in SGD().client_view_incompatibility(0)

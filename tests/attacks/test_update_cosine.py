import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import (
    Challenge,
    Knowledge,
    LocalTraining,
    NotApplicable,
    Observation,
    ProblemSpec,
    Records,
    Release,
    multiclass,
)
from medleak.attacks._whitebox import gradient_cosines
from medleak.attacks.membership.update_cosine import UpdateCosine

D, N = 40, 120


def network(weights):
    model = nn.Sequential(nn.Linear(D, 32), nn.Tanh(), nn.Linear(32, 2))
    torch.manual_seed(0)
    for p in model.parameters():
        nn.init.normal_(p, std=0.4)
    if weights is not None:
        model.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()})
    return model.eval()


def records(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, D)).astype(np.float32)
    return Records(x, rng.integers(0, 2, n), np.arange(n))


def gradient(model, some):
    model.zero_grad()
    loss = nn.functional.cross_entropy(model(torch.from_numpy(some.x)), torch.from_numpy(some.y))
    loss.backward()
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters()}


def messages(some, batches):
    model = network(None)
    sent = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    local = LocalTraining(1, 4, 0.1)
    return [
        Observation(0, (i,), len(batch), sent, gradient(model, some.take(batch)), local)
        for i, batch in enumerate(batches)
    ]


def scored(seen, some):
    knowledge = Knowledge(
        ProblemSpec(N // 2, N // 2, 1, (D,), 2), auxiliary=records(200, 9), network=network
    )
    challenge = Challenge(some, np.full(N, "natural"))
    return UpdateCosine().execute(Release({"aggregate": seen}), challenge, knowledge).scores


def auc(scores, member):
    return (scores[member][:, None] > scores[~member][None]).mean()


def test_cosines_equal_plain_projections():
    some, others = records(5, 1), records(30, 6)
    update = gradient(network(None), records(7, 2))
    found = gradient_cosines(network(None), some, [update], others, task=multiclass)[:, 0]

    def flat(arrays):
        return np.concatenate([array.ravel() for array in arrays.values()]).astype(float)

    def one(part, i):
        return flat(gradient(network(None), part.take(np.array([i]))))

    shared = np.stack([one(others, i) for i in range(30)])

    def own(v):
        return v - shared.T @ np.linalg.lstsq(shared.T, v, rcond=None)[0]

    u = own(flat(update))
    for i in range(5):
        g = own(one(some, i))
        expected = g @ u / np.linalg.norm(g) / np.linalg.norm(u)
        assert found[i] == pytest.approx(expected, abs=1e-4)


def test_those_in_an_observed_batch_are_found():
    some, member = records(N, 3), np.arange(N) < N // 2
    batches = np.arange(N // 2).reshape(-1, 3)
    assert auc(scored(messages(some, batches), some), member) > 0.9


def test_messages_of_others_tell_nothing():
    some, member = records(N, 3), np.arange(N) < N // 2
    others = records(N, 4)
    seen = messages(others, np.arange(N // 2).reshape(-1, 3))
    assert abs(auc(scored(seen, some), member) - 0.5) < 0.16


def test_no_messages_no_attack():
    with pytest.raises(NotApplicable, match="no message was observed"):
        scored([], records(N, 3))
    assert UpdateCosine(n_reference=3).invalid_parameters()

"""The informed adversary on messages: planted records are found, under noise no more than is allowed."""

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from torch import nn
from torch.nn import functional

from medleak.api import (
    InformedPrior,
    Knowledge,
    LocalTraining,
    NotApplicable,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
    replace,
)
from medleak.attacks.gradient_inversion.informed_adversary import InformedAdversary

SHAPE, M, CLIP = (1, 4, 4), 8, 0.5
PROBLEM = ProblemSpec(50, 50, 1, SHAPE, 2)


def network(weights):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    if weights is not None:
        model.load_state_dict({n: torch.from_numpy(w) for n, w in weights.items()})
    return model.eval()


def records(n, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    x = np.clip(0.5 + spread * (rng.random((n, *SHAPE)) - 0.5), 0, 1).astype(np.float32)
    return Records(x, np.zeros(n, np.int64), np.arange(n))


def gradients(some):
    """Of each record, by autograd, at zero weights, ``(n, P)``."""
    rows = []
    for x, y in zip(some.x, some.y, strict=True):
        model = network(None)
        loss = functional.cross_entropy(model(torch.from_numpy(x[None])), torch.tensor([y]))
        found = torch.autograd.grad(loss, list(model.parameters()))
        rows.append(np.concatenate([g.numpy().ravel() for g in found]))
    return np.stack(rows).astype(np.float64)


def cut(rows):
    return rows * np.minimum(1, CLIP / np.linalg.norm(rows, axis=1, keepdims=True))


def named(update):
    return {"1.weight": update[:32].reshape(2, 16).astype(np.float32),
            "1.bias": update[32:].astype(np.float32)}  # fmt: skip


def game(trials, *, noise=0.0, clip=CLIP, steps=1, rounds=1, clients=(0,), seed=0):
    """Messages of four records each, one of them asked for; candidates in random order."""
    rng = np.random.default_rng(seed)
    sent = {n: p.detach().numpy().copy() for n, p in network(None).named_parameters()}
    local, seen, insight, truth = LocalTraining(steps, 4, 0.1), [], [], []
    for trial in range(trials):
        candidates, others = records(M, 1000 + trial), records(3, 5000 + trial)
        chosen, told = int(rng.integers(M)), {}
        for round in range(rounds):
            there = round == 0 or rng.random() < 0.5
            batch = [gradients(others)] + [gradients(candidates)[[chosen]]] * there
            rows = np.concatenate(batch)
            if clip is None:
                update = rows.mean(axis=0)
            else:
                total = cut(rows).sum(axis=0) + noise * CLIP * rng.standard_normal(rows.shape[1])
                update = total / (4 * len(clients))
            told[len(seen)] = others
            n = len(rows) if clip is None else 4
            seen.append(Observation(round, clients, n, sent, named(update), local))
        insight.append(InformedPrior(told, candidates, clip))
        truth.append(chosen)
    first = np.array([min(one.others) for one in insight])
    challenge = ReconstructionChallenge(
        first, np.ones(trials, np.int64), SHAPE, insight=tuple(insight)
    )
    return seen, challenge, np.array(truth)


def right(seen, challenge, truth):
    """Which candidates were named rightly."""
    release, knowledge = Release({"aggregate": seen}), Knowledge(PROBLEM, network=network)
    images = InformedAdversary().execute(release, challenge, knowledge).reconstructions
    assert images.shape == (len(challenge), 1, *SHAPE)
    own = [one.candidates.x[t] for one, t in zip(challenge.insight, truth, strict=True)]
    return np.array([np.array_equal(a[0], b) for a, b in zip(images, own, strict=True)])


@pytest.mark.parametrize("clip", [CLIP, None])
@pytest.mark.parametrize("rounds", [1, 3])
def test_without_noise_the_record_is_always_named(clip, rounds):
    assert right(*game(12, clip=clip, rounds=rounds)).all()


def test_sums_over_clients_are_read_like_single_messages():
    assert right(*game(8, clients=(0, 1, 2))).all()


def test_buried_in_noise_it_is_guessed():
    trials = 160
    found = right(*game(trials, noise=1e4)).sum()
    assert beta.ppf(0.001, found, trials - found + 1) <= 1 / M
    assert beta.ppf(0.999, found + 1, trials - found) >= 1 / M


def test_under_noise_it_comes_near_the_ceiling_and_no_higher():
    trials, sigma = 160, 0.5
    upper_bound = norm.cdf(norm.ppf(1 / M) + 1 / sigma)
    found = right(*game(trials, noise=sigma)).sum()
    assert beta.ppf(0.001, found, trials - found + 1) <= upper_bound
    assert found / trials > 1 / M + 3 * np.sqrt((M - 1) / M**2 / trials)


def test_encrypted_entries_are_left_out():
    seen, challenge, truth = game(8)
    hidden = {"1.bias": np.ones(2, bool)}
    spoiled = [replace(one, update=one.update | {"1.bias": np.full(2, 1e3, np.float32)},
                       hidden=hidden) for one in seen]  # fmt: skip
    assert right(spoiled, challenge, truth).all()


def test_it_says_where_it_cannot_be_mounted():
    seen, challenge, truth = game(1, steps=2)
    with pytest.raises(NotApplicable, match="took 2 steps"):
        right(seen, challenge, truth)
    seen, challenge, truth = game(1)
    with pytest.raises(NotApplicable, match="not told"):
        InformedAdversary().run(Release({"aggregate": seen}), replace(challenge, insight=None))
    several = ProblemSpec(50, 20, 4, SHAPE, 3, task="multilabel")
    assert len(InformedAdversary().incompatibilities(several, {})) == 2

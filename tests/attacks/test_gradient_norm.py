import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import (
    Challenge,
    Knowledge,
    ProblemSpec,
    Records,
    Release,
    Shadow,
    multiclass,
    multilabel,
)
from medleak.attacks._whitebox import gradient_squares
from medleak.attacks.membership.gradient_norm import GradientNorm
from medleak.metrics.statistics.roc import auc
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP
from medleak.testing import membership_world

CONFIGS = [("multiclass", (1, 8, 8)), ("multiclass", (12,)), ("multilabel", (1, 8, 8))]


def linear(seed=0, features=5, outputs=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(features, outputs)


def closed_form(layer, x, y):
    """``(p - y) (x, 1)^T``: its norm is the product of two norms."""
    z = x @ layer.weight.double().detach().numpy().T + layer.bias.double().detach().numpy()
    if y.ndim == 2:
        residual = 1 / (1 + np.exp(-z)) - y
    else:
        residual = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) - np.eye(z.shape[1])[y]
    return (residual**2).sum(axis=1), (x.astype(np.float64) ** 2).sum(axis=1)


@pytest.mark.parametrize("several", [False, True])
def test_closed_form_of_a_linear_model(several):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 5)).astype(np.float32)
    y = rng.integers(0, 2, (150, 3)) if several else rng.integers(0, 3, 150)
    layer = linear()
    residual, length = closed_form(layer, x, y)
    task = multilabel if several else multiclass
    squares = gradient_squares(layer, x, y, task=task)
    assert np.allclose(squares, np.stack([residual * length, residual], axis=1), rtol=1e-12)


def test_a_record_known_by_heart_keeps_its_digits():
    layer = linear(outputs=2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[-30.0] * 5, [30.0] * 5]))
        layer.bias.zero_()
    x = np.array([[0.08] * 5, [0.09] * 5], dtype=np.float32)  # 1 - p_y of 4e-11 and 2e-12
    squares = gradient_squares(layer, x, np.array([1, 1]), task=multiclass)[:, 1]
    margin = 60 * x.astype(np.float64).sum(axis=1)
    assert np.allclose(np.sqrt(squares), np.sqrt(2) * np.exp(-margin), rtol=1e-4)


def one_by_one(network, x, y):
    x = torch.from_numpy(x)
    x = (x.float() / 255 if x.dtype == torch.uint8 else x).double()
    rows = []
    for xi, yi in zip(x, torch.from_numpy(y), strict=True):
        loss = nn.functional.cross_entropy(network(xi[None]), yi[None])
        grads = torch.autograd.grad(loss, list(network.parameters()))
        rows.append([float((g**2).sum()) for g in grads])
    return np.array(rows)


class Stubborn(nn.Module):
    """An operation that `torch.func.vmap` refuses."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.layer(x if x.sum().item() > 0 else -x)


@pytest.mark.parametrize("make", [lambda: SmallCNN(in_shape=(1, 8, 8), n_outputs=3, width=4),
                                  lambda: MLP(in_shape=(1, 8, 8), n_outputs=3, hidden=7),
                                  Stubborn])  # fmt: skip
def test_gradients_are_autograds_record_by_record(make):
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (70, 1, 8, 8), dtype=np.uint8), rng.integers(0, 3, 70)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make().eval()
    squares = gradient_squares(network, x, y, task=multiclass)
    assert np.allclose(squares, one_by_one(network, x, y), rtol=1e-9)


def hand_made():
    """A linear target and two linear shadows, with 40 records of three classes."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((40, 5)).astype(np.float32), rng.integers(0, 3, 40)
    challenge = Challenge(Records(x, y, np.arange(40)), np.full(40, "natural"))
    layers = [linear(seed) for seed in range(3)]
    member = rng.random((2, 40)) < 0.5
    problem = ProblemSpec(20, 20, 1, (5,), 3)

    def network(weights):
        layer = nn.Linear(5, 3)
        layer.load_state_dict({n: torch.from_numpy(a) for n, a in weights.items()})
        return layer.eval()

    def release(layer):
        return Release({"weights": {n: t.numpy() for n, t in layer.state_dict().items()}})

    shadows = [Shadow(m, np.zeros(0, bool), release(layer))
               for m, layer in zip(member, layers[1:], strict=True)]  # fmt: skip
    norms = [0.5 * np.log(r * (s + 1)) for r, s in (closed_form(f, x, y) for f in layers)]
    return (
        release(layers[0]),
        challenge,
        Knowledge(problem, network=network),
        shadows,
        norms,
        member,
    )


def test_the_score_is_minus_the_log_norm_against_its_class():
    release, challenge, knowledge, shadows, norms, member = hand_made()
    scores = GradientNorm().execute(release, challenge, knowledge).scores
    assert np.allclose(scores, -norms[0])
    knowledge.shadows = shadows
    scores = GradientNorm().execute(release, challenge, knowledge).scores
    tau = scores + norms[0]
    for c in range(3):
        own = challenge.y == c
        assert np.ptp(tau[own]) < 1e-9
        seen, inside = np.concatenate([norms[1][own], norms[2][own]]), member[:, own].ravel()

        def gain(t, seen=seen, inside=inside):
            return (seen[inside] <= t).mean() - (seen[~inside] <= t).mean()

        assert gain(tau[own][0]) == pytest.approx(max(gain(t) for t in seen))
    assert len(np.unique(tau.round(9))) == 3


@pytest.mark.parametrize("per_layer", [False, True])
def test_the_first_shadows_teach(per_layer):
    release, challenge, knowledge, shadows, *_ = hand_made()

    def scores(shadows, **settings):
        knowledge.shadows = shadows
        return GradientNorm(per_layer=per_layer, **settings).execute(release, challenge, knowledge)

    first = scores(shadows, n_teachers=1).scores
    assert np.array_equal(first, scores(shadows[:1]).scores)
    assert not np.array_equal(first, scores(shadows).scores)


@pytest.mark.parametrize("per_layer", [False, True])
@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
@pytest.mark.parametrize(("task", "in_shape"), CONFIGS)
def test_a_planted_leak_is_found_and_nothing_else(per_layer, pool, task, in_shape):
    for leak in (3.0, 0.0):
        release, challenge, secret, knowledge = membership_world(
            leak=leak, n=300, n_shadows=2, pool=pool, task=task, in_shape=in_shape
        )
        attack = GradientNorm(per_layer=per_layer)
        output = attack.execute(release.granting("weights"), challenge, knowledge)
        found = auc(output.scores, secret.member)
        assert output.queries == 0
        assert found > 0.85 if leak else abs(found - 0.5) < 3.3 * np.sqrt(301 / (12 * 150 * 150))


def test_refusals_and_faults():
    assert GradientNorm().incompatibilities(None, {"n_shadows": 0}) == []
    assert (
        "needs at least 1"
        in GradientNorm(per_layer=True).incompatibilities(None, {"n_shadows": 0})[0]
    )
    assert len(GradientNorm(per_layer=1, n_teachers=0).invalid_parameters()) == 2

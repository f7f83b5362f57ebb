import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import MedleakError, ProblemSpec, multiclass, multilabel
from medleak.attacks._whitebox import inputs, last_layer
from medleak.attacks.membership._supervised import learned
from medleak.attacks.membership.last_layer_gradient import LastLayerGradient, features
from medleak.metrics.statistics.roc import auc
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP
from medleak.testing import membership_world

PROBLEM = ProblemSpec(50, 50, 1, (1, 8, 8), 3)


def made(make, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().eval()


def images(n=20, classes=3, several=False):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    return x, rng.integers(0, 2, (n, classes)) if several else rng.integers(0, classes, n)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("make", [lambda: SmallCNN(in_shape=(1, 8, 8), n_outputs=3, width=4),
                                  lambda: MLP(in_shape=(1, 8, 8), n_outputs=3, hidden=9)])  # fmt: skip
def test_norms_are_those_of_the_true_gradient(make, several):
    x, y = images(several=several)
    network = made(make)
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    h, weight, z = last_layer(network, x, 3)
    task = multilabel if several else multiclass
    found = features(h, weight, z, y, task=task)
    assert np.array_equal(weight, last.weight.detach().double().numpy())
    for row, xi, yi in zip(found, inputs(x), torch.from_numpy(y), strict=True):
        value = task.total_loss(network(xi[None]), yi[None])
        by_weight, by_bias = torch.autograd.grad(value, [last.weight, last.bias])
        assert row[0] == pytest.approx(np.log(float(by_bias.norm())), abs=1e-4)
        assert row[0] + row[1] == pytest.approx(np.log(float(by_weight.norm())), abs=1e-4)
        if several:
            assert np.allclose(row[5:8], by_bias.numpy(), atol=1e-5)


def test_features_do_not_depend_on_the_order_of_hidden_units():
    x, y = images()
    network = made(lambda: MLP(in_shape=(1, 8, 8), n_outputs=3, hidden=9))
    before = features(*last_layer(network, x, 3), y, task=multiclass)
    hidden, last = (m for m in network.modules() if isinstance(m, nn.Linear))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        hidden.weight.copy_(hidden.weight[order])
        hidden.bias.copy_(hidden.bias[order])
        last.weight.copy_(last.weight[:, order])
    assert np.allclose(features(*last_layer(network, x, 3), y, task=multiclass), before, atol=1e-5)


@pytest.mark.parametrize(("classes", "columns"), [(2, 3 + 1 + 2 + 2), (3, 3 + 2 + 3 + 3), (9, 17)])
def test_any_number_of_classes(classes, columns):
    x, y = images(classes=classes)
    network = made(lambda: MLP(in_shape=(1, 8, 8), n_outputs=classes))
    found = features(*last_layer(network, x, classes), y, task=multiclass)
    assert found.shape == (20, columns)
    assert np.isfinite(found).all()


def test_a_dead_record_is_finite():
    found = features(
        np.zeros((1, 4)),
        np.zeros((2, 4)),
        np.array([[900.0, -900.0]]),
        np.array([0]),
        task=multiclass,
    )
    assert np.isfinite(found).all()


def test_networks_without_a_last_linear_layer_are_told():
    x, _ = images()
    for network in (nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
                    nn.Sequential(nn.Conv2d(1, 3, 8), nn.Flatten()),
                    nn.Linear(8, 3)):  # fmt: skip
        with pytest.raises(MedleakError, match="does not end in a linear layer with 3 outputs"):
            last_layer(network, x, 3)
        assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.parametrize("pool", ["audit", "auxiliary"])
@pytest.mark.parametrize(("task", "in_shape"), [("multiclass", (1, 8, 8)), ("multiclass", (12,)),
                                                ("multilabel", (1, 8, 8))])  # fmt: skip
def test_a_planted_leak_is_found_and_nothing_else(pool, task, in_shape):
    for leak in (3.0, 0.0):
        release, challenge, secret, knowledge = membership_world(
            leak=leak, n=300, n_shadows=4, pool=pool, task=task, in_shape=in_shape
        )
        output = LastLayerGradient().execute(release.granting("weights"), challenge, knowledge)
        found = auc(output.scores, secret.member)
        assert output.queries == 0
        assert found > 0.9 if leak else abs(found - 0.5) < 3.3 * np.sqrt(301 / (12 * 150 * 150))


def test_it_learns_from_shadows():
    assert "needs at least 1" in LastLayerGradient().incompatibilities(PROBLEM, {"n_shadows": 0})[0]


def test_shadows_that_saw_everyone_teach_nothing():
    seen, new = np.random.default_rng(0).standard_normal((2, 3, 4)), np.ones((5, 4))
    for constant in (np.ones((2, 3), bool), np.zeros((2, 3), bool)):
        assert np.array_equal(learned("logistic", seen, constant)(new), np.zeros(5))

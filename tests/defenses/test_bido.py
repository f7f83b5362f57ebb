"""HSIC in closed form and against the textbook formula, and what the rule does with it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medleak.api import ConfigError
from medleak.defenses.train._hsic import (
    EPSILON,
    dependence,
    gaussian,
    hidden,
    one_hot,
    regularised,
    watching,
)
from medleak.defenses.train._recipes import changed
from medleak.defenses.train.bido import BiDO, BilateralGradient
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.dropout import Dropout
from medleak.defenses.train.label_smoothing import LabelSmoothing
from medleak.defenses.train.mixup import MixUp
from medleak.targets._training import losses
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.densenet import DenseNet121
from medleak.targets.architectures.he_cnn import HECNN
from medleak.targets.architectures.logistic import LogisticRegression
from medleak.targets.architectures.mlp import MLP
from medleak.targets.architectures.resnet import ResNet18
from medleak.targets.recipes import SGD


def textbook(a, b, linear=False):
    """``tr(K H (K H + e m I)^-1 L H (L H + e m I)^-1)`` in float64, as the authors write it."""

    def kernel(v, linear):
        v = v.reshape(len(v), -1).astype(np.float64)
        if linear:
            return v @ v.T
        distances = np.square(v[:, None] - v[None]).sum(-1)
        return np.exp(-distances / (2 * 5.0**2 * v.shape[1]))

    m = len(a)
    centre = np.eye(m) - 1 / m
    k, l = kernel(a, False) @ centre, kernel(b, linear) @ centre  # noqa: E741
    ridge = 1e-5 * m * np.eye(m)
    return np.trace(k @ np.linalg.inv(k + ridge) @ l @ np.linalg.inv(l + ridge))


def test_it_is_the_textbooks_hsic():
    rng = np.random.default_rng(0)
    x = rng.random((24, 1, 6, 6)).astype(np.float32)
    layers = [rng.normal(size=(24, 8)).astype(np.float32), np.float32(np.tanh(x[:, 0, :3]))]
    y = np.eye(3)[np.arange(24) % 3]
    on_x, on_y = dependence(
        torch.from_numpy(x), torch.from_numpy(y).float(), [torch.from_numpy(h) for h in layers]
    )
    assert on_x.item() == pytest.approx(sum(textbook(h, x) for h in layers), rel=1e-3)
    assert on_y.item() == pytest.approx(sum(textbook(h, y, True) for h in layers), rel=1e-3)


def test_the_kernel_at_a_known_distance():
    a = torch.zeros(2, 10)
    a[1] = 5.0  # a squared distance of 250, where twice 25 times 10 is 500
    assert gaussian(a)[0, 1].item() == pytest.approx(np.exp(-0.5) - 1)
    assert torch.equal(gaussian(a).diagonal(), torch.zeros(2))


@pytest.mark.parametrize("classes", [2, 4])
def test_balanced_classes_in_closed_form(classes):
    """Their centred kernel has the eigenvalue m / C, C - 1 times, and nothing else."""
    y = one_hot(torch.arange(24) % classes, classes)
    labels = regularised(y @ y.T)
    share = (24 / classes) / (24 / classes + 24 * EPSILON)
    assert (labels * labels.T).sum().item() == pytest.approx((classes - 1) * share**2, rel=1e-4)


def test_nothing_depends_on_a_constant_and_the_order_of_records_does_not_matter():
    g = torch.Generator().manual_seed(0)
    x, h, y = torch.rand(20, 5, generator=g), torch.rand(20, 7, generator=g), torch.arange(20) % 2
    values = dependence(x, one_hot(y, 2), [torch.ones(20, 3)])
    assert [v.item() for v in values] == pytest.approx([0, 0], abs=1e-5)
    order = torch.randperm(20, generator=g)
    for a, b in zip(
        dependence(x, one_hot(y, 2), [h]),
        dependence(x[order], one_hot(y[order], 2), [h[order]]),
        strict=True,
    ):
        assert a.item() == pytest.approx(b.item(), rel=1e-3)


@pytest.mark.parametrize("labels", [None, 3])
def test_without_weights_it_is_plain_training_bit_by_bit(small, labels):
    plain, none = (small.fit(*d, labels=labels) for d in ((), (BiDO(lambda_x=0, lambda_y=0),)))
    assert small.same(plain, none)
    defended = small.fit(BiDO(), labels=labels)
    assert not small.same(defended, plain)
    assert small.same(defended, small.fit(BiDO(), labels=labels))
    assert (defended.facts["bido_x"], defended.facts["bido_y"]) == (0.05, 0.5)


@pytest.mark.parametrize("labels", [None, 3])
def test_the_gradient_is_that_of_the_loss_and_both_dependences(small, labels):
    data, model = small.records(12, labels=labels), small.network(labels or 2)
    x, y = torch.from_numpy(data.x).float() / 255, torch.from_numpy(data.y)
    h = model[:5](x)
    z = model[5](h)
    if labels:
        loss = functional.binary_cross_entropy_with_logits(z, y.float())
    else:
        loss = functional.cross_entropy(z, y)
    of_h, of_x = regularised(gaussian(h)), regularised(gaussian(x))
    target = y.float() if labels else functional.one_hot(y, 2).float()
    of_y = regularised(target @ target.T)
    whole = loss + 0.2 * (of_x * of_h.T).sum() - 0.7 * (of_y * of_h.T).sum()
    want = torch.autograd.grad(whole, list(model.parameters()))
    task = "multilabel" if labels else "multiclass"
    with BilateralGradient(0.2, 0.7, 5).attached(model, losses(task), 0) as backward:
        assert backward(x, y).item() == pytest.approx(loss.item(), rel=1e-5)
    for p, w in zip(model.parameters(), want, strict=True):
        assert torch.allclose(p.grad, w, atol=1e-5)
    assert not any(m._forward_pre_hooks for m in model)


@pytest.mark.parametrize(
    ("model", "shape", "inner"),
    [
        (MLP(in_shape=(6,), n_outputs=2, depth=3, hidden=8), (6,), 3),
        (SmallCNN(in_shape=(1, 16, 16), n_outputs=2), (1, 16, 16), 2),
        (ResNet18(in_shape=(1, 16, 16), n_outputs=2, width=4), (1, 16, 16), 20),
        (HECNN(in_shape=(1, 28, 28), n_outputs=2), (1, 28, 28), 2),
        (DenseNet121(in_shape=(1, 64, 64), n_outputs=2), (1, 64, 64), 120),
        (LogisticRegression(in_shape=(6,), n_outputs=2), (6,), 0),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_hidden_layers_of_every_architecture(model, shape, inner):
    x = torch.rand(3, *shape)
    with watching(model) as seen:
        model.eval()(x)
        assert not seen, "nothing is kept outside of training"
        model.train()(x)
        assert len(seen) == inner + 1
        if not inner:
            with pytest.raises(ConfigError, match="no hidden layer"):
                hidden(seen, 5)
            return
        picked = hidden(seen, 5)
        assert len(picked) == min(5, inner)
        assert picked[0] is seen[-1]
        assert all(h is not seen[0] for h in picked)
        assert len({id(h) for h in picked}) == len(picked)


def test_layers_are_spread_evenly():
    assert hidden(list(range(11)), 5) == [10, 8, 6, 4, 2]
    assert hidden(list(range(4)), 5) == [3, 2, 1]
    assert hidden(list(range(11)), 1) == [10]


def test_it_learns_and_each_term_pulls_its_own_way(small):
    data = small.records(64)
    data.x[:] = (data.y * 60)[:, None, None, None] + data.x // 2
    x, y = torch.from_numpy(data.x).float() / 255, one_hot(torch.from_numpy(data.y), 2)
    recipe = SGD(epochs=30, batch_size=32, lr=0.01, optimizer="adamw")

    def fitted(lambda_x, lambda_y):
        defense = BiDO(lambda_x=lambda_x, lambda_y=lambda_y)
        fit = small.fit(defense, recipe=recipe, data=data)
        with torch.no_grad():
            on_x, on_y = dependence(x, y, [fit.model[:5](x)])
        return fit.facts["train_accuracy"], on_x.item(), on_y.item()

    plain, both, inputs_only = fitted(0, 0), fitted(0.05, 0.5), fitted(0.05, 0)
    assert both[0] > 0.95
    assert both[1] < 0.8 * plain[1]
    assert inputs_only[1] < 0.8 * plain[1]
    assert both[2] > inputs_only[2]


def test_batches_of_none_and_one_follow_the_loss_alone(small):
    for n in (0, 1):
        x, y = torch.rand(n, 1, 8, 8), torch.zeros(n, dtype=torch.int64)
        grads = []
        for rule in (BilateralGradient(0.0, 0.0, 5), BilateralGradient(9.0, 9.0, 5)):
            model = small.network()
            with rule.attached(model, losses("multiclass"), 0) as backward:
                backward(x, y)
            grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        assert torch.equal(*grads)


def test_in_bfloat16_the_kernels_stay_exact(small):
    fit = small.fit(BiDO(), recipe=changed(small.recipe, precision="bf16"))
    assert np.isfinite(fit.facts["train_loss"])


def test_it_composes_inwards_only(small):
    public = small.problem()
    facts = small.fit(BiDO(), Dropout(rate=0.5), LabelSmoothing()).facts
    assert (facts["bido_x"], facts["dropout"], facts["label_smoothing"]) == (0.05, 0.5, 0.1)
    for first in (DPSGD(epsilon=8), LabelSmoothing(), MixUp(), BiDO()):
        (reason,) = BiDO().incompatibilities(public, first.apply(small.recipe, problem=public))
        assert "do not compose" in reason
    bilateral = BiDO().apply(small.recipe, problem=public)
    assert "already replaced" in DPSGD(epsilon=8).incompatibilities(public, bilateral)[0]


@pytest.mark.parametrize(
    ("keywords", "named"),
    [({"lambda_x": -1}, "lambda_x -1"), ({"lambda_y": None}, "lambda_y None"),
     ({"layers": 0}, "layers 0"), ({"layers": 1.5}, "layers 1.5")],
)  # fmt: skip
def test_impossible_settings_are_named(small, keywords, named):
    assert named in BiDO(**keywords).invalid_parameters()[0]
    with pytest.raises(ConfigError, match=named):
        BiDO(**keywords).apply(small.recipe, problem=small.problem())

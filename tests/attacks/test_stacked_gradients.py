"""Gradients of many messages at once, and their own gradients, are those of one at a time."""

import copy

import numpy as np
import pytest
import torch
from matching_world import SIDE, images, made, sent_by
from torch import nn

from medleak.api import LocalTraining
from medleak.attacks.gradient_inversion import _double_backward, _matching, _shared
from medleak.attacks.gradient_inversion._matching import gradients

pytestmark = pytest.mark.usefixtures("one_thread")


def stacked_input(network, s=3, b=2, side=SIDE):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(s, b, 1, side, side, generator=generator)
    targets = torch.softmax(torch.randn(s, b, 2, generator=generator), dim=-1)
    weights = {n: p.detach() for n, p in network.named_parameters()}
    return weights, x, targets


def flat(arrays):
    return torch.cat([a.flatten(1) for a in arrays.values()], dim=1)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("kind", ["cnn", "mlp", "sigmoid", "depthwise", "resnet"])
def test_stacked_gradients_and_their_gradients_are_autograds_one_by_one(kind, shared):
    network = made(kind).double()
    weights, x, targets = stacked_input(network, side=32 if kind == "resnet" else SIDE)
    assert _shared.readable(network) is (kind != "depthwise")
    x, targets = x.double().requires_grad_(), targets.double()
    own = {n: w.expand(3, *w.shape) for n, w in weights.items()}
    if not shared:
        own = {n: w * torch.tensor([1.0, 1.1, 0.9]).double().reshape(-1, *[1] * (w.ndim - 1))
               for n, w in own.items()}  # fmt: skip
    found = flat(gradients(network)(own, x, targets))
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).double()
    (second,) = torch.autograd.grad((found * direction).sum(), x)
    for s in range(3):
        model = copy.deepcopy(network)
        model.load_state_dict({n: w[s] for n, w in own.items()}, strict=False)
        z = x[s].detach().requires_grad_()
        loss = -(targets[s] * model(z).log_softmax(dim=1)).sum(dim=1).mean()
        plain = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        plain = torch.cat([g.flatten() for g in plain])
        (twice,) = torch.autograd.grad((plain * direction[s]).sum(), z)
        assert torch.allclose(found[s], plain, rtol=1e-8, atol=1e-10)
        assert torch.allclose(second[s], twice, rtol=1e-7, atol=1e-9)


OPERATIONS = {
    "columns": lambda x: _double_backward.Columns.apply(
        x, _double_backward.Window((3, 2), (2, 1), (1, 0), (1, 2))
    ),
    "convolved": lambda x: _double_backward.Convolved.apply(
        x,
        torch.linspace(-1, 1, 3 * 4 * 6).double().reshape(3, 4, 3, 2).sin(),
        None,
        _double_backward.Window((3, 2), (2, 1), (1, 0), (1, 2)),
    ),
    "pooled": lambda x: _double_backward.Pooled.apply(x, ([3, 3], [2, 2], [1, 1], [1, 1], True))[0],
    "normalised": lambda x: _double_backward.Normalised.apply(x, 2, 1e-5),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_first_and_second_derivatives_are_those_of_finite_differences(name):
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(OPERATIONS[name], x)
    assert torch.autograd.gradgradcheck(OPERATIONS[name], x)


def test_weights_that_are_met_twice_or_never():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.never = nn.Linear(4, 4), nn.Linear(4, 4)
            self.register_buffer("fixed", torch.ones(1, 1, 1, 1))
            self.plain = nn.GroupNorm(2, 4, affine=False)

        def forward(self, x):
            x = nn.functional.conv2d(x, self.fixed).flatten(1)
            return self.plain(self.twice(self.twice(x).tanh()))[:, :2]

    network = Odd().double()
    own = {n: p.detach().expand(3, *p.shape) for n, p in network.named_parameters()}
    x, targets = torch.rand(3, 2, 1, 2, 2).double(), torch.full((3, 2, 2), 0.5).double()
    found = gradients(network)(own, x, targets)
    changed = {n: w.clone() for n, w in own.items()}  # no longer shared: the general way
    plain = gradients(network)(changed, x, targets)
    assert found.keys() == plain.keys()
    assert all(torch.allclose(found[n], g) for n, g in plain.items())
    assert found["twice.weight"].any()
    assert not found["never.weight"].any()


@pytest.mark.parametrize("kind", ["cnn", "sigmoid"])
def test_a_replayed_client_is_a_client_and_its_slope_is_that_of_finite_differences(kind):
    network, local = made(kind).double(), LocalTraining(3, 2, 0.5)
    x, y = images(4)
    weights = {n: p.detach().unsqueeze(0) for n, p in network.named_parameters()}
    targets = nn.functional.one_hot(torch.from_numpy(y), 2).double()[None]
    z = torch.from_numpy(x).double()[None].requires_grad_()

    def update(z):
        return _matching.replayed(gradients(network), weights, z, targets, local)

    plain = sent_by(network, x.astype(np.float64), y, local)
    found = update(z)
    assert np.allclose(found[0].detach(), np.concatenate([g.ravel() for g in plain.values()]))
    aim = found.detach() + 0.1 * torch.randn(
        found.shape, generator=torch.Generator().manual_seed(0)
    )
    (gradient,) = torch.autograd.grad(_matching.cosine(found, aim).sum(), z)
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(1)).double()
    ahead, behind = (
        _matching.cosine(update(z.detach() + h * direction), aim).item() for h in (1e-6, -1e-6)
    )
    assert (ahead - behind) / 2e-6 == pytest.approx((gradient * direction).sum().item(), rel=1e-4)

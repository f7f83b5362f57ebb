"""Networks of linear layers and squares: what they compute, and that they can be trained."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import ConfigError, MedleakError, ProblemSpec
from medleak.targets.architectures.he_cnn import HECNN, HEMLP, SLOPE
from medleak.targets.datasets.phantom import Phantom
from medleak.targets.recipes import SGD

CASES = [
    pytest.param(cls, shape, id=f"{cls.__name__}-{'x'.join(map(str, shape))}")
    for cls, shapes in [
        (HECNN, [(1, 28, 28), (3, 28, 28), (1, 64, 64), (1, 9, 40)]),
        (HEMLP, [(1, 28, 28), (3, 64, 64), (30,)]),
    ]
    for shape in shapes
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def test_he_cnn_is_convolution_square_linear_square_linear():
    model, x = HECNN(in_shape=(1, 28, 28), n_outputs=3), torch.rand(5, 1, 28, 28)
    z = nn.functional.conv2d((x - 0.5) / 0.25, model.conv.weight, model.conv.bias, stride=3)
    assert z.shape == (5, 4, 8, 8)
    h = model.hidden((SLOPE * z**2).flatten(1))
    assert h.shape == (5, 64)
    assert torch.allclose(model(x), model.out(SLOPE * h**2), atol=1e-6)


def test_large_images_are_averaged_first():
    """Twice 28 pixels: each is the mean of four."""
    model, x = HECNN(in_shape=(1, 56, 56), n_outputs=2), torch.rand(3, 1, 56, 56)
    small = x.reshape(3, 1, 28, 2, 28, 2).mean((3, 5))
    assert torch.allclose(model(x), model(small), atol=1e-6)


@pytest.mark.parametrize(("cls", "shape"), CASES)
def test_shapes_and_per_sample_gradients(cls, shape):
    from opacus import GradSampleModule
    from opacus.validators import ModuleValidator

    model, x = cls(in_shape=shape, n_outputs=3), torch.rand(2, *shape)
    assert model(x).shape == (2, 3)
    assert ModuleValidator.validate(model) == []
    model(x[:1]).square().sum().backward()
    alone = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    hooked = GradSampleModule(model, loss_reduction="sum")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hooked(x).square().sum().backward()
    for name, parameter in hooked._module.named_parameters():
        scale = alone[name].abs().max().clamp(min=1e-3)
        assert torch.allclose(parameter.grad_sample[0], alone[name], atol=1e-3 * scale.item())


@pytest.mark.parametrize(("cls", "shape"), CASES)
def test_gradients_of_gradients_exist(cls, shape):
    """Gradient matching needs them."""
    model, x = cls(in_shape=shape, n_outputs=2), torch.rand(2, *shape, requires_grad=True)
    first = torch.autograd.grad(
        model(x).square().sum(), list(model.parameters()), create_graph=True
    )
    (second,) = torch.autograd.grad(sum(g.square().sum() for g in first), x)
    assert second.abs().sum() > 0


@pytest.mark.parametrize(("cls", "lr"), [(HECNN, 0.05), (HEMLP, 0.01)])
def test_training_is_stable_where_a_bare_square_diverges(cls, lr):
    records = Phantom(n_patients=100, size=28, seed=0).load().records
    problem = ProblemSpec(len(records), 100, 3, records.x.shape[1:], 2)

    def loss(model):
        recipe = SGD(epochs=20, batch_size=32, lr=lr)
        return recipe.fit(model, records, problem=problem, seed=0).facts["train_loss"]

    assert loss(cls(in_shape=problem.in_shape, n_outputs=2)) < 1
    bare = cls(in_shape=problem.in_shape, n_outputs=2)
    bare.square = nn.Sequential(bare.square, Times(1 / SLOPE))
    with pytest.raises(MedleakError, match="diverged"):
        loss(bare)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_he_cnn_learns():
    """Bright or dark squares: nothing that a linear layer before a square could not tell."""
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 2, 200))
    x = torch.rand(200, 1, 12, 12)
    x[:, :, 3:9, 3:9] += 0.3 * (y - 0.5)[:, None, None, None]
    model = HECNN(in_shape=(1, 12, 12), n_outputs=2, hidden=8)
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(150):
        opt.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        opt.step()
    assert (model(x).argmax(1) == y).float().mean() > 0.95


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (HECNN, {"in_shape": (30,)}, r"needs images .*\(30,\)"),
        (HECNN, {"in_shape": (1, 6, 28)}, "7 pixels or more"),
        (HECNN, {"width": 0}, "width must be a positive integer, not 0"),
        (HECNN, {"hidden": 2.5}, "hidden must be a positive integer, not 2.5"),
        (HEMLP, {"in_shape": (4, 4)}, "is neither"),
        (HEMLP, {"hidden": 0}, "hidden must be a positive integer"),
    ],
)
def test_refusals(cls, options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        cls(**({"in_shape": (1, 28, 28), "n_outputs": 2} | options))
    assert "\n" not in str(caught.value)

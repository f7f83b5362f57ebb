"""Every architecture: shapes, refusals, and the per-sample gradients that DP-SGD needs."""

import warnings

import pytest
import torch
from torch import nn

from medleak.api import ConfigError
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.densenet import DenseNet121
from medleak.targets.architectures.logistic import LogisticRegression
from medleak.targets.architectures.mlp import MLP
from medleak.targets.architectures.resnet import ResNet18

SMALL = {"width": 8}
CASES = [
    pytest.param(cls, options, shape, id=f"{cls.__name__}-{'x'.join(map(str, shape))}")
    for cls, options, sizes in [
        (LogisticRegression, {}, (28, 64)),
        (MLP, {"hidden": 16, "depth": 2}, (28, 64)),
        (SmallCNN, {}, (28, 64, 128)),
        (ResNet18, SMALL, (28, 64, 128)),
        (DenseNet121, {}, (64,)),
    ]
    for size in sizes
    for shape in ((1, size, size), (3, size, size))
] + [pytest.param(cls, {}, (30,), id=f"{cls.__name__}-30") for cls in (LogisticRegression, MLP)]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("cls", "options", "shape"), CASES)
def test_per_sample_gradients_are_those_of_single_records(cls, options, shape):
    from opacus import GradSampleModule
    from opacus.validators import ModuleValidator

    # In double precision: what deep networks make of single rounding differs between processors.
    model = cls(in_shape=shape, n_outputs=3, **options).double()
    x = torch.rand(2, *shape, dtype=torch.float64)
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
        assert parameter.grad_sample.shape == (2, *parameter.shape)
        scale = alone[name].abs().max().clamp(min=1e-3)
        assert torch.allclose(parameter.grad_sample[0], alone[name], atol=1e-6 * scale.item())


@pytest.mark.parametrize(
    ("cls", "shape"),
    [(SmallCNN, (1, 224, 224)), (ResNet18, (3, 224, 224)), (SmallCNN, (1, 40, 100))],
)
def test_large_and_oblong_images(cls, shape):
    with torch.no_grad():
        assert cls(in_shape=shape, n_outputs=2)(torch.rand(1, *shape)).shape == (1, 2)


def test_densenet_at_full_size():
    with torch.no_grad():
        model = DenseNet121(in_shape=(3, 224, 224), n_outputs=14)
        assert model(torch.rand(1, 3, 224, 224)).shape == (1, 14)


@pytest.mark.parametrize(("cls", "options", "shape"), CASES)
def test_records_do_not_influence_each_other(cls, options, shape):
    model = cls(in_shape=shape, n_outputs=2, **options).train()
    x = torch.rand(3, *shape)
    with torch.no_grad():
        assert torch.allclose(model(x)[:1], model(x[:1]), atol=1e-4)


@pytest.mark.parametrize(("cls", "options", "shape"), CASES)
def test_parameters_flatten_and_nothing_is_in_place(cls, options, shape):
    model = cls(in_shape=shape, n_outputs=2, **options)
    assert nn.utils.parameters_to_vector(model.parameters()).ndim == 1
    assert not any(getattr(module, "inplace", False) for module in model.modules())
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


def test_small_cnn_is_the_small_one():
    model = SmallCNN(in_shape=(1, 28, 28), n_outputs=2)
    assert [tuple(p.shape) for p in model.parameters() if p.ndim > 1] == [
        (16, 1, 3, 3),
        (32, 16, 3, 3),
        (2, 32 * 7 * 7),
    ]


def test_small_cnn_is_its_layers_in_the_usual_layout():
    """The memory layout changes speed, not numbers; and it survives `torch.func.vmap`."""
    model = SmallCNN(in_shape=(3, 28, 28), n_outputs=2).double()
    x = torch.rand(4, 3, 28, 28, dtype=torch.double)
    plain = model.head(model.features((x - 0.5) / 0.25).permute(0, 2, 3, 1))
    assert torch.allclose(model(x), plain)
    parameters = dict(model.named_parameters())

    def one(record):
        return torch.func.functional_call(model, parameters, (record[None],))[0]

    assert torch.allclose(torch.func.vmap(one)(x), plain)


def test_small_cnn_activations_are_channels_last_unless_hooks_read_them():
    seen = []
    model = SmallCNN(in_shape=(1, 28, 28), n_outputs=2)
    first, pool, x = model.features[0], model.features[1], torch.rand(2, 1, 28, 28)
    pool.register_forward_hook(lambda module, given, made: seen.append(made))
    model(x)
    with first.register_forward_hook(lambda module, given, made: None):
        model(x)
    model(x)
    assert [a.is_contiguous() for a in seen] == [False, True, False]
    assert all(a.is_contiguous(memory_format=torch.channels_last) for a in seen[::2])
    assert torch.allclose(seen[0], seen[1], atol=1e-5)


def test_autocast_normalises_in_full_precision():
    model = SmallCNN(in_shape=(1, 28, 28), n_outputs=2)
    seen = []
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_hook(lambda m, i, o: seen.append(i[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.rand(2, 1, 28, 28))
    assert seen == [torch.float32, torch.float32]


def test_resnet_stems():
    def first(stem, size):
        model = ResNet18(in_shape=(1, size, size), n_outputs=2, stem=stem, width=8)
        return next(p for p in model.parameters() if p.ndim == 4).shape[-1]

    assert [first("auto", 28), first("auto", 64), first("small", 64), first("large", 32)] == [
        3,
        7,
        3,
        7,
    ]


@pytest.mark.parametrize(
    ("cls", "options", "words"),
    [
        (SmallCNN, {"in_shape": (30,)}, r"needs images .*\(30,\)"),
        (SmallCNN, {"in_shape": (2, 28, 28)}, "1 .grey. or 3 .colour. channels"),
        (SmallCNN, {"in_shape": (1, 7, 28)}, "8 pixels or more"),
        (SmallCNN, {"width": 6}, "multiple of 4, not 6"),
        (SmallCNN, {"width": 0}, "width must be a positive integer, not 0"),
        (SmallCNN, {"n_outputs": 0}, "n_outputs must be a positive integer"),
        (ResNet18, {"in_shape": (1, 8, 8)}, "16 pixels or more"),
        (ResNet18, {"stem": "smal"}, "did you mean 'small'"),
        (ResNet18, {"width": 5}, "multiple of 4"),
        (ResNet18, {"in_shape": (30,)}, "needs images"),
        (DenseNet121, {"in_shape": (1, 28, 28)}, r"64 pixels or more: in_shape \(1, 28, 28\)"),
        (MLP, {"in_shape": (4, 4)}, "is neither"),
        (MLP, {"depth": 0}, "depth must be a positive integer"),
        (MLP, {"hidden": 2.5}, "hidden must be a positive integer, not 2.5"),
        (LogisticRegression, {"in_shape": ()}, "is neither"),
    ],
)
def test_refusals(cls, options, words):
    with pytest.raises(ConfigError, match=words) as caught:
        cls(**({"in_shape": (1, 64, 64), "n_outputs": 2} | options))
    assert "\n" not in str(caught.value)

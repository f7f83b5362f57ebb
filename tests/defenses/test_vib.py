"""The bottleneck's price in closed form, its gradient by hand, and the network that is left behind."""

import copy

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from medleak.api import ConfigError
from medleak.defenses.train._bottleneck import OFFSET, Bottleneck, divergence, squeezed
from medleak.defenses.train._private import PrivateGradient
from medleak.defenses.train._recipes import changed
from medleak.defenses.train.dp_sgd import DPSGD
from medleak.defenses.train.dropout import Dropped
from medleak.defenses.train.federated import Federated
from medleak.defenses.train.label_smoothing import LabelSmoothing
from medleak.defenses.train.mixup import MixUp
from medleak.defenses.train.regularised import EarlyStopping
from medleak.defenses.train.vib import VIB, Squeezed
from medleak.targets._rules import MeanGradient
from medleak.targets._training import losses
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.resnet import ResNet18
from medleak.targets.recipes import SGD

PLAIN = losses("multiclass")


def some_batch(n=9):
    x = torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return x, torch.arange(n) % 2


@pytest.mark.parametrize("labels", [None, 3])
def test_without_a_price_it_is_plain_training_bit_by_bit(small, labels):
    assert small.same(small.fit(VIB(beta=0), labels=labels), small.fit(labels=labels))
    squeezed_ = small.fit(VIB(beta=0.1, width=4), labels=labels)
    assert not small.same(squeezed_, small.fit(labels=labels))
    assert small.same(squeezed_, small.fit(VIB(beta=0.1, width=4), labels=labels))
    assert not small.same(squeezed_, small.fit(VIB(beta=0.1, width=4), labels=labels, seed=1))
    assert (squeezed_.facts["vib_beta"], squeezed_.facts["vib_width"]) == (0.1, 4)


def test_the_price_is_the_divergence_from_the_standard_normal():
    g = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(6, 5, generator=g), torch.randn(6, 5, generator=g)
    code = Normal(mean, (log_variance / 2).exp())
    want = kl_divergence(code, Normal(torch.zeros(6, 5), torch.ones(6, 5))).sum(1)
    assert torch.allclose(divergence(mean, log_variance), want, atol=1e-5)
    assert torch.equal(divergence(torch.zeros(2, 3), torch.zeros(2, 3)), torch.zeros(2))


def test_the_gradient_is_that_of_the_sampled_code_and_its_price(small):
    (x, y), model = some_batch(), small.network()
    with Squeezed(0.3, 4, MeanGradient()).attached(model, PLAIN, 0) as backward:
        bottleneck, state = model[5], torch.get_rng_state()
        value = backward(x, y)
        got = [p.grad.clone() for p in model.parameters()]
        torch.set_rng_state(state)
        mean, spread = bottleneck.encode(model[:5](x)).chunk(2, 1)
        noise = torch.randn(9, 4)
        z = bottleneck.decode(mean + ((spread + OFFSET) / 2).exp() * noise)
        code = Normal(mean, ((spread + OFFSET) / 2).exp())
        price = kl_divergence(code, Normal(0.0, 1.0)).sum(1)
        loss = (functional.cross_entropy(z, y, reduction="none") + 0.3 * price).mean()
        want = torch.autograd.grad(loss, list(model.parameters()))
    assert value.item() == pytest.approx(loss.item(), rel=1e-5)
    assert len(got) == 8
    for g, w in zip(got, want, strict=True):
        assert torch.allclose(g, w, atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_left_behind_answers_by_the_mean(bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=bias))
    x, before = torch.randn(20, 6), copy.deepcopy(model.state_dict())
    old = model[2]
    with squeezed(model, 4) as bottleneck:
        assert model[2] is bottleneck
        answer = model.eval()(x)
        assert torch.equal(answer, model(x)), "no noise in evaluation"
        assert not torch.equal(answer, model.train()(x))
    assert model[2] is old
    assert torch.allclose(model(x), answer, atol=1e-6)
    after = model.state_dict()
    assert {n: t.shape for n, t in after.items()} == {n: t.shape for n, t in before.items()}
    assert not torch.equal(after["2.weight"], before["2.weight"])


@pytest.mark.parametrize("architecture", [SmallCNN, ResNet18])
def test_a_fresh_network_takes_the_released_weights(architecture):
    build = lambda: architecture(in_shape=(1, 16, 16), n_outputs=3, width=4)  # noqa: E731
    model = build()
    with squeezed(model, 8):
        answer = model.eval()(torch.zeros(2, 1, 16, 16))
    rebuilt = build().eval()
    rebuilt.load_state_dict(model.state_dict())
    assert torch.allclose(rebuilt(torch.zeros(2, 1, 16, 16)), answer, atol=1e-5)


def test_the_bottleneck_leaves_when_training_fails(small):
    model = small.network()
    with pytest.raises(RuntimeError), Squeezed(0.1, 4, MeanGradient()).attached(model, PLAIN, 0):
        raise RuntimeError
    assert isinstance(model[5], nn.Linear)


def test_it_learns_and_too_high_a_price_leaves_nothing_to_learn(small):
    data = small.records()
    data.x[:] = (data.y * 120)[:, None, None, None] + data.x // 4
    recipe = SGD(epochs=30, batch_size=16, lr=0.01, optimizer="adamw")
    cheap, dear = (
        small.fit(VIB(beta=b, width=8), recipe=recipe, data=data) for b in (0.01, 1000.0)
    )
    assert cheap.facts["train_accuracy"] == 1
    x = torch.from_numpy(data.x).float() / 255
    spread = [fit.model(x).softmax(1).std(0).max().item() for fit in (cheap, dear)]
    assert spread[0] > 0.3
    assert spread[1] < 0.02


def test_inside_dp_sgd_each_record_is_clipped_with_its_own_price(small):
    (x, y), model, clip = some_batch(), small.network(), 0.3
    with Squeezed(0.2, 4, PrivateGradient(clip, 0.0, 1)).attached(model, PLAIN, 0) as backward:
        backward(x, y)  # the first one checks the gradients of two records, and draws for them
        state = torch.get_rng_state()
        backward(x, y)
        got = [p.grad.clone() for p in model.parameters()]
        torch.set_rng_state(state)
        noise, parameters = torch.randn(9, 4), list(model.parameters())
        want = [torch.zeros_like(p) for p in parameters]
        for i in range(9):
            mean, spread = model[5].encode(model[:5](x[i : i + 1])).chunk(2, 1)
            code = mean + ((spread + OFFSET) / 2).exp() * noise[i]
            loss = functional.cross_entropy(model[5].decode(code), y[i : i + 1])
            loss = loss + 0.2 * divergence(mean, spread + OFFSET).sum()
            each = torch.autograd.grad(loss, parameters)
            norm = sum(float(g.square().sum()) for g in each) ** 0.5
            assert norm > clip
            for s, g in zip(want, each, strict=True):
                s += g * clip / norm
    for g, w in zip(got, want, strict=True):
        assert torch.allclose(g, w, atol=1e-5)


def test_it_serves_around_other_rules(small):
    private = small.fit(DPSGD(noise_multiplier=0.5), VIB(width=4)).facts
    assert (private["sigma"], private["vib_beta"]) == (0.5, 0.1)
    mixed = small.fit(MixUp(alpha=0.4), VIB(width=4), LabelSmoothing()).facts
    assert (mixed["mixup_alpha"], mixed["vib_width"], mixed["label_smoothing"]) == (0.4, 4, 0.1)


def test_dropout_in_front_of_the_old_layer_is_in_front_of_the_bottleneck():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4000, 2))
    x, y = torch.ones(1, 4000), torch.tensor([0])
    rule = Dropped(0.3, Squeezed(0.1, 3, MeanGradient()))
    with rule.attached(model, PLAIN, 0) as backward:
        backward(x, y)
        dropped = (model[1].encode.weight.grad == 0).all(0).float().mean().item()
        assert dropped == pytest.approx(0.3, abs=4 * (0.21 / 4000) ** 0.5)
    assert not model[1]._forward_pre_hooks


def test_it_returns_to_the_best_epoch(small):
    keywords = {"validation": small.records(seed=1)}
    recipe = SGD(epochs=40, batch_size=16, lr=0.1)
    stopped = small.fit(EarlyStopping(patience=2), VIB(width=4), recipe=recipe, **keywords)
    best = stopped.facts["best_epoch"]
    assert best < stopped.facts["epochs"]
    assert small.same(stopped, small.fit(VIB(width=4), recipe=changed(recipe, epochs=best)))


def test_bfloat16_and_an_empty_batch(small):
    assert small.fit(VIB(width=4), recipe=changed(small.recipe, precision="bf16")).facts["steps"]
    model = small.network()
    with Squeezed(0.1, 4, MeanGradient()).attached(model, PLAIN, 0) as backward:
        assert backward(torch.rand(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)) == 0


def test_networks_with_nothing_to_squeeze_are_refused(small):
    trainer = VIB().apply(small.recipe, problem=small.problem())
    for model, why in (
        (nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten()), "Sequential has no linear layer"),
        (nn.Linear(8, 2), "Linear is one linear layer"),
    ):
        with pytest.raises(ConfigError, match=why):
            trainer.fit(model, small.records(), problem=small.problem(), seed=0)
    federation = Federated().apply(small.recipe, problem=small.problem())
    assert "FederatedTrainer has none" in VIB().incompatibilities(small.problem(), federation)[0]


def test_the_noise_begins_small():
    layer = Bottleneck(nn.Linear(50, 2), 8)
    with torch.no_grad():
        sample, mean = (layer.train(t)(torch.zeros(1000, 50)) for t in (True, False))
    assert (sample - mean).std() < 0.2


@pytest.mark.parametrize(
    ("keywords", "named"),
    [({"beta": -1}, "beta -1"), ({"beta": None}, "beta None"), ({"width": 0}, "width 0"),
     ({"width": 2.5}, "width 2.5")],
)  # fmt: skip
def test_impossible_settings_are_named(small, keywords, named):
    assert named in VIB(**keywords).invalid_parameters()[0]
    with pytest.raises(ConfigError, match=named):
        VIB(**keywords).apply(small.recipe, problem=small.problem())

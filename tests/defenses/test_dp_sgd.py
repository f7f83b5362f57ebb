"""Invariants of private training: what is clipped, drawn, noised and promised."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medleak.api import ConfigError, GradientRule, ProblemSpec, Records, Step, Trained, Trainer
from medleak.core.keys import seed_for
from medleak.defenses.train import accounting
from medleak.defenses.train._private import PoissonSampler, PrivateGradient
from medleak.defenses.train.dp_sgd import DPSGD, changed
from medleak.targets.recipes import SGD

N = 60
PROBLEM = ProblemSpec(N, N, 1, (1, 8, 8), 2)
RECIPE = SGD(epochs=2, batch_size=12, lr=0.5, momentum=0.0)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def records(n=N, seed=0, patients=None):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    return Records(x, rng.integers(0, 2, n), np.arange(n) if patients is None else patients)


def network(*norm):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), *(norm or [nn.GroupNorm(2, 4)]), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64, 2),
    )  # fmt: skip


def naive(model, data, sampler, clip, divisor, lr, seed):
    """Clipped SGD, one record at a time."""
    x, y = torch.from_numpy(data.x).float() / 255, torch.from_numpy(data.y)
    parameters = list(model.parameters())
    for batches in sampler.epochs(data.patients, seed_for("batches", seed)):
        for index in batches:
            sums = [torch.zeros_like(p) for p in parameters]
            for i in index:
                loss = functional.cross_entropy(model(x[i : i + 1]), y[i : i + 1])
                each = torch.autograd.grad(loss, parameters)
                norm = math.sqrt(sum(float(g.square().sum()) for g in each))
                for s, g in zip(sums, each, strict=True):
                    s += g * min(1.0, clip / norm)
            with torch.no_grad():
                for p, s in zip(parameters, sums, strict=True):
                    p -= lr * s / divisor
    return model


@pytest.mark.parametrize("clip", [0.05, math.inf])
@pytest.mark.parametrize("unit", ["record", "patient"])
def test_without_noise_it_is_naive_clipped_training(clip, unit):
    data = records(patients=np.arange(N) // 3 if unit == "patient" else None)
    sampler = PoissonSampler(0.2, 10, unit)
    trainer = changed(RECIPE, sampler=sampler, gradient=PrivateGradient(clip, 0.0, 12))
    got = trainer.fit(network(), data, problem=PROBLEM, seed=3).model
    want = naive(network(), data, sampler, clip, 12, 0.5, 3)
    start = network().state_dict()
    for name, value in want.state_dict().items():
        assert torch.allclose(got.state_dict()[name], value, atol=1e-5), name
        assert not torch.allclose(start[name], value, atol=2e-5), "nothing was learnt"


def test_without_noise_or_clipping_it_is_plain_training_on_the_same_batches():
    class Plain(GradientRule):
        """The gradient of the summed loss over the expected batch, by ordinary autograd."""

        def attached(self, model, loss, seed):
            from contextlib import nullcontext

            def backward(x, y):
                model.zero_grad()
                total = loss(model(x), y).sum() / 12
                total.backward()
                return total.detach()

            return nullcontext(Step(backward))

    sampler, data = PoissonSampler(0.2, 20), records()
    rules = Plain(), PrivateGradient(math.inf, 0.0, 12)
    plain, private = (
        changed(RECIPE, momentum=0.9, sampler=sampler, gradient=rule)
        .fit(network(), data, problem=PROBLEM, seed=0)
        .model.state_dict()
        for rule in rules
    )
    for name in plain:
        assert torch.allclose(plain[name], private[name], atol=1e-5), name


def gradient_of(rule, x, y, model=None):
    model = model or network()

    def loss(z, t):
        return functional.cross_entropy(z, t, reduction="none")

    with rule.attached(model, loss, 5) as backward:
        backward(x, y)
        return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("size", [0, 7])
def test_noise_has_the_stated_spread_and_empty_batches_are_noise_alone(size):
    x, y = torch.rand(size, 1, 8, 8), torch.zeros(size, dtype=torch.int64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 400))
    quiet = gradient_of(PrivateGradient(0.5, 0.0, 10), x, y, copy.deepcopy(model))
    noisy = gradient_of(PrivateGradient(0.5, 3.0, 10), x, y, copy.deepcopy(model))
    noise = (noisy - quiet) * 10
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert noise.std() == pytest.approx(0.5 * 3.0, rel=0.02)
    assert (quiet.norm() == 0) == (size == 0)


def test_one_more_record_moves_the_sum_by_at_most_the_clip():
    rule = PrivateGradient(0.3, 0.0, 1)
    x, y = 50 * torch.rand(9, 1, 8, 8), torch.tensor([0, 1] * 4 + [0])
    apart = gradient_of(rule, x, y) - gradient_of(rule, x[:-1], y[:-1])
    assert apart.norm() == pytest.approx(0.3, rel=1e-4)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_the_small_network_has_true_per_record_gradients(shape):
    from medleak.targets.architectures.cnn import SmallCNN

    torch.manual_seed(0)
    model = SmallCNN(in_shape=shape, n_outputs=2, width=8)
    x, y = torch.rand(6, *shape), torch.tensor([0, 1] * 3)
    functional.cross_entropy(model(x), y, reduction="sum").backward()
    want = torch.cat([p.grad.flatten() for p in model.parameters()])
    got = gradient_of(PrivateGradient(math.inf, 0.0, 1), x, y, model)
    assert torch.allclose(got, want, rtol=1e-3, atol=1e-4 * want.abs().max())


def test_wrong_per_record_gradients_are_refused():
    class Wrong(nn.Module):
        """Channels-last activations between convolutions, which Opacus reads wrongly."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x):
            z = self.second(self.first(x).contiguous(memory_format=torch.channels_last))
            return z.contiguous(memory_format=torch.channels_last).mean((2, 3))

    torch.manual_seed(0)
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ConfigError, match="per-record gradients"):
        gradient_of(PrivateGradient(1.0, 0.0, 4), x, y, Wrong())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_precision_trains(precision):
    recipe = changed(RECIPE, precision=precision)
    trainer = DPSGD(noise_multiplier=0.1).apply(recipe, problem=PROBLEM)
    assert trainer.fit(network(), records(), problem=PROBLEM, seed=0).facts["steps"] == 10


def test_large_batches_in_parts_give_the_same_gradient(monkeypatch):
    from medleak.defenses.train import _private

    x, y = torch.rand(9, 1, 8, 8), torch.tensor([0, 1] * 4 + [0])
    whole = gradient_of(PrivateGradient(0.1, 1.0, 9), x, y)
    monkeypatch.setattr(_private, "MOST_FLOATS", 400)
    assert torch.allclose(whole, gradient_of(PrivateGradient(0.1, 1.0, 9), x, y), atol=1e-6)


def test_poisson_batches_come_at_the_stated_rate_and_number():
    drawn = [b for e in PoissonSampler(0.1, 400).epochs(np.arange(200), 1) for b in e]
    sizes = np.array([len(b) for b in drawn])
    assert len(drawn) == 400
    assert sizes.mean() == pytest.approx(20, abs=5 * math.sqrt(200 * 0.09 / 400))
    assert sizes.var() == pytest.approx(200 * 0.09, rel=0.3)
    assert all(len(np.unique(b)) == len(b) for b in drawn)


def test_patient_batches_hold_one_random_scan_each():
    patients = np.array([7, 3, 7, 7, 5, 3])
    drawn = [b for e in PoissonSampler(0.5, 2000, "patient").epochs(patients, 0) for b in e]
    assert all(len(np.unique(patients[b])) == len(b) for b in drawn)
    taken = np.bincount(np.concatenate(drawn), minlength=6) / 2000
    assert taken == pytest.approx([1 / 6, 1 / 4, 1 / 6, 1 / 6, 1 / 2, 1 / 4], abs=0.05)


def test_a_patients_further_scans_move_nobody_elses_draws():
    few, many = np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3, 1, 1, 1])
    sampler = PoissonSampler(0.5, 100, "patient")
    for a, b in zip(sampler.epochs(few, 4), sampler.epochs(many, 4), strict=True):
        for i, j in zip(a, b, strict=True):
            assert few[i].tolist() == many[j].tolist()


def test_what_is_trained_is_what_is_accounted():
    defense = DPSGD(epsilon=8, batch_size=15, epochs=3)
    trainer = defense.apply(RECIPE, problem=PROBLEM)
    facts = trainer.fit(network(), records(), problem=PROBLEM, seed=0).facts
    (promise,) = defense.guarantees(PROBLEM, RECIPE)
    mechanism = promise.mechanism
    assert mechanism == {
        "name": "poisson_gaussian", "q": 15 / N, "sigma": facts["sigma"], "steps": 12,
    }  # fmt: skip
    assert (facts["steps"], facts["q"], facts["expected_batch"]) == (12, 15 / N, 15)
    spent, accountant = accounting.epsilon_of(mechanism["sigma"], promise.delta, 15 / N, 12)
    assert 7.9 < spent <= promise.epsilon == 8
    assert promise.delta == 1 / (10 * N)
    assert (promise.unit, promise.adjacency) == ("record", "add/remove")
    assert promise.accountant == accountant == facts["accountant"] == "PLD"
    assert facts["n_records"] == N


def test_a_given_noise_multiplier_is_priced():
    (promise,) = DPSGD(noise_multiplier=1.5).guarantees(PROBLEM, RECIPE)
    assert promise.mechanism["sigma"] == 1.5
    assert promise.epsilon == accounting.epsilon_of(1.5, promise.delta, 0.2, 10)[0]


@pytest.mark.parametrize("n", [60, 1000])
def test_a_sampling_rate_sets_the_batch_by_the_members(n):
    problem, defense = (
        ProblemSpec(n, n, 1, (1, 8, 8), 2),
        DPSGD(noise_multiplier=2, sampling_rate=0.25),
    )
    trainer = defense.apply(RECIPE, problem=problem)
    assert (trainer.batch_size, trainer.sampler.q, trainer.sampler.n_steps) == (n / 4, 0.25, 8)


def test_the_patient_unit_counts_patients():
    problem = ProblemSpec(180, N, 5, (1, 8, 8), 2)
    (promise,) = DPSGD(noise_multiplier=1.5, unit="patient").guarantees(problem, RECIPE)
    assert (promise.unit, promise.mechanism["q"], promise.delta) == ("patient", 0.2, 1 / 600)


def test_a_record_promise_is_converted_for_groups_but_not_called_protection():
    problem = ProblemSpec(180, N, 2, (1, 8, 8), 2)
    promise, group = DPSGD(noise_multiplier=5).guarantees(problem, RECIPE)
    assert (promise.kind, group.kind, group.unit) == ("dp", "group", "patient")
    assert group.epsilon == 2 * promise.epsilon
    assert "nobody" in group.protects_from
    assert len(DPSGD(noise_multiplier=0.2).guarantees(problem, RECIPE)) == 1


def test_same_seed_same_weights():
    trainer = DPSGD(epsilon=8).apply(RECIPE, problem=PROBLEM)
    first, again, other = (
        trainer.fit(network(), records(), problem=PROBLEM, seed=s).model.state_dict()
        for s in (0, 0, 1)
    )
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_the_hooks_leave_with_the_training():
    model = DPSGD(epsilon=8).apply(RECIPE, problem=PROBLEM)
    model = model.fit(network(), records(), problem=PROBLEM, seed=0).model
    assert type(model) is nn.Sequential
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert not any(hasattr(p, "grad_sample") for p in model.parameters())


def test_batch_norm_is_refused_at_fit():
    trainer = DPSGD(epsilon=8).apply(RECIPE, problem=PROBLEM)
    with pytest.raises(ConfigError, match="BatchNorm"):
        trainer.fit(network(nn.BatchNorm2d(4)), records(), problem=PROBLEM, seed=0)


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"epsilon": 0}, "epsilon must be a positive finite number, not 0"),
        ({"epsilon": -3.0}, "not -3.0"),
        ({"epsilon": "eight"}, "not 'eight'"),
        ({}, "exactly one"),
        ({"epsilon": 1, "noise_multiplier": 1}, "exactly one"),
        ({"epsilon": 1, "clip": 0}, "clip must be"),
        ({"epsilon": 1, "clip": None}, "clip must be"),
        ({"epsilon": 1, "delta": 2}, "delta must be below 1"),
        ({"epsilon": 1, "sampling_rate": 1.5}, "sampling_rate must be at most 1"),
        ({"epsilon": 1, "sampling_rate": 0.5, "batch_size": 9}, "not both"),
        ({"epsilon": 1, "unit": "pateint"}, "did you mean 'patient'"),
        ({"epsilon": 1, "batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"epsilon": 1, "epochs": 1.5}, "epochs must be a whole number"),
    ],
)
def test_bad_budgets_are_configuration_errors(keywords, named):
    (fault,) = DPSGD(**keywords).invalid_parameters()
    assert named in fault
    with pytest.raises(ConfigError, match=named):
        DPSGD(**keywords).guarantees(PROBLEM, RECIPE)
    with pytest.raises(ConfigError, match=named):
        DPSGD(**keywords).apply(RECIPE, problem=PROBLEM)


@pytest.mark.parametrize("problem", [{"lr": -1}, {"momentum": 2}, {"optimizer": "sdg"}])
def test_a_setting_that_no_recipe_takes_is_a_configuration_error(problem):
    with pytest.raises(ConfigError, match=r"DPSGD: .*" + next(iter(problem))):
        DPSGD(epsilon=8, **problem).apply(RECIPE, problem=PROBLEM)


def test_all_reasons_against_a_filling_come_at_once():
    problem = ProblemSpec(10, 10, 1, (1, 8, 8), 2, unit="image (patient unknown)")
    trainer = changed(RECIPE, early_stopping={"patience": 3})
    reasons = DPSGD(epsilon=1, unit="patient").incompatibilities(problem, trainer)
    assert len(reasons) == 3
    for word in ("last iterate", "known patients", "batch_size 12 exceeds the 10"):
        assert any(word in reason for reason in reasons), word


def test_stacking_and_foreign_trainers_are_refused():
    class Other(Trainer):
        def fit(self, model, records, **_):
            return Trained(model, {})

    private = DPSGD(epsilon=8).apply(RECIPE, problem=PROBLEM)
    assert "already replaced" in DPSGD(epsilon=8).incompatibilities(PROBLEM, private)[0]
    assert "Other has none" in DPSGD(epsilon=8).incompatibilities(PROBLEM, Other())[0]
    with pytest.raises(ConfigError, match="already replaced"):
        DPSGD(epsilon=8).apply(private, problem=PROBLEM)

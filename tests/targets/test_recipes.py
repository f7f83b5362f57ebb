"""The recipe: reproducible, equal to a plain loop, and clear about what it cannot do."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from medleak.api import ConfigError, MedleakError, ProblemSpec, Records
from medleak.core.keys import seed_for
from medleak.targets._augment import AUGMENTATIONS
from medleak.targets._rules import Shuffled
from medleak.targets.recipes import AUGMENTATIONS as NAMES
from medleak.targets.recipes import SGD, learning_rates

PROBLEM = ProblemSpec(50, 50, 1, (1, 8, 8), 2)
TABLE = ProblemSpec(50, 50, 1, (5,), 2)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def records(n=50, seed=0, labels=None):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n if labels is None else (n, labels))
    return Records(rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8), y, np.arange(n))


def network(outputs=2, dropout=0.0):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout(dropout), nn.Flatten(), nn.Linear(64, outputs),
    )  # fmt: skip


def states(model):
    return model.state_dict().values()


def fit(recipe, seed=0, model=None, data=None, **keywords):
    return recipe.fit(
        model or network(),
        records() if data is None else data,
        problem=PROBLEM,
        seed=seed,
        **keywords,
    )


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_it_is_the_plain_loop_on_the_same_batches(name):
    data, plain = records(), network()
    x, y = torch.from_numpy(data.x).float() / 255, torch.from_numpy(data.y)
    make = {"sgd": lambda p: torch.optim.SGD(p, 0.05, 0.9), "adamw": lambda p: torch.optim.AdamW(
        p, 0.05, weight_decay=0.0)}[name]  # fmt: skip
    optimiser = make(plain.parameters())
    for batches in Shuffled(3, 16).epochs(data.patients, seed_for("batches", 7)):
        for index in batches:
            optimiser.zero_grad()
            functional.cross_entropy(plain(x[index]), y[index]).backward()
            optimiser.step()
    trained = fit(SGD(epochs=3, batch_size=16, optimizer=name), seed=7)
    for want, got in zip(states(plain), states(trained.model), strict=True):
        assert torch.allclose(want, got, atol=1e-4)
    assert trained.facts["steps"] == 12
    accuracy = (plain(x).argmax(1) == y).float().mean().item()
    assert trained.facts["train_accuracy"] == pytest.approx(accuracy)


def test_the_seed_governs_everything_and_the_global_state_is_left_alone():
    recipe = SGD(epochs=2, augment=NAMES, label_noise=0.2, batch_size=16)
    before = torch.random.get_rng_state()
    fits = [fit(recipe, seed=s, model=model) for s, model in
            [(0, network(dropout=0.5)), (0, network(dropout=0.5)), (1, network(dropout=0.5))]]  # fmt: skip
    first, again, other = (list(states(f.model)) for f in fits)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    torch.manual_seed(5)
    start, model = torch.random.get_rng_state(), copy.deepcopy(fits[0].model)
    fit(recipe, model=model)
    assert torch.equal(start, torch.random.get_rng_state())
    assert before.shape == start.shape


def test_every_record_comes_once_an_epoch_in_equal_batches():
    for n in (33, 64, 65):
        epochs = list(Shuffled(2, 32).epochs(np.arange(n), 0))
        for batches in epochs:
            assert sorted(np.concatenate(batches)) == list(range(n))
            assert max(map(len, batches)) - min(map(len, batches)) <= 1
            assert max(map(len, batches)) <= 32
        assert sum(map(len, epochs)) == Shuffled(2, 32).steps(n)
        assert not (np.concatenate(epochs[0]) == np.concatenate(epochs[1])).all()


def test_early_stopping_returns_to_the_best_epoch():
    data, held_out = records(), records(40, seed=9)
    recipe = SGD(epochs=40, lr=0.1, early_stopping={"patience": 3})
    trained = fit(recipe, data=data, validation=held_out)
    facts = trained.facts
    assert facts["epochs"] == facts["best_epoch"] + 3 < 40
    short = fit(SGD(epochs=facts["best_epoch"], lr=0.1), data=data)
    for a, b in zip(states(trained.model), states(short.model), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("validation", [None, records(0)])
def test_early_stopping_needs_validation_records(validation):
    with pytest.raises(ConfigError, match="validation"):
        fit(SGD(early_stopping={"patience": 3}), validation=validation)


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_members_fail_in_one_line(n):
    with pytest.raises(MedleakError, match=f"{n} member record"):
        fit(SGD(), data=records(n))


def test_divergence_fails_in_one_line():
    with pytest.raises(MedleakError, match="diverged"):
        fit(SGD(lr=1e30, epochs=4))


def test_random_labels_are_memorised():
    facts = fit(SGD(epochs=60, optimizer="adamw", lr=1e-2, batch_size=16)).facts
    assert facts["train_accuracy"] == 1.0
    assert facts["n_records"] == 50
    assert (facts["criterion"], facts["batch"]) == ("cross_entropy", 16)


def test_multilabel_and_tables():
    problem = ProblemSpec(50, 50, 1, (1, 8, 8), 3, task="multilabel")
    recipe = SGD(epochs=60, optimizer="adamw", lr=1e-2, batch_size=16)
    trained = recipe.fit(network(3), records(labels=3), problem=problem, seed=0)
    assert trained.facts["train_accuracy"] > 0.95
    assert trained.facts["criterion"] == "bce"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 5)).astype(np.float32)
    table = Records(x, (x[:, 0] > 0).astype(np.int64), np.arange(50))
    torch.manual_seed(0)
    linear = SGD(epochs=60, lr=0.5, augment=["noise"]).fit(
        nn.Linear(5, 2), table, problem=TABLE, seed=0
    )
    assert linear.facts["train_accuracy"] > 0.95


def test_label_noise_replaces_the_stated_share():
    data = records(4000)
    noisy = SGD(label_noise=0.3)._noisy(data, PROBLEM, seed=1)
    assert (noisy.y != data.y).mean() == pytest.approx(0.3, abs=0.03)
    assert set(np.unique(noisy.y)) == {0, 1}


def test_bf16_learns_too():
    facts = fit(SGD(epochs=60, optimizer="adamw", lr=1e-2, precision="bf16")).facts
    assert facts["train_accuracy"] > 0.9


def test_weights_come_back_in_the_default_layout():
    assert all(value.is_contiguous() for value in states(fit(SGD(epochs=1)).model))


def test_schedules():
    assert learning_rates("constant", 0.1, 5).tolist() == [0.1] * 5
    cosine = learning_rates("cosine", 0.1, 100)
    assert cosine[0] == 0.1
    assert cosine[50] == pytest.approx(0.05)
    assert (np.diff(cosine) < 0).all()
    cycle = learning_rates("onecycle", 0.1, 100)
    assert cycle[0] == pytest.approx(0.1 / 25)
    assert cycle.argmax() == 30
    assert cycle.max() == pytest.approx(0.1)
    assert cycle[-1] < 1e-3


def test_augmentations_are_the_documented_ones():
    assert tuple(AUGMENTATIONS) == NAMES
    x = torch.rand(400, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    views = {n: f(x, torch.Generator().manual_seed(1)) for n, f in AUGMENTATIONS.items()}
    assert all(v.shape == x.shape and v.isfinite().all() for v in views.values())
    flipped = (views["flip"] == x.flip(-1)).flatten(1).all(1)
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.1)
    assert (views["flip"] == x).flatten(1).all(1).equal(~flipped)
    assert (views["noise"] - x).std() == pytest.approx(0.02, rel=0.05)
    centre = views["shift"][:, :, 4:-4, 4:-4]
    moved = torch.stack([
        (x[:, :, 4 + a : 24 + a, 4 + b : 24 + b] == centre).flatten(1).all(1)
        for a in range(-2, 3) for b in range(-2, 3)
    ])  # fmt: skip
    assert moved.sum(0).eq(1).all()
    assert moved.any(1).all()
    blob = torch.zeros(50, 1, 28, 28)
    blob[:, :, 12:16, 12:16] = 1
    turned = AUGMENTATIONS["rotate"](blob, torch.Generator().manual_seed(1))
    assert turned[:, :, 13:15, 13:15].min() == pytest.approx(1, abs=0.01)
    assert turned[:, :, :8].max() == 0


def test_grey_scale_and_shading_are_smooth_and_bounded():
    x = torch.linspace(0.1, 0.8, 64).view(1, 1, 8, 8).expand(400, 1, 8, 8).clone()
    views = {n: AUGMENTATIONS[n](x, torch.Generator().manual_seed(1)) for n in ("contrast", "bias")}
    gamma = (views["contrast"].log() / x.log()).flatten(1)
    assert torch.allclose(gamma, gamma[:, :1].expand_as(gamma), atol=1e-3)  # one for each image
    spread = gamma[:, 0].log()
    assert spread.abs().max() <= 0.25 + 1e-3
    assert spread.std() == pytest.approx(0.25 / 3**0.5, rel=0.15)
    field = views["bias"] / x - 1
    assert 0.2 < field.abs().max() <= 0.2 * 3
    assert abs(field.mean()) < 0.01
    for axis in (-1, -2):  # quadratic along rows and columns: third differences vanish
        assert field.diff(n=3, dim=axis).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"precision": "fp16"}, "unknown precision 'fp16'"),
        ({"augment": ["flop"]}, "did you mean 'flip'"),
        ({"augment": "flip"}, "must be a list"),
        ({"epochs": 0}, "epochs 0 must be a whole number of at least 1"),
        ({"epochs": 2.5}, "epochs 2.5"),
        ({"epochs": "ten"}, "epochs 'ten'"),
        ({"batch_size": -1}, "batch_size -1"),
        ({"lr": 0}, "lr 0 must be a number above 0"),
        ({"momentum": 1}, "momentum 1 must be a number of at least 0 and below 1"),
        ({"label_noise": 1.0}, "label_noise 1.0"),
        ({"early_stopping": 5}, "early_stopping 5"),
        ({"early_stopping": {"patience": 0}}, "patience 0"),
    ],
)
def test_impossible_recipes_are_named(keywords, named):
    (fault,) = SGD(**keywords).invalid_parameters()
    assert named in fault
    with pytest.raises(ConfigError, match=r"."):
        fit(SGD(**keywords))


def test_images_are_needed_where_images_are_turned_and_all_faults_come_at_once():
    assert "table" in SGD(augment=["rotate"]).incompatibilities(TABLE)[0]
    assert len(SGD(epochs=0, lr=-1, schedule="step").invalid_parameters()) == 3
    assert SGD(augment=["noise"]).incompatibilities(TABLE) == []


def test_repr_rebuilds():
    recipe = SGD(epochs=3, augment=("flip",), early_stopping={"patience": 2})
    assert vars(eval(repr(recipe))) == vars(recipe)

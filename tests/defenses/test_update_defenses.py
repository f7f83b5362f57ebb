"""Update defenses: what is sent, to the entry, and that nothing else moves. None promises anything."""

import numpy as np
import pytest
import torch
from torch import nn

from medleak.api import MedleakError, ProblemSpec
from medleak.defenses.train.federated import Federated, FederatedTrainer
from medleak.defenses.update.gaussian_noise import NoiseUpdate
from medleak.defenses.update.prune import Prune
from medleak.defenses.update.quantise import Quantise
from medleak.defenses.update.sign import SignUpdate
from medleak.defenses.update.soteria import Soteria, sensitivity
from medleak.defenses.update.top_k import TopK
from medleak.targets.architectures.cnn import SmallCNN
from medleak.testing import check_defense

PROBLEM = ProblemSpec(1000, 1000, 1, (1, 8, 8), 2)
ALL = [Prune, TopK, Quantise, SignUpdate, NoiseUpdate, Soteria]
UNCHANGED = [Prune(fraction=0), TopK(keep=1), NoiseUpdate(std=0), Soteria(fraction=0)]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rng(seed=0):
    return np.random.default_rng(seed)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(108, 7), nn.Tanh(), nn.Linear(7, 2)
    )  # fmt: skip


def batch(n=3, seed=0):
    return torch.from_numpy(rng(seed).random((n, 1, 8, 8), dtype=np.float32))


def gradients(model, x):
    loss = nn.functional.cross_entropy(model(x), torch.zeros(len(x), dtype=torch.long))
    grads = torch.autograd.grad(loss, list(model.parameters()))
    return {n: g.numpy() for (n, _), g in zip(model.named_parameters(), grads, strict=True)}


def protected(defense, update, seed=0, model=None, x=None):
    return defense.protect(update, rng=rng(seed), model=model, x=x)


@pytest.fixture
def client():
    model, x = network(), batch()
    return model, x, gradients(model, x)


@pytest.mark.parametrize("defense", [kind() for kind in ALL] + UNCHANGED, ids=repr)
def test_names_shapes_and_types_stay_and_inputs_are_left_alone(defense, client):
    model, x, update = client
    before = {name: array.copy() for name, array in update.items()}
    weights = [p.detach().clone() for p in model.parameters()]
    model.train()
    model[1].eval()
    state = torch.get_rng_state()
    sent = protected(defense, update, model=model, x=x)
    assert list(sent) == list(update)
    for name, array in sent.items():
        assert (array.shape, array.dtype) == (update[name].shape, np.float32)
        assert np.isfinite(array).all()
        assert np.array_equal(update[name], before[name])
    assert [m.training for m in model] == [True, False, True, True, True, True]
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert not x.requires_grad
    assert not any(m._forward_pre_hooks for m in model)


@pytest.mark.parametrize("defense", UNCHANGED, ids=repr)
def test_the_weakest_setting_changes_nothing(defense, client):
    model, x, update = client
    sent = protected(defense, update, model=model, x=x)
    assert all(np.array_equal(sent[name], update[name]) for name in update)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 0.999])
def test_pruning_blanks_the_smallest_of_each_array(fraction, client):
    update = client[2]
    for name, sent in protected(Prune(fraction=fraction), update).items():
        blank = int(fraction * sent.size)
        assert np.count_nonzero(sent == 0) == blank
        left = sent != 0
        assert np.array_equal(sent[left], update[name][left])
        assert blank == 0 or np.abs(update[name][~left]).max() <= np.abs(sent[left]).min()


def test_pruning_counts_ties():
    assert np.count_nonzero(protected(Prune(fraction=0.5), {"a": np.ones(10)})["a"]) == 5


@pytest.mark.parametrize("keep", [0.01, 0.1, 0.5])
def test_top_k_ranks_all_arrays_together(keep, client):
    update = {**client[2], "tiny": np.full(50, 1e-9, np.float32)}
    sent = protected(TopK(keep=keep), update)
    flat, kept = (np.concatenate([a.ravel() for a in u.values()]) for u in (update, sent))
    k = int(np.ceil(keep * flat.size))
    assert np.count_nonzero(kept) == k
    assert np.abs(kept[kept != 0]).min() >= np.sort(np.abs(flat))[-k]
    assert np.array_equal(kept[kept != 0], flat[kept != 0])
    assert not sent["tiny"].any()


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("stochastic", [True, False])
def test_quantised_entries_are_few_levels_near_the_truth(bits, stochastic, client):
    update = client[2]
    sent = protected(Quantise(bits=bits, stochastic=stochastic), update)
    most = 2 ** (bits - 1) - 1
    for name, array in sent.items():
        step = np.abs(update[name]).max() / most
        codes = array / step
        assert codes == pytest.approx(np.rint(codes), abs=1e-4)
        assert np.abs(codes).max() <= most + 1e-4
        off = np.abs(array - update[name]).max() / step
        assert off <= (1 if stochastic else 0.5) + 1e-4


def test_random_rounding_has_the_right_mean_and_nearest_has_not():
    update = {"a": np.array([1.0, 0.3, -0.1, 0.0, -1.0])}
    means = [
        np.mean([protected(Quantise(bits=2, stochastic=s), update, i)["a"] for i in range(2000)], 0)
        for s in (True, False)
    ]
    assert means[0] == pytest.approx(update["a"], abs=0.06)
    assert means[1].tolist() == [1, 0, 0, 0, -1]
    assert not protected(Quantise(), {"a": np.zeros(3)})["a"].any()


def test_sign_keeps_the_mean_magnitude_and_is_the_nearest_of_its_kind(client):
    update = client[2]
    for name, sent in protected(SignUpdate(), update).items():
        true = update[name]
        assert np.array_equal(np.sign(sent), np.sign(true))
        assert np.abs(sent).mean() == pytest.approx(np.abs(true).mean(), rel=1e-5)
        near = [np.linalg.norm(true - f * sent) for f in (0.9, 1.0, 1.1)]
        assert near[1] == min(near)
    assert protected(SignUpdate(), {"a": np.array([0.0, 2.0])})["a"].tolist() == [0, 1]


def test_noise_has_its_deviation_and_is_the_client_s_own():
    update = {"a": np.ones((200, 100)), "b": np.zeros(20_000)}
    sent = protected(NoiseUpdate(std=0.3), update)
    assert sent["b"].std() == pytest.approx(0.3, rel=0.03)
    assert sent["a"].mean() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(sent["a"].ravel(), sent["b"])[0, 1]) < 0.04
    again, other = (protected(NoiseUpdate(std=0.3), update, seed) for seed in (0, 1))
    assert np.array_equal(sent["a"], again["a"])
    assert not np.allclose(sent["a"], other["a"])


# ------------------------------------------------------------------ Soteria


def test_sensitivity_is_that_of_a_jacobian_by_brute_force():
    model, x = network(), batch(4)
    body = model[:-1]
    wanted = np.zeros(7)
    for record in x:
        jacobian = torch.autograd.functional.jacobian(lambda z: body(z)[0], record[None])
        r = body(record[None])[0].detach()
        wanted += (jacobian.flatten(1).norm(dim=1) / (r.abs() + 0.1)).numpy()
    assert sensitivity(model, model[-1], x) == pytest.approx(wanted, rel=1e-4)
    with torch.no_grad():
        estimate = sensitivity(model, model[-1], x, (4000, 1))
    assert estimate == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize("fraction", [0.3, 0.6])
def test_soteria_blanks_the_last_weights_columns_of_least_sensitivity(fraction, client):
    model, x, update = client
    sent = protected(Soteria(fraction=fraction, probes=None), update, model=model, x=x)
    blank = ~sent["5.weight"].any(axis=0)
    assert blank.sum() == int(fraction * 7)
    rank = sensitivity(model, model[-1], x)
    assert rank[blank].max() < rank[~blank].min()
    assert np.array_equal(sent["5.weight"][:, ~blank], update["5.weight"][:, ~blank])
    assert all(np.array_equal(sent[n], update[n]) for n in update if n != "5.weight")


def test_a_feature_that_is_a_pixel_outranks_one_that_no_pixel_moves():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.Linear(3, 2))
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
        model[1].weight[0, 5], model[1].weight[2, 9] = 1.0, 0.01
    update = {n: np.ones(tuple(p.shape), np.float32) for n, p in model.named_parameters()}
    for probes in (None, 64):
        sent = protected(Soteria(fraction=0.67, probes=probes), update, model=model, x=batch())
        assert sent["2.weight"].any(axis=0).tolist() == [True, False, False]


def test_soteria_works_on_the_shipped_network_and_its_estimate_agrees():
    torch.manual_seed(0)
    model, x = SmallCNN(in_shape=(1, 12, 12), n_outputs=2, width=8), batch(2).repeat(1, 1, 2, 2)
    x = x[..., :12, :12]
    update = gradients(model, x)
    blank = [
        ~protected(Soteria(probes=probes), update, model=model, x=x)["head.1.weight"].any(axis=0)
        for probes in (None, 256)
    ]
    assert blank[0].sum() >= int(0.6 * 144)
    assert (blank[0] == blank[1]).mean() > 0.93


def test_soteria_needs_a_linear_layer_and_lets_an_empty_batch_pass(client):
    model, x, update = client
    with pytest.raises(MedleakError, match="Conv2d has no linear layer"):
        protected(Soteria(), update, model=nn.Conv2d(1, 1, 3), x=x)
    over_positions = nn.Sequential(nn.Flatten(2), nn.Linear(64, 2))
    with pytest.raises(MedleakError, match=r"shape \(3, 1, 64\), not \(B, F\)"):
        protected(Soteria(), {"1.weight": np.ones((2, 64))}, model=over_positions, x=x)
    sent = protected(Soteria(), update, model=model, x=x[:0])
    assert all(np.array_equal(sent[name], update[name]) for name in update)


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize(
    ("defense", "named"),
    [
        (Prune(fraction=1), "fraction 1"), (Prune(fraction=None), "fraction None"),
        (TopK(keep=0), "keep 0"), (TopK(keep=1.5), "keep 1.5"), (Quantise(bits=1), "bits"),
        (Quantise(bits=40), "40"), (Quantise(stochastic=1), "stochastic"),
        (NoiseUpdate(std=-1), "std -1"), (NoiseUpdate(std=float("nan")), "std nan"),
        (Soteria(fraction=-0.1), "fraction -0.1"), (Soteria(probes=0), "probes"),
    ],
)  # fmt: skip
def test_impossible_settings_are_named(defense, named):
    (fault,) = defense.invalid_parameters()
    assert named in fault


@pytest.mark.parametrize("kind", ALL)
def test_contract_and_no_promise(kind):
    federated = FederatedTrainer(plan=Federated())
    for trainer in (None, federated):
        assert check_defense(kind(), trainer=trainer) == []
    assert kind().guarantees(PROBLEM, federated) == []
    assert "NO guarantee" in kind.__doc__
    assert kind.hides == {}

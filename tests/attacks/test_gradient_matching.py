import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import beta, norm
from torch import nn

from medleak.api import (
    Knowledge,
    LocalTraining,
    NotApplicable,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
)
from medleak.attacks.gradient_inversion import (
    _matching,
    _priors,
    _shared,
    _twice,
    informed_adversary,
)
from medleak.attacks.gradient_inversion._evidence import evidence
from medleak.attacks.gradient_inversion._matching import boxed, gradients, to_pixels, to_sought
from medleak.attacks.gradient_inversion._priors import PrincipalComponents
from medleak.attacks.gradient_inversion.dlg import DLG
from medleak.attacks.gradient_inversion.gias import GIAS
from medleak.attacks.gradient_inversion.grad_inversion import GradInversion
from medleak.attacks.gradient_inversion.idlg import IDLG
from medleak.attacks.gradient_inversion.inverting_gradients import InvertingGradients
from medleak.attacks.model_inversion._generators import GAN, ConditionalGAN
from medleak.attacks.model_inversion._priors import Components
from medleak.config.instantiate import build
from medleak.targets.architectures.cnn import SmallCNN
from medleak.targets.architectures.mlp import MLP
from medleak.targets.architectures.resnet import ResNet18

CONF = Path(__file__).parents[2] / "conf" / "attack"
SIDE = 12


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(kind, seed=0, side=SIDE):
    """An untrained network in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "sigmoid":
            layers = nn.Sequential(
                nn.Conv2d(1, 8, 5, padding=2, stride=2),
                nn.Sigmoid(),
                nn.Flatten(),
                nn.Linear(8 * (side // 2) ** 2, 2),
            )
            for p in layers.parameters():
                nn.init.uniform_(p, -0.5, 0.5)
            return layers.eval()
        options = {"in_shape": (1, side, side), "n_outputs": 2}
        if kind == "depthwise":
            layers = [nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten()]
            return nn.Sequential(*layers, nn.Linear(4 * (side - 4) ** 2, 2)).eval()
        if kind == "resnet":
            return ResNet18(in_shape=(1, 32, 32), n_outputs=2, width=8, stem="large").eval()
        return SmallCNN(**options).eval() if kind == "cnn" else MLP(**options, hidden=32).eval()


def images(n, seed=0, side=SIDE):
    """Smooth light and dark patches, ``(n, 1, side, side)`` in 0..1, and labels in turn."""
    rng, at = np.random.default_rng(seed), np.linspace(0, 1, side)
    x = np.full((n, side, side), 0.5)
    for _ in range(6):
        down, right = rng.random((2, n, 1, 1))
        size, depth = rng.uniform(0.08, 0.25, (n, 1, 1)), rng.uniform(-0.4, 0.4, (n, 1, 1))
        x += depth * np.exp(-((at[:, None] - down) ** 2 + (at - right) ** 2) / (2 * size**2))
    return np.clip(x, 0, 1)[:, None].astype(np.float32), np.arange(n) % 2


def sent_by(network, x, y, local):
    """What a client returns: the sum of its steps' gradients, in plain PyTorch."""
    model = copy.deepcopy(network)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    size = min(local.batch_size, len(x))
    for t in range(local.steps):
        batch = torch.arange(t * size, (t + 1) * size) % len(x)
        loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
        found = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for (name, p), g in zip(model.named_parameters(), found, strict=True):
                total[name] += g
                p -= local.lr * g
    return {name: g.numpy() for name, g in total.items()}


def experiment(network, n, count, *, local=None, protect=lambda u: u, given=True, side=SIDE):
    """A release of `count` messages of n records each, the puzzle, knowledge, and the truth."""
    local = local or LocalTraining(1, n, 0.1)
    x, y = images(n * count, seed=3, side=side)
    x, y = x.reshape(count, n, *x.shape[1:]), y.reshape(count, n)
    order = np.argsort(y, axis=1, kind="stable")
    x, y = np.stack([a[o] for a, o in zip(x, order, strict=True)]), np.sort(y, axis=1)
    weights = {name: p.detach().numpy() for name, p in network.named_parameters()}
    messages = [
        Observation(i, (0,), n, weights, protect(sent_by(network, x[i], y[i], local)), local)
        for i in range(count)
    ]
    other, label = images(30, seed=9, side=side)
    auxiliary = Records(other, label, np.arange(30))

    def rebuilt(weights):
        copied = copy.deepcopy(network)
        copied.load_state_dict({name: torch.from_numpy(a) for name, a in weights.items()})
        return copied

    knowledge = Knowledge(
        ProblemSpec(100, 100, 1, x.shape[2:], 2), auxiliary=auxiliary, network=rebuilt
    )
    challenge = ReconstructionChallenge(
        np.arange(count), np.full(count, n), x.shape[2:], tuple(y) if given else None
    )
    return Release({"aggregate": messages}), challenge, knowledge, x


def auxiliary(n):
    """An attacker's own images, more of them."""
    x, y = images(n, seed=9, side=28)
    return Records(x, y, np.arange(n))


def psnr(found, truth):
    """Of one record each, in the order given, ``(T,)`` dB."""
    axes = tuple(range(1, truth.ndim))
    return -10 * np.log10(((found - truth) ** 2).mean(axis=axes))


def baseline(knowledge, truth):
    return psnr(np.broadcast_to(knowledge.auxiliary.x.mean(axis=0), truth.shape), truth)


# --------------------------------------------------------------------------- gradients


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
    "columns": lambda x: _twice.Columns.apply(x, _twice.Window((3, 2), (2, 1), (1, 0), (1, 2))),
    "convolved": lambda x: _twice.Convolved.apply(
        x,
        torch.linspace(-1, 1, 3 * 4 * 6).double().reshape(3, 4, 3, 2).sin(),
        None,
        _twice.Window((3, 2), (2, 1), (1, 0), (1, 2)),
    ),
    "pooled": lambda x: _twice.Pooled.apply(x, ([3, 3], [2, 2], [1, 1], [1, 1], True))[0],
    "normalised": lambda x: _twice.Normalised.apply(x, 2, 1e-5),
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
    (slope,) = torch.autograd.grad(_matching.cosine(found, aim).sum(), z)
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(1)).double()
    ahead, behind = (
        _matching.cosine(update(z.detach() + h * direction), aim).item() for h in (1e-6, -1e-6)
    )
    assert (ahead - behind) / 2e-6 == pytest.approx((slope * direction).sum().item(), rel=1e-4)


# --------------------------------------------------------------------------- losses and descent


def test_distances_are_the_plain_ones():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 7))
    one_by_one = [1 - u @ v / np.sqrt((u @ u) * (v @ v)) for u, v in zip(a, b, strict=True)]
    a, b = torch.from_numpy(a), torch.from_numpy(b)
    assert np.allclose(_matching.cosine(a, b), one_by_one)
    assert np.allclose(_matching.squared(a, b), ((a - b) ** 2).sum(dim=1))
    assert np.allclose(_matching.relative(3 * b, b), 4.0)


def test_total_variation_by_hand():
    x = torch.tensor([[0.0, 1.0], [3.0, 1.0]])[None, None, None]
    assert _priors.total_variation(x).item() == pytest.approx((3 + 0) / 2 + (1 + 2) / 2)
    assert _priors.total_variation(torch.full((2, 3, 1, 4, 4), 0.3)).tolist() == [0, 0]


def test_principal_components_are_a_gaussian():
    rng = np.random.default_rng(0)
    shape = np.diag([9.0, 4.0, 1.0, 1.0, 1.0, 1.0]) ** 0.5
    x = (rng.standard_normal((20_000, 6)) @ shape + 2).reshape(-1, 1, 2, 3)
    prior = _priors.PrincipalComponents(x, components=2)
    rows = rng.standard_normal((5, 1, 6)) * 3 + 2
    wanted = ((rows - 2) ** 2 / np.array([9, 4, 1, 1, 1, 1])).sum(axis=2)[:, 0] / 6
    found = prior(torch.from_numpy(rows.reshape(5, 1, 1, 2, 3)).float())
    assert np.allclose(found, wanted, rtol=0.05)
    with pytest.raises(NotApplicable, match="needs 10"):
        _priors.components_of(None)


def test_group_spread_by_hand():
    x = torch.tensor([0.0, 2.0, 5.0, 5.0]).reshape(4, 1)
    assert _priors.group_spread(x, 2).tolist() == [1, 1, 0, 0]


def rosenbrock(x):
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(dim=1)


def test_lbfgs_rows_do_not_touch_each_other():
    start = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).double()
    start[2] *= 1e3
    found = _matching.lbfgs(rosenbrock, start, 400)
    assert rosenbrock(found).max() < 1e-10
    alone = _matching.lbfgs(rosenbrock, start[1:2], 400)
    assert torch.allclose(found[1:2], alone, rtol=1e-9)


@pytest.mark.parametrize("signed", [True, False])
def test_adam_is_torchs(signed):
    start = torch.randn(2, 5, generator=torch.Generator().manual_seed(0)).double()
    plan = _matching.Schedule(16, 0.1, signed)
    found = _matching.adam(lambda u: ((u - 0.3) ** 4).sum(dim=1), start, plan)
    u = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([u], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [6, 10, 14], gamma=0.1)
    for _ in range(16):
        optimiser.zero_grad()
        ((u - 0.3) ** 4).sum().backward()
        if signed:
            u.grad.sign_()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            u.clamp_(-2, 2)
    assert torch.allclose(found, u.detach())


# --------------------------------------------------------------------------- evidence


def some_update():
    network = made("cnn")
    x, y = images(2)
    return sent_by(network, x, y, LocalTraining(1, 2, 0.1))


def test_an_honest_update_is_taken_at_its_word():
    found = evidence(some_update())
    assert found.keep.all()
    assert not found.margin.any()
    assert not found.signs


def test_pruned_entries_are_left_out():
    update = {n: np.where(np.abs(g) < np.quantile(np.abs(g), 0.9), 0, g)
              for n, g in some_update().items()}  # fmt: skip
    found = evidence(update)
    assert np.array_equal(found.keep == 0, found.target == 0)
    assert evidence(update, aware=False).keep.all()


def test_hidden_columns_are_left_out():
    update = some_update()
    name = "head.1.weight"
    hidden = np.arange(update[name].shape[1]) % 10 != 0
    found = evidence(update | {name: np.where(hidden, 0, update[name])})
    cut = np.concatenate([np.broadcast_to(hidden if n == name else False, g.shape).ravel()
                          for n, g in update.items()])  # fmt: skip
    assert (found.keep[cut] == 0).all()
    assert (found.keep[~cut & (found.target != 0)] == 1).all()


def test_signs_are_seen():
    update = {n: np.sign(g) * np.abs(g).mean() for n, g in some_update().items()}
    assert evidence(update).signs
    assert not evidence(update, aware=False).signs


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_the_true_gradient_lies_within_the_margin_of_a_rounded_one(bits):
    update, rounded = some_update(), {}
    for name, g in update.items():
        step = np.abs(g).max() / (2 ** (bits - 1) - 1)
        rounded[name] = (np.rint(g / step) * step).astype(np.float32)
    found, truth = evidence(rounded), np.concatenate([g.ravel() for g in update.values()])
    large = np.concatenate([np.full(g.size, g.size >= 64) for g in update.values()])
    assert (np.abs(found.target - truth)[large] <= found.margin[large] * 1.01 + 1e-9).all()
    assert found.margin[large].min() > 0


def test_what_the_evidence_does_not_bear_out_costs_nothing():
    update = some_update()
    sizes = [g.size for g in update.values()]
    truth = torch.from_numpy(np.concatenate([g.ravel() for g in update.values()]))[None]
    pruned = {n: np.where(np.abs(g) < np.quantile(np.abs(g), 0.5), 0, g) for n, g in update.items()}
    signs = {n: np.sign(g) * np.abs(g).mean() for n, g in update.items()}
    for sent in (update, pruned):
        aware = _matching.Believed([evidence(sent)], sizes, _matching.cosine)
        assert aware(truth).item() == pytest.approx(0, abs=1e-6)
    plain = _matching.Believed([evidence(pruned, aware=False)], sizes, _matching.cosine)
    assert plain(truth).item() > 1e-3
    aware, plain = (
        _matching.Believed([evidence(signs, aware=a)], sizes, _matching.cosine)
        for a in (True, False)
    )
    assert aware(truth).item() < plain(truth).item()


# --------------------------------------------------------------------------- attacks


def test_inverting_gradients_rebuilds_images_and_labels_are_recovered():
    release, challenge, knowledge, truth = experiment(
        made("cnn", side=28), 1, 4, given=False, side=28
    )
    attack = InvertingGradients(iterations=150)
    found = attack.execute(release, challenge, knowledge).reconstructions
    assert found.shape == truth.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert (psnr(found, truth) - baseline(knowledge, truth)).mean() > 5


def test_the_gradient_of_other_images_does_not_show_the_victims():
    release, challenge, knowledge, truth = experiment(made("cnn", side=28), 1, 4, side=28)
    turned = np.roll(np.arange(4), 1)
    others = [release.view("aggregate")[i] for i in turned]
    attack = InvertingGradients(iterations=100, prior_weight=0.1)
    found = attack.execute(Release({"aggregate": others}), challenge, knowledge).reconstructions
    assert psnr(found, truth).mean() < baseline(knowledge, truth).mean() + 0.5


def test_a_fully_connected_network_gives_its_record_away():
    release, challenge, knowledge, truth = experiment(made("mlp"), 1, 3)
    attack = InvertingGradients(iterations=300, restarts=2, prior_weight=1e-4)
    found = attack.execute(release, challenge, knowledge).reconstructions
    assert np.median(psnr(found, truth)) > 35


@pytest.mark.parametrize("attack", [DLG(iterations=200), IDLG(iterations=200)])
def test_least_squares_is_exact_on_a_sigmoid_network(attack):
    release, challenge, knowledge, truth = experiment(made("sigmoid"), 1, 2, given=False)
    found = attack.execute(release, challenge, knowledge).reconstructions
    assert (psnr(found, truth) > 30).all()


def test_grad_inversion_rebuilds_images():
    release, challenge, knowledge, truth = experiment(made("cnn", side=28), 1, 2, side=28)
    attack = GradInversion(iterations=150, restarts=2, tv=1.0)
    found = attack.execute(release, challenge, knowledge).reconstructions
    assert (psnr(found, truth) - baseline(knowledge, truth)).mean() > 3


def test_principal_components_help_where_images_are_alike():
    release, challenge, knowledge, truth = experiment(made("cnn", side=28), 1, 3, side=28)
    attack = InvertingGradients(iterations=150, prior="pca", prior_weight=0.01)
    found = attack.execute(release, challenge, knowledge).reconstructions
    assert (psnr(found, truth) - baseline(knowledge, truth)).mean() > 5


def test_sought_values_and_pixels_are_each_others_inverse():
    x = torch.rand(2, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(to_pixels(to_sought(x)), x, atol=1e-6)
    assert torch.equal(to_sought(torch.tensor([0.0, 1.0])), boxed(torch.tensor([-9.0, 9.0])))


def test_points_of_a_prior_are_searched_within_its_reach_and_pixels_follow():
    release, challenge, knowledge, truth = experiment(made("cnn", side=28), 1, 3, side=28)
    knowledge.auxiliary = auxiliary(400)
    options = {"iterations": 60, "lr": 0.1}
    found = {
        refinements: GIAS(prior=Components(reach=2.0), refinements=refinements, **options)
        .execute(release, challenge, knowledge)
        .reconstructions
        for refinements in (0, 40)
    }
    gains = {r: (psnr(f, truth) - baseline(knowledge, truth)).mean() for r, f in found.items()}
    assert gains[0] > 2
    assert gains[40] > gains[0] + 1
    # Without refinement they are what the prior draws: within its directions.
    rows = PrincipalComponents(knowledge.auxiliary.x)
    left = torch.from_numpy(found[0]).flatten(2) - rows.mean
    outside = left - left @ rows.directions.T @ rows.directions
    assert float(outside.square().mean()) < 0.1 * float(left.square().mean())


def test_a_generator_is_trained_once_for_all_messages():
    release, challenge, knowledge, truth = experiment(made("cnn", side=28), 1, 2, side=28)
    knowledge.auxiliary = auxiliary(64)
    trainings = []

    def keep(name, make, kept={}):  # noqa: B006
        key = str(name)
        if key not in kept:
            trainings.append(name["prior"])
            kept[key] = make(np.random.default_rng(0))
        return kept[key]

    knowledge.keep = keep
    attack = GIAS(prior=GAN(dim=8, width=8, steps=5), iterations=5, refinements=2)
    first = attack.execute(release, challenge, knowledge).reconstructions
    knowledge.rng = np.random.default_rng(0)
    again = attack.execute(release, challenge, knowledge).reconstructions
    assert trainings == ["GAN"]
    assert first.shape == again.shape == truth.shape
    assert np.isfinite(first).all()


def test_the_gradient_of_other_images_does_not_lead_a_prior_to_the_victims():
    release, challenge, knowledge, truth = experiment(made("cnn", side=28), 1, 4, side=28)
    knowledge.auxiliary = auxiliary(400)
    others = [release.view("aggregate")[i] for i in np.roll(np.arange(4), 1)]
    attack = GIAS(prior=Components(), iterations=60, refinements=20)
    found = attack.execute(Release({"aggregate": others}), challenge, knowledge).reconstructions
    assert psnr(found, truth).mean() < baseline(knowledge, truth).mean() + 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": 0}, "lr 0"),
        ({"tv": -1.0}, "tv -1.0"),
        ({"refinements": -1}, "refinements -1"),
        ({"prior": ConditionalGAN()}, "must be a GAN or Components"),
        ({"prior": GAN(width=3)}, "width 3"),
    ],
)
def test_faults_of_a_generative_prior(given, said):
    [fault] = GIAS(**{"prior": Components()} | given).invalid_parameters()
    assert said in fault


def test_several_local_steps_are_replayed():
    local = LocalTraining(3, 1, 0.3)
    release, challenge, knowledge, truth = experiment(
        made("cnn", side=28), 1, 2, local=local, side=28
    )
    attack = InvertingGradients(iterations=150, prior_weight=0.1)
    found = attack.execute(release, challenge, knowledge).reconstructions
    assert (psnr(found, truth) - baseline(knowledge, truth)).mean() > 3


def test_awareness_of_pruning_pays():
    def pruned(update):
        return {n: np.where(np.abs(g) < np.quantile(np.abs(g), 0.9), 0, g).astype(np.float32)
                for n, g in update.items()}  # fmt: skip

    mean = {}
    for aware in (True, False):
        release, challenge, knowledge, truth = experiment(
            made("cnn", side=28), 1, 4, protect=pruned, side=28
        )
        attack = InvertingGradients(iterations=150, aware=aware)
        found = attack.execute(release, challenge, knowledge).reconstructions
        mean[aware] = psnr(found, truth).mean()
    assert mean[True] > mean[False] + 1


@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_of_puzzles_is_each_by_itself(n):
    release, challenge, knowledge, _ = experiment(made("cnn"), n, 3)
    attack = InvertingGradients(iterations=12, restarts=2)
    together = attack.execute(release, challenge, knowledge).reconstructions
    seeds = np.random.default_rng(0).integers(2**48, size=3)
    for t in range(3):

        class Fixed:
            def integers(self, high, size=None, seed=seeds[t]):
                return np.array([seed])

        alone = ReconstructionChallenge(challenge.indices[t : t + 1], challenge.n_records[:1], challenge.in_shape,
                       challenge.labels[t : t + 1])  # fmt: skip
        knowledge.rng = Fixed()
        found = attack.execute(release, alone, knowledge).reconstructions
        assert np.abs(found[0] - together[t]).mean() < 1e-3


def test_messages_of_different_sizes_come_back_padded_and_in_order():
    network = made("mlp")
    one, small, knowledge, first = experiment(network, 1, 2)
    two, *_ = experiment(network, 2, 1)
    messages = [one.view("aggregate")[0], two.view("aggregate")[0], one.view("aggregate")[1]]
    labels = (small.labels[0], np.array([0, 1]), small.labels[1])
    challenge = ReconstructionChallenge(
        np.array([0, 1, 2]), np.array([1, 2, 1]), (1, SIDE, SIDE), labels
    )
    attack = InvertingGradients(iterations=300, prior_weight=1e-4, restarts=2)
    found = attack.execute(Release({"aggregate": messages}), challenge, knowledge).reconstructions
    assert found.shape == (3, 2, 1, SIDE, SIDE)
    assert not found[[0, 2], 1].any()
    for t, own, other in ((0, first[0, 0], first[1, 0]), (2, first[1, 0], first[0, 0])):
        assert ((found[t, 0] - own) ** 2).mean() < ((found[t, 0] - other) ** 2).mean()


@pytest.mark.parametrize("name", ["dlg", "idlg", "inverting_gradients", "grad_inversion", "gias"])
def test_faults_name_what_is_wrong(name):
    block = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    options = {k: v for k, v in block.items() if k not in ("name", "summary", "knowledge")}
    assert build(options).invalid_parameters() == []
    assert "iterations" in build(options | {"iterations": 0}).invalid_parameters()[0]
    if name == "inverting_gradients":
        assert "did you mean 'tv'" in build(options | {"prior": "tvv"}).invalid_parameters()[0]
    multilabel = ProblemSpec(10, 10, 1, (1, 8, 8), 3, task="multilabel")
    assert "one class" in build(options).incompatibilities(multilabel, {})[0]


# --------------------------------------------------------------------------- informed adversary


def wins(candidates, sigma, steps, trials, rng):
    """How often the record is found among M orthogonal gradients, noise `sigma` times the clip."""
    clip, found = 2.0, 0
    gradients = 5 * np.eye(candidates)[:, None].repeat(steps, axis=1)
    for _ in range(trials):
        truth, known = rng.integers(candidates), rng.standard_normal((steps, candidates))
        own = informed_adversary.clipped(gradients[truth], clip)
        noisy = known + own + sigma * clip * rng.standard_normal(own.shape)
        left = informed_adversary.residuals(noisy, known)
        found += informed_adversary.guess(gradients, left, clip) == truth
    return found


@pytest.mark.parametrize(
    ("candidates", "sigma", "steps", "golden"),
    [(8, 2, 1, 0.2577), (8, 10, 100, 0.4402), (2, 1, 1, None)],
)
def test_theinformed_adversary_comes_close_to_the_ceiling_and_no_higher(
    candidates, sigma, steps, golden
):
    upper_bound = norm.cdf(norm.ppf(1 / candidates) + np.sqrt(steps) / sigma)
    if golden:
        assert upper_bound == pytest.approx(golden, abs=1e-4)
    trials = 1000
    found = wins(candidates, sigma, steps, trials, np.random.default_rng(0))
    assert beta.ppf(0.001, found, trials - found + 1) <= upper_bound
    assert found / trials > 0.8 * upper_bound


def test_without_noise_theinformed_adversary_is_always_right_and_without_signal_guesses():
    assert wins(8, 0.0, 1, 50, np.random.default_rng(0)) == 50
    blind = wins(8, 1e6, 1, 2000, np.random.default_rng(0))
    assert abs(blind / 2000 - 1 / 8) < 3.3 * np.sqrt(7 / 64 / 2000)


def test_clipping_scales_long_gradients_only():
    found = informed_adversary.clipped(np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]]), 1.0)
    assert np.allclose(found, [[0.6, 0.8], [0.3, 0.4], [0, 0]])
    with pytest.raises(ValueError, match="positive"):
        informed_adversary.scores(np.zeros((1, 1, 2)), np.zeros((1, 2)), 0.0)

"""Attacks that match gradients rebuild what was sent, and nothing else."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from matching_world import SIDE, images, made, sent_by

from medleak.api import (
    Knowledge,
    LocalTraining,
    Observation,
    ProblemSpec,
    ReconstructionChallenge,
    Records,
    Release,
)
from medleak.attacks.gradient_inversion._matching import boxed, to_pixels, to_sought
from medleak.attacks.gradient_inversion._priors import PrincipalComponents
from medleak.attacks.gradient_inversion.dlg import DLG
from medleak.attacks.gradient_inversion.gias import GIAS
from medleak.attacks.gradient_inversion.grad_inversion import GradInversion
from medleak.attacks.gradient_inversion.idlg import IDLG
from medleak.attacks.gradient_inversion.inverting_gradients import InvertingGradients
from medleak.attacks.model_inversion._generators import GAN, ConditionalGAN
from medleak.attacks.model_inversion._priors import Components
from medleak.config.instantiate import build

pytestmark = pytest.mark.usefixtures("one_thread")

CONF = Path(__file__).parents[2] / "conf" / "attack"


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

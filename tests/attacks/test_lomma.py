import numpy as np
import pytest
import torch
from inversion_world import Heart, experiment, recognised
from torch import nn

from medleak.api import MedleakError, replace
from medleak.attacks.model_inversion._descent import Descent
from medleak.attacks.model_inversion._generators import GAN, public_answers
from medleak.attacks.model_inversion._networks import Encoder, unpacked
from medleak.attacks.model_inversion._oracle import Oracle
from medleak.attacks.model_inversion._selection import AsDrawn, Confident
from medleak.attacks.model_inversion._surrogates import distilled, features_and_logits, spread
from medleak.attacks.model_inversion.lomma import LOMMA


class LinearHeart(nn.Module):
    """The logits of `Heart` from a linear layer: its features are the pixels and the square of their norm."""

    def __init__(self, known):
        super().__init__()
        heart, m = Heart(known), torch.from_numpy(known).flatten(1)
        self.head = nn.Linear(m.shape[1] + 1, len(m) + 1)
        with torch.no_grad():
            self.head.weight.zero_()
            self.head.weight[:-1, :-1], self.head.weight[:-1, -1] = (
                2 * heart.sharp * m,
                -heart.sharp,
            )
            self.head.bias[:-1] = heart.reach - heart.sharp * m.square().sum(1)
            self.head.bias[-1] = 0

    def forward(self, x):
        x = x.flatten(1)
        return self.head(torch.cat([x, x.square().sum(1, keepdim=True)], dim=1))


def linear_world(**options):
    release, sittings, knowledge, people = experiment(**options)
    known = replace(knowledge, network=lambda weights: LinearHeart(weights["known"].copy()).eval())
    return release, sittings, known, people


def lomma(**more):
    parts = {
        "prior": GAN(dim=8, width=8, steps=60, lr=0.004, reach=2.0),
        "first": AsDrawn(),
        "last": Confident(views=0),
        "descent": Descent(iterations=40, lr=0.1),
        "students": [8, 16],
        "epochs": 10,
        "starts": 3,
    }
    return LOMMA(**parts | more)


def share(attack, seeds=range(3), prior_samples=False, **options):
    found = []
    for seed in seeds:
        release, sittings, knowledge, people = linear_world(seed=seed, **options)
        output = attack.execute(release.granting("weights"), sittings, knowledge)
        assert output.reconstructions.shape == sittings.shape
        assert 0 <= output.reconstructions.min() <= output.reconstructions.max() <= 1
        found.append(
            recognised(output.prior_samples if prior_samples else output.reconstructions, people)
        )
    return np.mean(found)


def test_it_draws_whom_the_model_knows_by_heart():
    assert share(lomma()) > 0.7
    assert share(lomma(students=[]), seeds=[0]) > 0.6


def test_a_model_that_knows_them_by_the_names_of_others_shows_others():
    assert share(lomma(), turn=1) < 0.15


def test_a_model_of_other_people_tells_nothing():
    # 12 classes at a chance of 1/4, each with images that resemble each other
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 12)
    assert abs(share(lomma(), knows=False) - 0.25) < bound
    assert abs(share(lomma(), prior_samples=True) - 0.25) < bound


def test_features_are_what_enters_the_last_layer():
    release, _, knowledge, _ = linear_world()
    network = knowledge.network(release.weights)
    x = torch.rand(6, 1, 12, 12, requires_grad=True)
    features, logits = features_and_logits(network, 5)(x)
    assert torch.allclose(features[:, :-1], x.flatten(1))
    assert torch.allclose(features @ network.head.weight.T + network.head.bias, logits)
    assert torch.autograd.grad(features.sum(), x)[0].abs().sum() > 0
    mean, deviation = spread(features_and_logits(network, 5), x.detach())
    assert torch.allclose(mean, features.mean(0), atol=1e-5)
    assert torch.allclose(deviation, features.std(0), atol=1e-5)


def test_students_come_to_answer_as_the_target():
    release, _, knowledge, _ = linear_world()
    images = knowledge.auxiliary.x
    answers = public_answers(images, Oracle(release, knowledge, "weights"))

    def gap(epochs):
        kept = distilled(images, answers, [8], epochs=epochs, lr=0.003, seed=0)
        student = unpacked(lambda: Encoder((1, 12, 12), 8, 5), "student0", kept)
        return (student(torch.from_numpy(images)).softmax(1) - answers).abs().sum(1).mean()

    assert gap(40) < 0.5 * gap(1)


def test_what_is_made_small_by_hand():
    release, _, knowledge, _ = linear_world()
    attack = lomma(students=[], beta=0.0, prior_weight=0.0)
    attack.fit(release, knowledge)
    decoder, classes = attack._state.decoder, torch.arange(3)
    z = decoder.sample(3, np.random.default_rng(0))
    logits = knowledge.network(release.weights)(decoder.decode(z))
    assert torch.allclose(attack.objective(z, classes), -logits[range(3), classes], atol=1e-5)
    # Around features without spread, the regulariser is the mean squared distance to their mean.
    attack.beta = 2.0
    look, mean, deviation = attack._models[0]
    attack._models = [(look, mean, 0 * deviation)]
    far = (look(decoder.decode(z))[0] - mean).square().mean(1)
    wanted = 2 * far - logits[range(3), classes]
    assert torch.allclose(attack.objective(z, classes), wanted, atol=1e-4)


def test_students_count_as_much_as_the_target_and_are_kept_for_it():
    names = []
    release, _, knowledge, _ = linear_world()
    kept = knowledge.keep
    knowledge = replace(knowledge, keep=lambda n, make: names.append(n) or kept(n, make))
    attack = lomma(beta=0.0, prior_weight=0.0)
    attack.fit(release, knowledge)
    x, classes = torch.rand(4, 1, 12, 12), torch.arange(4)
    wanted = torch.stack([-look(x)[1][range(4), classes] for look, *_ in attack._models]).mean(0)
    assert len(attack._models) == 3
    assert torch.allclose(attack.image_loss()(x, classes), wanted)
    assert names[1]["students"] == [8, 16]
    assert "target" in names[1]


def test_the_same_generator_gives_the_same_images_and_no_query_is_asked():
    release, sittings, knowledge, _ = linear_world()
    one = lomma().execute(release, sittings, knowledge).reconstructions
    again = lomma().execute(*linear_world()[:3]).reconstructions
    assert np.array_equal(one, again)
    assert release.queries == 0


def test_networks_without_a_last_linear_layer_and_faults():
    release, sittings, knowledge, _ = experiment()  # whose network measures distances
    with pytest.raises(MedleakError, match="does not end in a linear layer with 5 outputs"):
        lomma().execute(release, sittings, knowledge)
    assert lomma().invalid_parameters() == []
    found = lomma(prior=3, epochs=0, beta=-1, students=[0]).invalid_parameters()
    assert [f.split()[0] for f in found] == ["prior", "epochs", "beta", "students"]

import numpy as np
import torch
from inversion_world import experiment, over_worlds

from medleak.attacks.model_inversion._descent import Descent
from medleak.attacks.model_inversion._generators import GAN
from medleak.attacks.model_inversion._losses import cross_entropy
from medleak.attacks.model_inversion._priors import Components
from medleak.attacks.model_inversion._selection import AsDrawn, Confident
from medleak.attacks.model_inversion.gmi import GMI


def gmi(**more):
    parts = {
        "prior": GAN(dim=8, width=8, steps=60, lr=0.004, reach=2.0),
        "first": AsDrawn(),
        "last": Confident(views=0),
        "descent": Descent(method="nesterov", iterations=40, lr=0.5),
        "starts": 3,
    }
    return GMI(**parts | more)


def test_it_draws_whom_the_model_knows_by_heart():
    assert over_worlds(gmi(), seeds=range(3)) > 0.7


def test_a_model_of_other_people_tells_nothing():
    # 12 classes at a chance of 1/4, each with images that resemble each other
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 12)
    assert abs(over_worlds(gmi(), seeds=range(3), knows=False) - 0.25) < bound
    assert abs(over_worlds(gmi(), seeds=range(3), prior_samples=True) - 0.25) < bound


def test_the_objective_is_the_cross_entropy_less_the_critics_opinion():
    release, _, knowledge, _ = experiment()
    attack = gmi(prior_weight=0.5)
    attack.fit(release, knowledge)
    decoder, classes = attack._state.decoder, torch.arange(3)
    z = decoder.sample(3, np.random.default_rng(0))
    images = decoder.decode(z)
    wanted = cross_entropy(knowledge.network(release.weights)(images), classes)
    wanted = wanted + 0.5 * decoder.penalty(z, images)
    assert torch.allclose(attack.objective(z, classes), wanted)


def test_a_heavier_critic_has_images_that_it_likes_better():
    def opinion(weight):
        release, sittings, knowledge, _ = experiment()
        attack = gmi(prior_weight=weight)
        images = attack.execute(release, sittings, knowledge).reconstructions
        return attack._state.decoder.penalty(None, torch.from_numpy(images).flatten(0, 1)).mean()

    assert opinion(10.0) < opinion(0.0)


def test_the_same_generator_gives_the_same_images_and_no_query_is_asked():
    release, sittings, knowledge, _ = experiment()
    one = gmi().execute(release, sittings, knowledge).reconstructions
    again = gmi().execute(*experiment()[:3]).reconstructions
    assert np.array_equal(one, again)
    assert release.queries == 0


def test_faults_name_the_part():
    assert gmi().invalid_parameters() == gmi(prior=Components()).invalid_parameters() == []
    found = gmi(prior=GAN(width=9), starts=0, prior_weight=-1, loss="cross").invalid_parameters()
    assert [f.split()[0] for f in found] == ["prior:", "starts", "prior_weight", "unknown"]

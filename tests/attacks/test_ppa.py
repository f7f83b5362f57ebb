import numpy as np
import torch
from inversion_world import experiment, over_worlds

from medleak.attacks.model_inversion._crops import RandomCrops
from medleak.attacks.model_inversion._descent import Descent
from medleak.attacks.model_inversion._losses import poincare
from medleak.attacks.model_inversion._priors import Components, Pixels
from medleak.attacks.model_inversion._selection import AsDrawn, Confident
from medleak.attacks.model_inversion.ppa import PlugAndPlay


def ppa(**more):
    parts = {
        "prior": Components(),
        "first": Confident(pool=100, views=2),
        "last": Confident(views=10),
        "descent": Descent(iterations=40),
        "starts": 2,
    }
    return PlugAndPlay(**parts | more)


def test_it_draws_whom_the_model_knows_by_heart():
    assert over_worlds(ppa(), seeds=range(6)) > 0.8
    crops = RandomCrops(least=0.9, most=1.0, stretch=1.0)
    assert over_worlds(ppa(crops=crops, prior=Pixels(start="mean")), seeds=range(2)) > 0.6


def test_a_model_of_other_people_tells_nothing():
    # 24 classes at a chance of 1/4, each with images that resemble each other
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 24)
    assert abs(over_worlds(ppa(), seeds=range(6), knows=False) - 0.25) < bound
    assert abs(over_worlds(ppa(), seeds=range(6), prior_samples=True) - 0.25) < bound


def test_selection_alone_is_already_an_attack():
    still = ppa(descent=Descent(iterations=1, lr=1e-9), starts=1)
    drawn = ppa(first=AsDrawn(), last=AsDrawn(), descent=still.descent, starts=1)
    assert over_worlds(still, seeds=range(6)) > 0.15 + over_worlds(drawn, seeds=range(6))


def test_the_best_ends_are_answered():
    release, sittings, knowledge, _ = experiment(n_images=2)
    network = knowledge.network(release.weights)

    def confidence(last):
        rng = np.random.default_rng(5)
        knowledge.rng = rng
        attack = ppa(first=AsDrawn(), last=last, descent=Descent(iterations=3), starts=6)
        images = attack.execute(release, sittings, knowledge).reconstructions
        p = network(torch.from_numpy(images).flatten(0, 1)).softmax(1).unflatten(0, (4, 2))
        return p[range(4), :, range(4)]

    chosen, drawn = confidence(Confident(views=0)), confidence(AsDrawn())
    assert chosen.mean() > drawn.mean()
    assert (chosen.diff(dim=1) <= 1e-6).all()


def test_the_objective_is_the_poincare_distance_and_the_penalty():
    release, _, knowledge, _ = experiment()
    attack = ppa(prior_weight=0.5)
    attack.fit(release, knowledge)
    z, classes = torch.randn(3, 40, generator=torch.Generator().manual_seed(0)), torch.arange(3)
    z = z[:, : attack._state.decoder.dim]
    logits = knowledge.network(release.weights)(attack._state.decoder.decode(z))
    wanted = poincare(logits, classes) + 0.5 * z.square().mean(1)
    assert torch.allclose(attack.objective(z, classes), wanted)


def test_the_same_generator_gives_the_same_images_and_no_query_is_asked():
    release, sittings, knowledge, _ = experiment()
    one = ppa().execute(release, sittings, knowledge).reconstructions
    again = ppa().execute(*experiment()[:3]).reconstructions
    assert np.array_equal(one, again)
    assert release.queries == 0


def test_faults_name_the_part():
    assert ppa().invalid_parameters() == []
    found = ppa(
        prior=Components(reach=0), first=3, last=Confident(views=-1), starts=0, loss="poincaré",
        crops=RandomCrops(stretch=0.5),
    ).invalid_parameters()  # fmt: skip
    assert [f.split()[0] for f in found] == [
        "prior:", "first", "last:", "crops:", "starts", "unknown"
    ]  # fmt: skip
    assert "did you mean 'poincare'" in found[-1]

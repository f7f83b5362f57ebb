import numpy as np
import torch
from inversion_world import experiment, over_worlds

from medleak.attacks.model_inversion._crops import RandomCrops
from medleak.attacks.model_inversion._descent import Descent
from medleak.attacks.model_inversion._generators import ConditionalGAN
from medleak.attacks.model_inversion._losses import max_margin
from medleak.attacks.model_inversion._oracle import Oracle
from medleak.attacks.model_inversion._priors import Components
from medleak.attacks.model_inversion._selection import AsDrawn, Confident
from medleak.attacks.model_inversion.plg_mi import PLGMI
from medleak.attacks.model_inversion.ppa import PlugAndPlay

PRIOR = {"dim": 8, "width": 8, "steps": 60, "lr": 0.004, "top": 10}
STILL = Descent(iterations=1, lr=1e-9)


def plg_mi(**more):
    parts = {
        "prior": ConditionalGAN(**PRIOR),
        "first": AsDrawn(),
        "last": Confident(views=0),
        "descent": Descent(iterations=40, lr=0.1),
        "starts": 2,
    }
    return PLGMI(**parts | more)


def test_it_draws_whom_the_model_knows_by_heart():
    assert over_worlds(plg_mi(), seeds=range(3)) > 0.75


def test_a_model_that_knows_them_by_the_names_of_others_shows_others():
    assert over_worlds(plg_mi(), seeds=range(3), turn=1) < 0.15


def test_a_model_of_other_people_tells_nothing():
    # 12 classes at a chance of 1/4, each with images that resemble each other
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 12)
    assert abs(over_worlds(plg_mi(), seeds=range(3), knows=False) - 0.25) < bound
    assert abs(over_worlds(plg_mi(), seeds=range(3), prior_samples=True) - 0.25) < bound


def test_the_generator_alone_already_shows_the_classes_and_unguided_samples_show_any():
    longer = ConditionalGAN(**PRIOR | {"steps": 150, "alpha": 1.0})
    one = plg_mi(prior=longer, descent=STILL, last=AsDrawn(), starts=1)
    release, sittings, knowledge, _ = experiment(n_images=100, seed=1)
    output = one.execute(release, sittings, knowledge)
    network, own = knowledge.network(release.weights), np.repeat(np.arange(4), 100)

    def seen(images):
        with torch.no_grad():
            logits = network(torch.from_numpy(images).flatten(0, 1))[:, :4]
        return float((logits.argmax(dim=1).numpy() == own).mean())

    assert seen(output.reconstructions) > seen(output.prior_samples) + 0.1
    assert abs(seen(output.prior_samples) - 0.25) < 3.3 * np.sqrt(0.25 * 0.75 / 400)


def test_only_the_surest_images_of_a_class_are_learnt_from():
    release, _, knowledge, _ = experiment()
    oracle = Oracle(release, knowledge, "weights")
    p = oracle.probabilities(torch.from_numpy(knowledge.auxiliary.x))
    decoder = ConditionalGAN(**PRIOR).fit(knowledge, oracle)
    best = p.T.argsort(dim=1, descending=True)[:, :10]
    z = decoder.sample(100, np.random.default_rng(0))
    x = torch.from_numpy(knowledge.auxiliary.x)
    gaps = []
    for k in range(4):
        drawn = decoder.decode(z, torch.full((100,), k)).mean(0)
        gaps.append([(drawn - x[best[j]].mean(0)).square().mean().item() for j in range(4)])
    assert (np.argmin(gaps, axis=1) == np.arange(4)).mean() >= 0.75


def test_the_margin_shapes_the_generator():
    def confidence(alpha):
        release, _, knowledge, _ = experiment(seed=1)
        oracle = Oracle(release, knowledge, "weights")
        decoder = ConditionalGAN(**PRIOR | {"alpha": alpha}).fit(knowledge, oracle)
        classes = torch.arange(4).repeat_interleave(100)
        with torch.no_grad():
            images = decoder.decode(decoder.sample(400, np.random.default_rng(0)), classes)
        return oracle.probabilities(images)[range(400), classes].mean()

    assert confidence(0.5) > confidence(0.0)


def test_the_objective_is_the_margin_in_a_view():
    release, _, knowledge, _ = experiment()
    attack = plg_mi(crops=RandomCrops(least=1.0, most=1.0, stretch=1.0))
    attack.fit(release, knowledge)
    decoder, classes = attack._state.decoder, torch.arange(3)
    z = decoder.sample(3, np.random.default_rng(0))
    wanted = max_margin(knowledge.network(release.weights)(decoder.decode(z, classes)), classes)
    assert torch.allclose(attack.objective(z, classes), wanted, atol=1e-4)


def test_other_attacks_search_its_generator_too():
    parts = {"first": Confident(pool=20, views=0), "last": Confident(views=0)}
    ppa = PlugAndPlay(prior=ConditionalGAN(**PRIOR), descent=Descent(iterations=20), **parts)
    assert over_worlds(ppa, seeds=[1]) > 0.5


def test_the_same_generator_gives_the_same_images_and_no_query_is_asked():
    release, sittings, knowledge, _ = experiment()
    one = plg_mi().execute(release, sittings, knowledge).reconstructions
    again = plg_mi().execute(*experiment()[:3]).reconstructions
    assert np.array_equal(one, again)
    assert release.queries == 0


def test_faults_name_the_part():
    assert plg_mi().invalid_parameters() == []
    found = plg_mi(prior=ConditionalGAN(top=0, alpha=-1), starts=0, loss="x").invalid_parameters()
    assert [f.split()[0] for f in found] == ["prior:", "prior:", "starts", "unknown"]
    assert "must be a ConditionalGAN" in plg_mi(prior=Components()).invalid_parameters()[0]

import numpy as np
import pytest
import torch
from inversion_world import KEPT, PEOPLE, experiment, faces, over_worlds

from medleak.attacks.model_inversion._descent import Descent
from medleak.attacks.model_inversion._gan_training import unreal
from medleak.attacks.model_inversion._generators import DistillingGAN, public_answers
from medleak.attacks.model_inversion._networks import Encoder, unpacked
from medleak.attacks.model_inversion._oracle import Oracle
from medleak.attacks.model_inversion.ked_mi import KEDMI

PRIOR = {"dim": 8, "width": 8, "steps": 60, "lr": 0.004}


def ked_mi(**more):
    parts = {
        "prior": DistillingGAN(**PRIOR),
        "descent": Descent(iterations=40, lr=0.2),
        "draws": 4,
    }
    return KEDMI(**parts | more)


def test_it_draws_whom_the_model_knows_by_heart():
    assert over_worlds(ked_mi(), seeds=range(3)) > 0.7


def test_a_model_that_knows_them_by_the_names_of_others_shows_others():
    assert over_worlds(ked_mi(), seeds=range(3), turn=1) < 0.15


def test_a_model_of_other_people_tells_nothing():
    # 12 classes at a chance of 1/4, each with images that resemble each other
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 12)
    assert abs(over_worlds(ked_mi(), seeds=range(3), knows=False) - 0.25) < bound
    assert abs(over_worlds(ked_mi(), seeds=range(3), prior_samples=True) - 0.25) < bound


def test_minus_the_log_of_what_is_real_by_hand():
    # Z = e^0 + e^0 = 2, D = 2 / 3
    assert unreal(torch.zeros(1, 2)).item() == pytest.approx(np.log(3 / 2), rel=1e-6)
    assert unreal(torch.tensor([[50.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


def test_the_critic_learns_the_targets_answers():
    release, _, knowledge, _ = experiment()
    oracle = Oracle(release, knowledge, "weights")
    DistillingGAN(**PRIOR).fit(knowledge, oracle)
    answers = public_answers(knowledge.auxiliary.x, oracle)
    kept = next(
        arrays
        for (seed, name), arrays in KEPT.items()
        if seed == 0 and "Distilling" in name and arrays["critic.output.bias"].size == PEOPLE + 1
    )
    critic = unpacked(lambda: Encoder((1, 12, 12), 8, PEOPLE + 1), "critic", kept)
    x = torch.from_numpy(knowledge.auxiliary.x)
    gap = (critic(x).softmax(1) - answers).abs().sum(1).mean()
    blind = (answers.mean(0) - answers).abs().sum(1).mean()
    assert gap < 0.7 * blind


def test_each_target_has_a_generator_of_its_own():
    names = []
    for knows in (True, False):
        release, _, knowledge, _ = experiment(knows=knows)
        knowledge.keep = lambda name, make: names.append(name) or make(np.random.default_rng(0))
        prior = DistillingGAN(**PRIOR | {"steps": 2})
        prior.fit(knowledge, Oracle(release, knowledge, "weights"))
    assert names[0]["target"] != names[1]["target"]
    assert {**names[0], "target": 0} == {**names[1], "target": 0}
    assert "reach" not in names[0]


def test_the_search_begins_at_the_prior_and_narrows_or_moves_it():
    release, sittings, knowledge, _ = experiment()
    still = ked_mi(descent=Descent(iterations=1, lr=1e-9))
    images = still.execute(release, sittings, knowledge)
    spread = images.reconstructions.std(axis=1).mean(), images.prior_samples.std(axis=1).mean()
    assert spread[0] == pytest.approx(spread[1], rel=0.3)
    found = ked_mi().execute(*experiment()[:3]).reconstructions.std(axis=1).mean()
    assert found < 0.8 * spread[0]


def test_what_is_made_small_is_the_mean_over_points_of_each_class():
    release, _, knowledge, _ = experiment()
    attack = ked_mi(draws=3)
    attack.fit(release, knowledge)
    certain = torch.cat([torch.randn(2, 8), torch.full((2, 8), -60.0)], dim=1)
    classes = torch.tensor([1, 3])
    wanted = attack.objective(certain[:, :8], classes)
    assert torch.allclose(attack.expected(certain, classes), wanted, atol=1e-4)


def test_the_same_generator_gives_the_same_images_and_no_query_is_asked():
    release, sittings, knowledge, _ = experiment()
    one = ked_mi().execute(release, sittings, knowledge).reconstructions
    again = ked_mi().execute(*experiment()[:3]).reconstructions
    assert np.array_equal(one, again)
    assert release.queries == 0


def test_its_penalty_prefers_what_it_saw_and_faults_name_the_part():
    release, _, knowledge, _ = experiment()
    decoder = DistillingGAN(**PRIOR).fit(knowledge, Oracle(release, knowledge, "weights"))
    seen, noise = torch.from_numpy(faces(200, [0, 9])), torch.rand(200, 1, 12, 12)
    assert decoder.penalty(None, seen).mean() < decoder.penalty(None, noise).mean()
    assert ked_mi().invalid_parameters() == []
    found = ked_mi(
        prior=DistillingGAN(dim=-1), descent=None, draws=0, loss="x"
    ).invalid_parameters()
    assert [f.split()[0] for f in found] == ["prior:", "descent", "unknown", "draws"]

import numpy as np
import pytest
import torch
from inversion_world import experiment, over_worlds

from medleak.api import InversionChallenge, Knowledge, NotApplicable, ProblemSpec, Records, Release
from medleak.attacks.model_inversion._priors import Components, Pixels
from medleak.attacks.model_inversion.brep_mi import BREPMI, repelled


def brep(**more):
    return BREPMI(**{"prior": Components(reach=1.5), "pool": 200, "radius": 1.0} | more)


# --------------------------------------------------------------------------- closed forms


def test_a_step_by_hand():
    # r = 2, four points of which one, (1, 0), is outside: z - (2 / 3) (1, 0) / 4
    z, u = torch.zeros(2, 2), torch.tensor([[[1.0, 0], [0, 1], [-1, 0], [0, -1]]] * 2)
    inside = torch.tensor([[False, True, True, True], [True] * 4])
    moved = repelled(z, u, inside, torch.tensor([2.0, 2.0]))
    assert torch.allclose(moved, torch.tensor([[-1 / 6, 0], [0, 0]]))
    far = repelled(z, u, inside, torch.tensor([90.0, 90.0]))
    assert torch.allclose(far[0], torch.tensor([-3 / 4, 0]))


def disc(*, budget=None, answered=None):
    """Class 1 is a disc of radius .3 about (.6, .4); points are images of two pixels."""
    middle = np.array([0.6, 0.4])

    def labels(x):
        if answered is not None:
            answered.append(len(x))
        return (np.linalg.norm(x.reshape(-1, 2) - middle, axis=1) < 0.3).astype(np.int64)

    x = np.random.default_rng(0).random((50, 1, 1, 2)).astype(np.float32)
    auxiliary = Records(x, np.full(50, -1), np.arange(50))
    problem = ProblemSpec(10, 10, 1, (1, 1, 2), 2)
    rng = np.random.default_rng(1)
    knowledge = Knowledge(problem, auxiliary=auxiliary, rng=rng, budget=budget)
    return (
        Release({"labels": labels}),
        InversionChallenge(np.array([1]), 4, (1, 1, 2)),
        knowledge,
        middle,
    )


PIXELS = Pixels(start="public", noise=0.0)


def test_it_comes_to_rest_in_the_middle_of_a_disc():
    release, sittings, knowledge, middle = disc()
    attack = brep(prior=PIXELS, pool=50, radius=0.05, growth=1.1, iterations=300)
    found = attack.execute(release, sittings, knowledge).reconstructions.reshape(-1, 2)
    start = brep(prior=PIXELS, pool=50, iterations=1, radius=1e-6)
    before = start.execute(*disc()[:3]).reconstructions.reshape(-1, 2)
    far = np.linalg.norm(found - middle, axis=1)
    assert np.linalg.norm(before - middle, axis=1).max() > 0.1
    assert far.max() < 0.05


def test_patience_leaves_an_image_alone():
    release, sittings, knowledge, _ = disc()
    attack = brep(prior=PIXELS, pool=50, radius=5.0, iterations=100, patience=3)
    assert attack.execute(release, sittings, knowledge).queries == 50 + 4 * (1 + 3 * 33)


# --------------------------------------------------------------------------- budget


@pytest.mark.parametrize("budget", [50 + 4 * 34, 50 + 4 * 34 + 131, 1000, 10**6])
def test_the_budget_is_never_overdrawn(budget):
    answered = []
    release, sittings, knowledge, _ = disc(budget=budget, answered=answered)
    attack = brep(prior=PIXELS, pool=50, radius=0.05, iterations=12)
    output = attack.execute(release, sittings, knowledge)
    turns = min(12, (budget - 54) // (4 * 33))
    assert sum(answered) == output.queries == 54 + turns * 4 * 33 <= budget
    assert max(answered) < 32  # the bench would store the answers


def test_a_budget_that_pays_for_no_iteration_is_refused():
    attack = brep(prior=PIXELS, pool=50, iterations=12)
    for budget in (10, 50 + 4 * 34 - 1):
        release, sittings, knowledge, _ = disc(budget=budget)
        with pytest.raises(NotApplicable, match="of the budget are left"):
            attack.execute(release, sittings, knowledge)
        assert release.queries <= budget
    problem = disc()[2].problem
    assert attack.incompatibilities(problem, {"budget": None}) == []
    assert attack.incompatibilities(problem, {"budget": 84}) == []
    assert "budget 83 is less than 84" in attack.incompatibilities(problem, {"budget": 83})[0]


# --------------------------------------------------------------------------- controls


def test_it_draws_whom_the_model_knows_by_heart_from_labels_alone():
    assert over_worlds(brep(), seeds=range(6), access="labels") > 0.75


def test_a_model_of_other_people_tells_nothing():
    # 24 classes at a chance of 1/4, each with images that resemble each other
    bound = 3.3 * np.sqrt(0.25 * 0.75 / 24)
    found = over_worlds(brep(), seeds=range(6), access="labels", knows=False)
    assert abs(found - 0.25) < bound
    prior_samples = over_worlds(brep(), seeds=range(6), access="labels", prior_samples=True)
    assert abs(prior_samples - 0.25) < bound


def test_a_class_that_nothing_is_labelled_as_stays_as_drawn():
    release, sittings, knowledge, _ = experiment(n_images=2)
    release.views["labels"] = lambda x: np.zeros(len(x), np.int64)
    attack = brep(iterations=3)
    output = attack.execute(release.granting("labels"), sittings, knowledge)
    assert output.queries == 200 + 4 * 2 + 3 * 2 * 33  # only class 0 is walked for
    z = attack._state.decoder.sample(200, experiment()[2].rng)[:2]
    wanted = attack._state.decoder.decode(z).numpy()
    assert np.allclose(output.reconstructions[1:], wanted, atol=1e-6)


def test_faults():
    assert brep().invalid_parameters() == []
    found = brep(prior=None, pool=0, growth=1.0, agree=1.5, points=2.5).invalid_parameters()
    assert [f.split()[0] for f in found] == ["prior", "pool", "points", "growth", "agree"]

"""The examples of every goal: chance where nothing leaks, found where a leak is planted, and always the same."""

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from medleak.api import Attack, NotApplicable, ThreatModel
from medleak.config.instantiate import build
from medleak.goals import synthetic
from medleak.goals.registry import goal_of, known_goals

CONF = Path(__file__).parents[2] / "conf" / "attack"
REFERENCE = {
    "membership": ["yeom", "update_cosine", "dirac"],
    "reconstruction": ["linear_layer", "imprint", "fishing", "informed_adversary"],
    "inversion": ["brep_mi"],
    "attribute": ["score_attribute", "art_attribute", "update_attribute"],
    "property": ["score_property"],
}
SEEDS = range(4)
TRIALS = {"property": 24}
"""Where one example is one guess."""
NAMES = [name for names in REFERENCE.values() for name in names]


def loaded(name):
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    policy = {"policy": build(config["policy"])} if "policy" in config else {}
    attack = build(config)
    return attack, {**(config.get("knowledge") or {}), **policy}, goal_of(attack.requires.goal)


def answered(name, *, leak, seed):
    attack, knowledge, goal = loaded(name)
    example = goal.example(attack, knowledge, leak=leak, seed=seed)
    release = example.release.granting(attack.requires.access)
    output = attack.execute(release, example.question.challenge, example.knowledge)
    return goal.outcome(example.question, output), output


def mean(name, leak):
    trials = TRIALS.get(loaded(name)[2].name, len(SEEDS))
    outcomes = [answered(name, leak=leak, seed=seed)[0] for seed in range(trials)]
    value, chance, slack = np.mean(outcomes, axis=0)
    return value, chance, slack / np.sqrt(trials)


def test_every_goal_has_a_reference():
    assert sorted(REFERENCE) == known_goals()
    assert all(loaded(n)[2].name == goal for goal, names in REFERENCE.items() for n in names)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found_where_nothing_leaks(name):
    value, chance, slack = mean(name, leak=False)
    assert abs(value - chance) <= slack


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_leak_is_found(name):
    value, chance, slack = mean(name, leak=True)
    assert value > chance + slack
    assert value > chance + 0.4 * (1 - chance)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("leak", [True, False])
def test_an_example_is_a_function_of_its_seed(name, leak):
    attack, knowledge, goal = loaded(name)
    state = random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state()
    one, same, other = (
        goal.example(attack, knowledge, leak=leak, seed=seed).question for seed in (0, 0, 1)
    )
    assert random.getstate() == state[0]
    assert pickle.dumps(np.random.get_state()) == state[1]
    assert torch.equal(torch.get_rng_state(), state[2])
    assert pickle.dumps(one.challenge) == pickle.dumps(same.challenge)
    assert pickle.dumps(one.truth) == pickle.dumps(same.truth)
    assert pickle.dumps(one) != pickle.dumps(other)
    answers = [answered(name, leak=leak, seed=0)[1] for _ in range(2)]
    field = one.challenge.answer
    assert np.array_equal(*(getattr(answer, field) for answer in answers))


@pytest.mark.parametrize("goal", REFERENCE)
def test_what_no_example_suits_is_said(goal):
    class Odd(Attack):
        requires = ThreatModel(goal=goal, access="ciphertext")

        def run(self, release, challenge):
            return np.zeros(len(challenge))

    with pytest.raises(NotApplicable, match="no view 'ciphertext'"):
        goal_of(goal).example(Odd(), {}, leak=True)


def test_a_malicious_server_without_a_policy_has_no_example():
    attack, _, goal = loaded("imprint")
    with pytest.raises(NotApplicable, match="`policy` block"):
        goal.example(attack, {}, leak=True)


def test_budget_and_network_are_those_of_the_attack():
    attack, knowledge, goal = loaded("brep_mi")
    example = goal.example(attack, {**knowledge, "budget": 7}, leak=True)
    assert example.knowledge.budget == 7
    assert example.knowledge.network is None
    assert goal.example(loaded("ppa")[0], {}, leak=True).knowledge.network is not None


# --------------------------------------------------------------------------- what they are made of


def test_a_message_is_the_mean_gradient_of_its_clients():
    network = synthetic.dense(4, 2, hidden=3, activation="Tanh")
    rng = np.random.default_rng(0)
    x, y = rng.random((6, 4)).astype(np.float32), rng.integers(0, 2, 6)
    records = synthetic.Records(x, y, np.arange(6))
    parts = [records.take(np.arange(3)), records.take(np.arange(3, 6))]
    both, whole = (
        synthetic.message([network] * len(batches), batches) for batches in (parts, [records])
    )
    assert (both.clients, both.n_records) == ((0, 1), 6)
    assert all(np.allclose(both.update[n], whole.update[n], atol=1e-6) for n in whole.update)
    noise = synthetic.noised(both, rng)
    for name, array in both.update.items():
        assert np.linalg.norm(noise.update[name]) == pytest.approx(np.linalg.norm(array), rel=1e-5)
        assert not np.allclose(noise.update[name], array)


def test_what_is_kept_is_made_once_for_an_owner_and_handed_out_as_a_copy():
    made = []

    def make(rng):
        made.append(1)
        return {"draw": rng.random(3)}

    first = synthetic.keep(("test", 0), {"prior": "a"}, make)
    expected = first["draw"].copy()
    first["draw"][:] = 0
    assert np.array_equal(synthetic.keep(("test", 0), {"prior": "a"}, make)["draw"], expected)
    synthetic.keep(("test", 1), {"prior": "a"}, make)
    synthetic.keep(("test", 0), {"prior": "b"}, make)
    assert len(made) == 3


def test_slack_is_what_chance_rarely_exceeds():
    from scipy.stats import binom

    for n, chance in ((8, 0.01), (24, 0.2), (12, 1 / 12)):
        most = n * (chance + synthetic.binomial_slack(n, chance))
        assert binom.sf(round(most), n, chance) <= synthetic.SURE
        assert binom.sf(round(most) - 1, n, chance) > synthetic.SURE


def test_images_are_nearest_to_themselves():
    images = synthetic.smooth_images(20, [0])
    assert images.shape == (20, 1, synthetic.SIDE, synthetic.SIDE)
    assert 0 <= images.min() < images.max() <= 1
    assert (synthetic.correlations(images, images).argmax(axis=1) == np.arange(20)).all()

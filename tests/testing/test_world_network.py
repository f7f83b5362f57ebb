"""The synthetic world's network, and who is given it."""

import random
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

from medleak.api import Attack, ThreatModel, task_of
from medleak.testing import check_attack, membership_world

KINDS = [("multiclass", (1, 8, 8)), ("multiclass", (3, 6, 9)), ("multiclass", (12,)),
         ("multilabel", (1, 8, 8)), ("segmentation", (1, 8, 8))]  # fmt: skip


def pixels(x):
    x = torch.from_numpy(x)
    return x.float() / 255 if x.dtype == torch.uint8 else x


@pytest.mark.parametrize(("task", "in_shape"), KINDS)
def test_the_network_answers_what_the_release_answers(task, in_shape):
    release, challenge, _, knowledge = membership_world(
        leak=6.0, n=80, n_shadows=1, task=task, in_shape=in_shape
    )
    for shown in (release, *(s.release for s in knowledge.shadows)):
        network = knowledge.network(shown.weights)
        assert list(network.state_dict()) == list(shown.weights)
        assert not network.training
        with torch.no_grad():
            z = network(pixels(challenge.x))
        log_p = task_of(task).log_probabilities(z.numpy())
        assert np.allclose(log_p, shown.scores(challenge.x), atol=2e-3)


def test_an_untrained_network_is_the_same_each_time_and_draws_from_nowhere():
    knowledge = membership_world(leak=1.0, n=40, n_shadows=0)[3]
    state = torch.get_rng_state()
    one, two = (knowledge.network(None).state_dict() for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["centres"].shape == (20, 8)


def test_gradients_of_a_world_without_a_leak_do_not_tell():
    release, challenge, secret, knowledge = membership_world(leak=0.0, n=60, n_shadows=0)
    other, *_ = membership_world(leak=5.0, n=60, n_shadows=0)
    gradients = {}
    for name, shown in (("none", release), ("some", other)):
        network = knowledge.network(shown.weights)
        loss = torch.nn.functional.cross_entropy(
            network(pixels(challenge.x)), torch.from_numpy(challenge.y), reduction="none"
        )
        rows = [torch.autograd.grad(x, network.centres, retain_graph=True)[0] for x in loss]
        gradients[name] = torch.stack(rows)
    assert not gradients["none"].any()  # the bumps have no pull, whoever they surround
    assert gradients["some"].any()
    assert not set(map(bytes, release.weights["centres"])) & set(
        map(bytes, other.weights["centres"])
    )
    assert release.weights["head.weight"].shape[1] == 64 + secret.member.sum()


class Loss(Attack):
    """Log-probability of the true class of one-class tasks."""

    requires = ThreatModel(goal="membership", access="scores")
    paper = "Nobody 2024, Nothing, Nowhere"

    def fit(self, release, knowledge):
        self._knowledge = knowledge

    def incompatibilities(self, problem, knowledge):
        return [] if task_of(problem.task).one_class else ["one class per record"]

    def run(self, release, challenge):
        return release.scores(challenge.x)[np.arange(len(challenge)), challenge.y]


def variant(**members):
    return type("Variant", (Loss,), {"__doc__": Loss.__doc__, **members})()


def test_only_who_knows_the_architecture_gets_the_network():
    given = []

    def run(self, release, challenge):
        given.append(self._knowledge.network)
        return Loss.run(self, release, challenge)

    knowing = ThreatModel(goal="membership", access="scores", knowledge=("architecture",))
    assert check_attack(variant(run=run)) == []
    assert not any(given)
    given.clear()
    assert check_attack(variant(run=run, requires=knowing)) == []
    assert all(given)


def test_a_library_that_draws_while_it_is_imported_is_not_the_attack(monkeypatch):
    def importing(self, release, challenge):
        if "drawing_library" not in sys.modules:
            monkeypatch.setitem(sys.modules, "drawing_library", ModuleType("drawing_library"))
            random.random()
        return Loss.run(self, release, challenge)

    def drawing(self, release, challenge):
        random.random()
        return importing(self, release, challenge)

    assert check_attack(variant(run=importing)) == []
    monkeypatch.delitem(sys.modules, "drawing_library")
    assert "it changes Python's global generator: draw from Knowledge.rng" in check_attack(
        variant(run=drawing)
    )

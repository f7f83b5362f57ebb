"""Each clause of the contract is broken by one small plugin, and the check says which."""

import sys

import numpy as np
import pytest
from checked_plugins import Good, only

from medleak.api import ThreatModel
from medleak.goals.membership.goal import Membership
from medleak.goals.registry import known_goals
from medleak.testing import check_attack, membership_world, not_exercised


def attack(**members):
    """A variant of `Good` with some members replaced."""
    members.setdefault("__doc__", Good.__doc__)
    return type("Variant", (Good,), members)()


def test_a_good_attack_passes():
    assert check_attack(Good()) == []
    assert check_attack(Good(power=2.0), rng=3) == []


def test_a_plugin_that_raises_is_one_line():
    def run(self, release, challenge):
        raise ValueError("bad\nworse")

    only(check_attack(attack(run=run)), "run raised ValueError: bad")


def test_wrong_shape():
    only(check_attack(attack(run=lambda s, r, c: np.zeros((len(c), 2)))), "shape (500, 2)")


def test_infinite_scores_are_an_order_and_nan_is_none():
    def run(self, release, challenge):
        scores = self.confidence(release, challenge)
        return np.where(scores > -0.1, np.inf, np.where(scores < -9, -np.inf, scores))

    assert check_attack(attack(run=run)) == []
    release, challenge, _, knowledge = membership_world(leak=6.0)
    assert np.isinf(attack(run=run).execute(release, challenge, knowledge).scores).any()
    nan = attack(run=lambda s, r, c: np.full(len(c), np.nan))
    only(check_attack(nan), "returned NaN for 500 values")


def test_a_plugin_that_leaves_is_told_and_not_followed():
    def run(self, release, challenge):
        sys.exit(0)

    only(check_attack(attack(run=run)), "run raised SystemExit: 0")


def test_invalid_parameters():
    only(
        check_attack(attack(invalid_parameters=lambda s: ["power 1.0 is odd"])),
        "invalid parameter: power 1.0 is odd",
    )
    only(
        check_attack(attack(invalid_parameters=lambda s: None)), "invalid_parameters returned None"
    )


def test_a_view_that_was_not_asked_for():
    weights = ThreatModel(goal="membership", access="labels")
    only(check_attack(attack(requires=weights)), "Hidden", "declared access to 'labels' only")


def test_a_view_of_the_shadows_that_was_not_asked_for():
    def run(self, release, challenge):
        for shadow in self._knowledge.shadows:
            assert shadow.release.weights
        return self.confidence(release, challenge)

    only(check_attack(attack(run=run)), "Hidden", "view 'weights'")


def test_randomness_from_elsewhere():
    def from_numpy(self, release, challenge):
        return self.confidence(release, challenge) + 1e-3 * np.random.rand(len(challenge))

    def from_the_air(self, release, challenge):
        noise = np.random.default_rng().random(len(challenge))
        return self.confidence(release, challenge) + 1e-3 * noise

    assert any("changes NumPy's global" in p for p in check_attack(attack(run=from_numpy)))
    only(check_attack(attack(run=from_the_air)), "differ between two runs")


def test_the_attacks_own_generator_is_welcome():
    def run(self, release, challenge):
        noise = self._knowledge.rng.random(len(challenge))
        return self.confidence(release, challenge) + 0.1 * noise

    assert check_attack(attack(run=run)) == []


def test_order_of_the_records():
    def run(self, release, challenge):
        return self.confidence(release, challenge) + np.arange(len(challenge)) / 200

    only(check_attack(attack(run=run)), "depend on the order")


def test_changed_inputs():
    def run(self, release, challenge):
        scores = self.confidence(release, challenge)
        challenge.y[:] = 0
        return scores

    assert "it changes its input challenge.records.y" in check_attack(attack(run=run))


def test_queries_past_the_counter():
    def run(self, release, challenge):
        return release.views["labels"](challenge.x) + self.confidence(release, challenge)

    assert any("past the counter" in p for p in check_attack(attack(run=run)))


def test_an_attack_that_finds_nothing():
    only(
        check_attack(attack(run=lambda s, r, c: c.x.reshape(len(c), -1).mean(1))),
        "positive control",
    )


def test_an_attack_that_sees_a_leak_where_there_is_none():
    """Such as one that was handed the truth of the null world."""
    _, challenge, secret, _ = membership_world(leak=0.0, n_shadows=0)
    truth = {x.tobytes(): m for x, m in zip(challenge.x, secret.member, strict=True)}

    def run(self, release, challenge):
        known = np.array([truth.get(x.tobytes(), False) for x in challenge.x], dtype=float)
        return self.confidence(release, challenge) + 3 * known

    only(check_attack(attack(run=run)), "null control")


@pytest.mark.parametrize(
    ("init", "words"),
    [
        (lambda self, *, power=1.0: setattr(self, "strength", power), "does not store"),
        (lambda self, power=1.0: setattr(self, "power", power), "not keyword-only"),
        (lambda self, *, power=1.0: self.__dict__.update(power=power, cache={}), "sets 'cache'"),
        (lambda self, *, power=1.0: setattr(self, "power", power + 1), "repr does not rebuild"),
    ],
)
def test_constructors_only_store(init, words):
    assert any(words in p for p in check_attack(attack(__init__=init)))


def test_docstring_and_paper():
    assert "the class has no docstring" in check_attack(attack(__doc__=""))
    assert any("`paper` is missing" in p for p in check_attack(attack(paper="")))


def test_incompatibilities():
    only(check_attack(attack(incompatibilities=lambda *_: None)), "incompatibilities returned None")
    only(check_attack(attack(incompatibilities=lambda *_: "no")), "a list of strings is needed")
    only(
        check_attack(attack(incompatibilities=lambda *_: ["too hard"])),
        "refuses every example",
        "too hard",
    )
    tables_only = attack(
        incompatibilities=lambda self, s, k: ["images"] if len(s.in_shape) == 3 else []
    )
    assert check_attack(tables_only) == []


GOALS = {
    "membership": {"access": "scores"},
    "reconstruction": {"access": "aggregate", "adversary": "server"},
    "inversion": {"access": "weights"},
    "attribute": {"access": "scores"},
    "property": {"access": "scores"},
}


def test_every_goal_is_among_those_tried_here():
    assert sorted(GOALS) == known_goals()


@pytest.mark.parametrize("goal", GOALS)
def test_an_attack_that_always_raises_fails_whatever_its_goal(goal):
    def run(self, release, challenge):
        raise ValueError("bad")

    requires = ThreatModel(goal=goal, **GOALS[goal])
    only(check_attack(attack(requires=requires, run=run)), "run raised ValueError: bad")


@pytest.mark.parametrize("goal", GOALS)
def test_an_attack_that_always_says_the_same_finds_nothing_whatever_its_goal(goal):
    def run(self, release, challenge):
        return np.zeros([2 if n is None else n for n in challenge.shape])

    requires = ThreatModel(goal=goal, **GOALS[goal])
    only(check_attack(attack(requires=requires, run=run)), "positive control")


def test_an_attack_that_no_example_suits_is_said_to_be_unexercised():
    odd = attack(requires=ThreatModel(goal="inversion", access="ciphertext"))
    assert check_attack(odd) == []
    assert "no view 'ciphertext'" in not_exercised(odd)
    assert not_exercised(Good()) == ""


def test_a_goal_whose_example_raises_is_one_line(monkeypatch):
    def example(self, attack, knowledge, *, leak, seed=0):
        raise ValueError("bad")

    monkeypatch.setattr(Membership, "example", example)
    only(check_attack(Good()), "the example of its goal raised ValueError: bad")


def test_a_goal_that_nobody_has():
    only(check_attack(attack(requires=ThreatModel(goal="membershp", access="scores"))),
         "did you mean 'membership'")  # fmt: skip


LOSS = """
    import numpy as np
    from medleak.api import Attack, ThreatModel, task_of

    ACCESS = "scores"

    class Mine(Attack):
        "The loss."

        requires = ThreatModel(goal="membership", access={access})
        paper = "Me 2024"

        def __init__(self, *, power=1.0):
            self.power = power

        def incompatibilities(self, problem, knowledge):
            return [] if task_of(problem.task).one_class else ["one class per record"]

        def run(self, release, challenge):
            return release.scores(challenge.x)[np.arange(len(challenge)), challenge.y]
"""


def test_a_plugin_is_checked_by_its_yaml(plugin):
    block = {"name": "mine", "_target_": plugin("plain_loss", LOSS.format(access="'scores'"))}
    assert check_attack(block) == []
    assert check_attack({**block, "knowledge": {"budget": 500}}) == []
    only(check_attack({**block, "knowledge": {"budget": 499}}), "overdraw the budget of 499")
    only(check_attack({**block, "pwer": 2.0}), "did you mean 'power'")
    assert check_attack({**block, "power": 3.0, "knowledge": {"pool": "auxiliary"}}) == []


def test_attributes_that_list_cannot_read(plugin):
    only(check_attack({"_target_": plugin("computed", LOSS.format(access="ACCESS"))}),
         "`requires` is no literal")  # fmt: skip


def test_literals_that_change_at_run_time(plugin):
    source = LOSS.format(access="'scores'") + "\n    Mine.paper = 'Someone else 1999'\n"
    only(check_attack({"_target_": plugin("changed", source)}), "`paper` reads 'Me 2024'")

"""Every shipped attack is run on the examples of its goal: one test for each, so that they can be spread."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from medleak.config.instantiate import build, load
from medleak.goals.registry import goal_of
from medleak.testing import check_attack, not_exercised

FILES = sorted((Path(__file__).parents[2] / "conf" / "attack").glob("*.yaml"))
SHORTER = {"plg_mi": {"steps": 20}, "ked_mi": {"steps": 20}}
"""Attacks that train a generator for each model, and with what their parts are tried at each commit."""


def cases():
    for path in FILES:
        yield pytest.param(
            yaml.safe_load(path.read_text()),
            id=path.stem,
            marks=[pytest.mark.slow] if path.stem in SHORTER else [],
        )


@pytest.fixture
def counted(monkeypatch):
    """A function that counts the calls of an attack's `run`."""

    def watch(config):
        cls, calls = load(config["_target_"]), []
        run = cls.run

        def counting(self, release, challenge):
            calls.append(type(challenge))
            return run(self, release, challenge)

        monkeypatch.setattr(cls, "run", counting)
        return calls

    return watch


@pytest.mark.parametrize("config", list(cases()))
def test_every_shipped_attack_is_run_and_keeps_the_contract(config, counted):
    calls = counted(config)
    assert check_attack(config) == []
    assert not_exercised(config) == ""
    assert len(calls) >= 3  # a planted leak twice, and none


@pytest.mark.parametrize("name", SHORTER)
def test_a_costly_attack_answers_alike_twice_after_a_shorter_training(name):
    [path] = [path for path in FILES if path.stem == name]
    config = yaml.safe_load(path.read_text())
    config["prior"] |= SHORTER[name]
    config["descent"] |= {"iterations": 5}
    attack, answers = build(config), []
    for _ in range(2):
        example = goal_of(attack.requires.goal).example(attack, config["knowledge"], leak=True)
        release = example.release.granting(attack.requires.access)
        challenge = example.question.challenge
        answers.append(attack.execute(release, challenge, example.knowledge).reconstructions)
    assert answers[0].shape == challenge.shape
    assert np.array_equal(*answers)

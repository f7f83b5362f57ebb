"""Clients who crash, stall or lie are named, and the round goes on or fails clearly."""

import time

import numpy as np
import pytest
from small_federation import (
    federation,
)

from medleak.api import ConfigError, MedleakError
from medleak.defenses.train._federation import Federation, run


class Misbehaving(Federation):
    """Client 0 does something else in round 1."""

    def __init__(self, what, **plan):
        made = federation(**plan)
        self.__dict__.update(made.__dict__)
        self.what, self.before = what, {}

    def answer(self, module, round, client):
        message = super().answer(module, round, client)
        if client == 0 and round == 0:
            self.before = message
        if client == 0 and round == 1:
            return self.what(self, message)
        return message


def crash(_, message):
    raise RuntimeError("out of memory")


def stall(_, message):
    time.sleep(1.5)
    return message


def nan(_, message):
    message.update["bias"][0] = np.nan
    return message


def wrong_shape(_, message):
    message.update["bias"] = message.update["bias"][:1]
    return message


def replay(self, message):
    return self.before


def stale(self, message):
    message.update = self.before.update
    return message


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (crash, "crashed: RuntimeError: out of memory"),
        (stall, "stalled past its deadline of 1 s"),
        (nan, "sent NaN or infinity"),
        (wrong_shape, "sent arrays of the wrong names or shapes"),
        (replay, "replayed its message of round 0"),
        (stale, "sent the message of its last round again"),
    ],
)
def test_who_misbehaves_is_named_and_the_round_goes_on(what, told):
    facts = run(Misbehaving(what, deadline=1.0))
    assert facts["excluded"] == {f"client 0: {told}": 1}


def test_a_round_without_answers_fails_and_says_why():
    with pytest.raises(MedleakError, match=r"round 1: no client answered.*client 0: crashed"):
        run(Misbehaving(crash, n_clients=1))


def test_a_wrong_configuration_is_no_clients_crash():
    def wrong(_, message):
        raise ConfigError("this rule cannot train this network")

    with pytest.raises(ConfigError, match="cannot train"):
        run(Misbehaving(wrong))

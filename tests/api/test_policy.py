"""What the bench asks of a policy; one who changes nothing answers for every run without one."""

import numpy as np
import pytest

from medleak.api import (
    AdversaryPolicy,
    Challenge,
    ClientPolicy,
    PoisoningPolicy,
    Records,
    ServerPolicy,
)
from medleak.attacks.membership.curious_client import ClientSeat
from medleak.training.run_spec import RunSpec


def a_challenge():
    n = 6
    records = Records(np.arange(n)[:, None] * 1.0, np.zeros(n, int), np.arange(n))
    return Challenge(records, np.full(n, "natural"))


@pytest.mark.parametrize("policy", [AdversaryPolicy(), PoisoningPolicy(), ServerPolicy()])
def test_the_defaults_change_nothing(policy):
    challenge, trainer, member = a_challenge(), object(), np.arange(6) < 3
    assert policy.marked(challenge) is challenge
    same, records = policy.poison(trainer, challenge, member, seed=0)
    assert same is trainer
    np.testing.assert_array_equal(records.patients, [0, 1, 2])
    assert policy.observing_client is None
    assert (policy.exposes, policy.hides, policy.seen({})) == ((), {}, {})


def test_a_server_tampers_and_a_client_has_a_seat():
    server, seat = ServerPolicy(), ClientSeat(client=2)
    assert AdversaryPolicy().tampering is None
    assert server.tampering is server
    assert (seat.tampering, seat.observing_client) == (None, 2)
    assert tuple(ClientPolicy.exposes) == tuple(seat.exposes) == ("aggregate",)
    assert set(seat.hides) == {"updates"}


def test_a_run_without_a_policy_has_the_adversary_who_changes_nothing(toy_config):
    spec = RunSpec(toy_config()["target"], {}, None, "audit", 0)
    assert type(spec.adversary) is AdversaryPolicy
    assert spec.challenge is spec.experiment.challenge

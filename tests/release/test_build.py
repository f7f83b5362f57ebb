"""Which views of a run an adversary is given: what is made, what stages hide, and where it sits."""

import numpy as np
import pytest

from medleak.core.store import Store
from medleak.release.build import release_of
from medleak.training.pipeline import DefensePipeline, training_blocks
from medleak.training.run_spec import RunSpec

MODEL = {"labels", "scores", "weights"}
FEDERATED = {"_target_": "medleak.defenses.train.federated.Federated", "n_clients": 4}
SECURE = {"_target_": "medleak.defenses.aggregate.secure_aggregation.SecureAggregation"}
LABELS = {"_target_": "medleak.defenses.serve.label_only.LabelOnly"}
TOGETHER = {"train": FEDERATED, "aggregate": SECURE}
SEAT = {"_target_": "medleak.attacks.membership.curious_client.ClientSeat"}
CANARIES = {"_target_": "medleak.attacks.membership.dirac.DiracCanaries"}


@pytest.fixture
def release(tmp_path, toy_config):
    """The release of a run whose training is made up."""

    def opened(slots, policy=None, facts=None):
        target, store = toy_config()["target"], Store(tmp_path)
        spec = RunSpec(target, training_blocks(slots), None, "audit", 0, policy)
        arrays = {"weight": np.zeros((2, 40), np.float32), "bias": np.zeros(2, np.float32)}
        store.save("runs", spec.key, {"messages": [], **(facts or {})}, arrays)
        return release_of(spec, DefensePipeline(slots), store)

    return opened


@pytest.mark.parametrize(
    ("slots", "policy", "views"),
    [
        ({}, None, MODEL),
        ({"serve": LABELS}, None, {"labels"}),
        ({"train": FEDERATED}, None, MODEL | {"updates", "aggregate"}),
        (TOGETHER, None, MODEL | {"aggregate"}),
        ({"train": FEDERATED}, SEAT, MODEL | {"aggregate"}),
        (TOGETHER, SEAT, MODEL | {"aggregate"}),
        ({**TOGETHER, "serve": LABELS}, None, {"labels", "aggregate"}),
    ],
)
def test_views_are_what_is_made_less_what_is_hidden(release, slots, policy, views):
    assert set(release(slots, policy).views) == views


def test_hidden_views_say_why(release):
    masked, seat = release(TOGETHER).hidden, release({"train": FEDERATED}, SEAT).hidden
    assert "masked" in masked["updates"]
    assert seat["updates"] == "a client sees sums"
    assert release({}).hidden["records"] == "this release does not have it"


def test_what_a_policy_hears_is_a_view_of_its_own(release):
    told = {"dirac": {"patients": [1], "sums": [2.0]}}
    found = release({}, CANARIES, told)
    assert set(found.views) == MODEL | {"updates"}

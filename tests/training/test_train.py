"""What a run is made from, and that it is stored once."""

import numpy as np
import pytest

from medleak.api import MedleakError
from medleak.core.store import Store
from medleak.training.run_spec import RunSpec
from medleak.training.stored_model import StoredModel
from medleak.training.train import _prepared, train

NOTHING = {"_target_": "medleak.targets.no_training.NoTraining"}


@pytest.mark.parametrize("pool", ["audit", "auxiliary", "complement"])
def test_a_run_is_made_from_the_members_of_its_pool(toy_config, pool):
    spec = RunSpec(toy_config()["target"], {}, None, pool, 1)
    _, made, member = _prepared(spec, 0, "cpu")
    members = spec.records.take(spec.member)
    np.testing.assert_array_equal(made.records.x, members.x)
    np.testing.assert_array_equal(made.records.patients, members.patients)
    np.testing.assert_array_equal(member, spec.member)
    assert not made.artefacts


def test_stages_get_seed_and_device_and_each_run_its_own(toy_config, tmp_path):
    target = toy_config(recipe=NOTHING)["target"]
    slots = {"records": [{"_target_": "released.Noisy", "noise": 1.0}] * 2}
    spec = RunSpec(target, slots, None, "audit", 0)
    one, again, other = (_prepared(spec, seed, "cpu:0")[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.records.x, again.records.x)
    assert not np.array_equal(one.records.x, other.records.x)
    assert one.facts == {"sigma": 1.0, "device": "cpu:0"}
    noise = one.records.x - spec.records.take(spec.member).x
    assert 1.3 < noise.std() < 1.5  # two stages draw apart: the square root of two


def test_a_run_without_training_has_no_network(toy_config, tmp_path):
    store = Store(tmp_path)
    slots = {"records": {"_target_": "released.Noisy"}}
    spec = RunSpec(toy_config(recipe=NOTHING)["target"], slots, None, "audit", 0)
    assert train(spec, store) > 0
    assert train(spec, store) == 0.0
    with pytest.raises(MedleakError, match="trains no network"):
        StoredModel(spec, store).arrays()

"""What stands beside an attack: proofs of twins, kinds that it speaks of, adversaries who act."""

from types import SimpleNamespace

import pytest

from medleak import grid
from medleak.api import ConfigError
from medleak.cells import Cell
from medleak.controls import PROOF, TWIN_ERROR
from medleak.executors import SerialExecutor

METRICS = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}


@pytest.fixture
def rows(toy_config, tmp_path):
    def go(*configs):
        jobs = [SimpleNamespace(config=c, axes={}, overrides=()) for c in configs]
        places = {"out": tmp_path / "out", "store": tmp_path / "store"}
        plan = grid.plan(jobs, metrics=METRICS, name="g", **places)
        return grid.execute(plan, executor=SerialExecutor()).rows

    return go


def twin(**arguments):
    return {"serve": {"_target_": "toy.Twin", **arguments}}


def test_a_twin_is_proven_by_real_queries_and_their_cost_is_told(rows, toy_config):
    (row,) = rows(toy_config(defense=twin(error=TWIN_ERROR / 2)))
    assert (row.status, row.twin) == ("ok", True)
    assert row.controls["twin"]["n"] == min(PROOF, 40)
    assert row.cost["query_seconds"] == 2.0
    assert row.cost["query_bytes_in"] == 10
    assert row.cost["query_overhead"] == 1e4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"error": 2 * TWIN_ERROR}, "the plain twin is off by 0.02 from the ciphertexts"),
        ({"missing": True}, "the plain twin was not proven: the library is not installed"),
    ],
)
def test_an_unproven_twin_makes_the_row_invalid(rows, toy_config, arguments, told):
    (row,) = rows(toy_config(defense=twin(**arguments)))
    assert row.status == "invalid"
    assert told in row.reason


def test_a_plain_release_needs_no_proof(rows, toy_config):
    (row,) = rows(toy_config())
    assert "twin" not in row.controls
    assert not any(name.startswith("query_") for name in row.cost)


def test_an_attack_has_rows_for_its_kinds_only(rows, toy_config):
    split = {"n_members": 40, "canaries": {"mislabelled": 0.3}}
    every = rows(toy_config(split=split), toy_config("Natural", split=split))
    assert [(r.attack, r.records) for r in every] == [
        ("Confidence", "natural"),
        ("Confidence", "mislabelled"),
        ("Natural", "natural"),
    ]


def test_a_dishonest_server_needs_a_federation(rows, toy_config):
    nosy = toy_config(policy={"_target_": "toy.Nosy"})
    nosy["attack"]["name"] = "nosy"
    refused = next(r for r in rows(toy_config(), nosy) if r.attack == "nosy")
    assert refused.status == "not_applicable"
    assert refused.reason == "a dishonest server needs federated training"


def test_a_policy_is_part_of_the_runs_key(toy_config):
    nosy = toy_config(policy={"_target_": "toy.Nosy"})
    plain, watched = (Cell(config, METRICS).target_spec.key for config in (toy_config(), nosy))
    assert plain != watched
    with pytest.raises(ConfigError, match="is no AdversaryPolicy"):
        _ = Cell(toy_config(policy={"_target_": "toy.Twin"}), METRICS).target_spec.adversary

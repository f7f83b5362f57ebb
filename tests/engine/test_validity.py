"""What stands beside an attack: proofs of twins, kinds that it speaks of, adversaries who act."""

import numpy as np
import pytest

from medleak.api import OWN, ConfigError
from medleak.config.compose import Job
from medleak.engine import plan as grid
from medleak.engine import scheduler
from medleak.engine.cell import Cell
from medleak.engine.executors import SerialExecutor
from medleak.engine.validity import PROOF, SURROGATE_ERROR

METRICS = {"auc": {"_target_": "medleak.metrics.membership.AUC"}}


@pytest.fixture
def rows(toy_config, tmp_path):
    def go(*configs):
        jobs = [Job((), {}, c) for c in configs]
        places = {"out": tmp_path / "out", "store": tmp_path / "store"}
        plan = grid.plan(jobs, metrics=METRICS, name="g", **places)
        return scheduler.execute(plan, executor=SerialExecutor()).rows

    return go


def plaintext_surrogate(**arguments):
    return {"serve": {"_target_": "toy.Twin", **arguments}}


def test_a_twin_is_proven_by_real_queries_and_their_cost_is_told(rows, toy_config):
    (row,) = rows(toy_config(defense=plaintext_surrogate(error=SURROGATE_ERROR / 2)))
    assert (row.status, row.plaintext_surrogate) == ("ok", True)
    assert row.controls["twin"]["n"] == min(PROOF, 40)
    assert row.cost["query_seconds"] == 2.0
    assert row.cost["query_bytes_in"] == 10
    assert row.cost["query_overhead"] == 1e4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            {"error": 2 * SURROGATE_ERROR},
            "the plaintext surrogate is off by 0.02 from the ciphertexts",
        ),
        ({"missing": True}, "the plaintext surrogate was not proven: the library is not installed"),
    ],
)
def test_an_unproven_twin_makes_the_row_invalid(rows, toy_config, arguments, told):
    (row,) = rows(toy_config(defense=plaintext_surrogate(**arguments)))
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
    plain, observed_by = (Cell(config, METRICS).target_spec.key for config in (toy_config(), nosy))
    assert plain != observed_by
    with pytest.raises(ConfigError, match="is no AdversaryPolicy"):
        _ = Cell(toy_config(policy={"_target_": "toy.Twin"}), METRICS).target_spec.adversary


# --------------------------------------------------------------------------- a client who looks on


SUMS = "medleak.defenses.aggregate.secure_aggregation.SecureAggregation"


def curious(toy_config, client=0, **plan):
    """A cell of the curious client against a federation that masks its messages."""
    plan = {"n_clients": 4, "rounds": 6, "observe": 6, "batch_size": 2, "momentum": 0.0} | plan
    federated = {"_target_": "medleak.defenses.train.federated.Federated", **plan}
    config = toy_config(
        defense={"train": federated, "aggregate": {"_target_": SUMS}},
        policy={
            "_target_": "medleak.attacks.membership.curious_client.ClientSeat",
            "client": client,
        },
    )
    attack = {"name": "curious_client", "n_reference": 10}
    target = "medleak.attacks.membership.curious_client.CuriousClient"
    config["attack"] |= attack | {"_target_": target}
    config["target"]["recipe"] = {"_target_": "medleak.targets.recipes.SGD"}
    return config


def test_a_client_finds_patients_of_others_behind_masks(rows, toy_config):
    (row,) = rows(curious(toy_config))
    assert (row.status, row.adversary) == ("ok", "honest-but-curious client")
    assert row.records == "natural"  # its own are not asked about
    assert row.leakage["auc"].n < 80
    assert row.leakage["auc"].low > 0.5
    binding = [one for one in row.guarantees if "client" in one["adversaries"]]
    assert not binding  # masks are meant for the server


def test_its_own_patients_are_a_kind_apart_and_the_same_for_every_seed(toy_config):
    cells = [Cell(curious(toy_config) | {"seed": seed}, METRICS) for seed in (0, 1)]
    kinds = [cell.target_spec.challenge.kind for cell in cells]
    assert set(kinds[0]) == {"natural", OWN}
    assert np.array_equal(*kinds)
    other = Cell(curious(toy_config, client=1), METRICS).target_spec.challenge.kind
    assert not ((other == OWN) & (kinds[0] == OWN)).any()


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ({"participation": 0.8}, "sits out misses models"),
        ({"client": 9}, "client 9 is not one of 4"),
    ],
)
def test_where_no_client_can_look_on(rows, toy_config, plan, reason):
    every = rows(toy_config(), curious(toy_config, **plan))
    refused = next(row for row in every if row.attack == "curious_client")
    assert refused.status == "not_applicable"
    assert reason in refused.reason

"""Files that a configuration names count by content, and draws by nothing that keys are made of."""

import os

import pytest

from medleak.core import files, keys
from medleak.core.files import contents, stamps
from medleak.data import experiment as games
from medleak.engine.cell import Cell
from medleak.training.run_spec import RunSpec


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")
    return path


def replace_file(path, data):
    path.write_bytes(data)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 10**9))


def test_contents_are_found_anywhere_and_change_with_the_file(weights, monkeypatch):
    config = {"a": [{"weights": str(weights)}], "b": "no file", "c": 3, "d": "x" * 5000, "e": "\0"}
    first = contents(config)
    assert len(first) == 1
    replace_file(weights, b"two")
    assert contents(config) != first
    replace_file(weights, b"one")
    assert contents(config) == first
    monkeypatch.setenv(files.VARIABLE, str(weights.parent))
    assert contents({"weights": "weights.bin"}) == first


def test_a_replaced_file_changes_the_keys_of_run_and_cell_and_no_draw(toy_config, weights):
    def made():
        config = toy_config()
        config["target"]["recipe"]["note"] = str(weights)
        spec = RunSpec(config["target"], {}, None, "audit", 0)
        return spec.key, spec.lineage, spec.recipe_lineage

    first = made()
    replace_file(weights, b"two")
    second = made()
    assert first[0] != second[0]
    assert first[1:] == second[1:]
    attacks = []
    for data in (b"one", b"three"):
        replace_file(weights, data)
        attacks.append(contents(Cell(toy_config(note=str(weights)), {}).mounted))
    assert attacks[0] != attacks[1]


def test_a_replaced_table_is_loaded_anew(toy_config, tmp_path, monkeypatch):
    table = tmp_path / "table.csv"
    table.write_text("one")
    block = {"_target_": "toy.Blobs", "root": str(tmp_path)}
    seen = []

    def build(config, **rest):
        seen.append(table.read_text())
        raise LookupError

    monkeypatch.setattr(games, "build", build)
    target = {"dataset": block, "split": {"n_members": 4}}
    for text in ("one", "other"):
        replace_file(table, text.encode())
        with pytest.raises(LookupError):
            games.load_experiment_data(target, None)
    assert seen == ["one", "other"]
    assert stamps(block) == stamps(block)


def test_seeds_do_not_change_with_the_layout_of_keys(monkeypatch):
    before = keys.digest("x"), keys.seed_for("run", 1), keys.lasting_digest("x")
    monkeypatch.setattr(keys, "KEY_VERSION", keys.KEY_VERSION + 1)
    after = keys.digest("x"), keys.seed_for("run", 1), keys.lasting_digest("x")
    assert before[0] != after[0]
    assert before[1:] == after[1:]
    assert keys.seed_for("run", "a", 1) == 6331874402751267688


def test_fields_of_a_setting_count_by_name(toy_config, monkeypatch):
    spec = RunSpec(toy_config()["target"], {}, None, "audit", 0)
    seen = []
    monkeypatch.setattr(
        "medleak.training.run_spec.digest", lambda value: seen.append(value) or "key"
    )
    assert spec.key == "key"
    problem = next(value["problem"] for value in seen if "problem" in value)
    assert problem["n_records"] == spec.experiment.problem.n_records
    assert tuple(problem["in_shape"]) == spec.experiment.problem.in_shape

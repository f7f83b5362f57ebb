"""Saved grids, budgets, and the Python API over them."""

import subprocess
import sys

import pytest
import yaml

from medleak.api import ConfigError
from medleak.config import plugins
from medleak.config.saved_grids import Part, duration, gather, read_grid
from medleak.engine.session import prepare


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A saved grid `tiny` in a plugin folder."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    folder = tmp_path / "conf" / "grid"
    folder.mkdir(parents=True)
    grid = {"name": "tiny", "overrides": ["attack=yeom", "seed=0,1", "n_shadows=8"], "budget": "2m"}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(grid))
    plugins.add_folders([tmp_path])
    return folder


@pytest.mark.parametrize("words", [["tiny"], ["grid=tiny"]])
def test_a_saved_grid_stands_for_its_overrides(saved, words):
    request = gather(words)
    assert request.parts == (Part(("attack=yeom", "seed=0,1", "n_shadows=8")),)
    assert (request.name, request.budget) == ("tiny", 120.0)


def test_further_overrides_win_and_take_the_name_away(saved):
    request = gather(["tiny", "seed=5", "+attack.x=1"])
    assert request.parts == (Part(("attack=yeom", "seed=5", "n_shadows=8", "+attack.x=1")),)
    assert request.name is None


def test_how_it_runs_does_not_change_the_name(saved):
    assert gather(["tiny", "executor=serial", "runtime.device=cpu"]).name == "tiny"


SUM = """
overrides: [target=phantom_cnn, seed=0]
parts:
  - [attack=yeom, "defense=none,label_only"]
  - [attack=attack_p]
  - {overrides: [attack=lira, n_shadows=4], not_run: too dear}
"""


@pytest.fixture
def several(saved):
    """A saved grid `sum` of three products, the last of which is only listed."""
    (saved / "sum.yaml").write_text(SUM)


def test_a_grid_may_be_a_sum_of_products(several):
    request = gather(["sum", "seed=3"])
    assert request.parts == (
        Part(("target=phantom_cnn", "seed=3", "attack=yeom", "defense=none,label_only")),
        Part(("target=phantom_cnn", "seed=3", "attack=attack_p")),
        Part(("target=phantom_cnn", "seed=3", "attack=lira", "n_shadows=4"), "too dear"),
    )


def test_what_a_grid_lists_without_running_says_why(several, tmp_path):
    plan = prepare(["sum"], out=tmp_path / "grids", store=tmp_path / "store").plan
    assert [cell.coordinates["attack"] for cell in plan.wanted()] == ["yeom", "attack_p"]
    assert len(plan.missing_runs()) == 1  # the target alone: no shadows for what is not run
    told = {(row.attack, row.defense): (row.status, row.reason) for row in plan.rows()}
    assert told["lira", "none"] == ("not_run", "too dear")
    assert told["yeom", "none"] == ("not_run", "not measured yet")
    assert told["yeom", "label_only"][0] == "not_applicable"
    words = plan.describe()
    assert "listed, not run    1" in words
    assert "1 x too dear" in words


def test_a_part_without_overrides_is_refused(saved):
    (saved / "odd.yaml").write_text("overrides: []\nparts: [{not_run: why}]")
    with pytest.raises(ConfigError, match=r"odd\.yaml is no grid"):
        read_grid("odd")


def test_faults_of_saved_grids(saved):
    with pytest.raises(ConfigError, match="unknown saved grid 'tinny': did you mean 'tiny'"):
        gather(["tinny"])
    with pytest.raises(ConfigError, match="one saved grid at a time: tiny, demo"):
        gather(["tiny", "grid=demo"])
    for name, text in {"empty": "", "list": "[1]", "broken": "a: [", "none": "name: none"}.items():
        (saved / f"{name}.yaml").write_text(text)
        with pytest.raises(ConfigError, match=rf"{name}\.yaml is no grid"):
            read_grid(name)


@pytest.mark.parametrize("name", sorted(plugins.options("grid")))
def test_shipped_grids_read_and_have_a_summary(name):
    grid = read_grid(name)
    assert grid.summary
    words = [word for part in grid.parts for word in (*grid.overrides, *part.overrides)]
    assert words
    assert all("=" in word for word in words)


def test_durations():
    texts = {"90": 90, "90s": 90, "30m": 1800, "1h30m": 5400, "1.5h": 5400, "0.5s": 0.5}
    assert {text: duration(text) for text in texts} == texts
    for text in ("", "soon", "3d", "m", "-5m", "1h 30m", "0", "0m"):
        with pytest.raises(ConfigError, match="budget"):
            duration(text)


def test_the_package_costs_nothing_until_it_is_used():
    code = (
        "import sys, medleak; loaded = {'numpy', 'torch', 'hydra', 'yaml'} & set(sys.modules);"
        "assert not loaded, loaded; assert callable(medleak.plan) and callable(medleak.run);"
        "assert 'torch' not in sys.modules and 'hydra' not in sys.modules;"
        "assert medleak.report.__name__ == 'medleak.report'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import medleak

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        medleak.nothing  # noqa: B018

"""A goal that only a plugin has, installed or in a folder: from its YAML to the rows, the tables and the page."""

import json
import shutil
from pathlib import Path

import pytest

from medleak import cli
from medleak.config import compose, plugins
from medleak.config import instantiate as components
from medleak.goals.registry import goal_of, known_goals
from medleak.testing import check_attack

EXAMPLE = Path(__file__).parents[1] / "plugin_example" / "medleak_example"
GRID = ["target=example_net", "defense=none,example_cap", "attack=example_mean_answer"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The example as a plugin folder: its modules, and conf/ beside them."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.setattr(components.sys, "path", [*components.sys.path])
    monkeypatch.setattr(components, "_roots", set(components._roots))
    components._source.cache_clear()  # another test's folder has modules of the same names
    place = tmp_path / "plugin"
    shutil.copytree(EXAMPLE, place / EXAMPLE.name, ignore=shutil.ignore_patterns("conf", "__*"))
    (place / EXAMPLE.name / "__init__.py").touch()
    (place / EXAMPLE.name / "goals" / "__init__.py").touch()
    shutil.copytree(EXAMPLE / "conf", place / "conf")
    monkeypatch.chdir(tmp_path)
    yield place
    components._source.cache_clear()
    for name in [name for name in components.sys.modules if name.startswith(EXAMPLE.name)]:
        del components.sys.modules[name]


@pytest.fixture
def medleak(folder, capsys):
    """A function that runs the command with the folder, and returns what it printed."""

    def run(*words):
        code = cli.main(["--plugins", str(folder), *words])
        printed = capsys.readouterr()
        assert code == 0, printed.out + printed.err
        return printed.out

    return run


@pytest.fixture
def rows(medleak, tmp_path):
    """A function that runs the grid and returns its rows, the folder and what was printed."""

    def run(name="goal"):
        printed = medleak("grid", *GRID, "executor=serial", "--name", name)
        place = tmp_path / "results" / "grids" / name
        return json.loads((place / "rows.json").read_text()), place, printed

    return run


def test_a_goal_of_a_folder_is_known_while_the_folder_is(folder, monkeypatch):
    plugins.add_folders([folder])
    assert "example_shares" in known_goals()
    assert goal_of("example_shares").name == "example_shares"
    monkeypatch.setenv(plugins.VARIABLE, "")
    assert "example_shares" not in known_goals()


def test_it_is_listed_and_its_attack_checked(medleak):
    listed = medleak("list")
    assert "  example_shares " in listed
    assert "  example_mean_answer " in listed
    assert medleak("check", "attack=example_mean_answer") == "attack=example_mean_answer: ok\n"


def test_an_attack_of_the_goal_that_raises_or_finds_nothing_fails(folder):
    compose.initialise([folder])
    [job] = compose.expand(["attack=example_mean_answer"])
    cls = components.load(job.config["attack"]["_target_"])
    assert check_attack(job.config["attack"]) == []

    def failing(self, release, challenge):
        raise ValueError("bad")

    for run, words in ((failing, "run raised ValueError: bad"), (even, "positive control")):
        variant = type("Variant", (cls,), {"run": run, "__doc__": cls.__doc__})()
        [problem] = check_attack(variant)
        assert words in problem


def even(self, release, challenge):
    return self._answers.mean() + 0 * self._answers[0]


def test_a_grid_measures_it_beside_its_baselines(rows):
    found, _, _ = rows()
    assert {row["defense"]: row["status"] for row in found} == {"none": "ok", "example_cap": "ok"}
    for row in found:
        assert (row["goal"], row["records"], row["unit"]) == ("example_shares", "classes", "class")
        assert list(row["leakage"]) == ["example_share_error"]
        assert set(row["baselines"]) == {"auxiliary patients", "even shares"}
        error = row["leakage"]["example_share_error"]["value"]
        others = [one["example_share_error"]["value"] for one in row["baselines"].values()]
        assert 0 <= error < 1
        excess = row["excess"]["example_share_error"]["value"]
        assert excess == pytest.approx(error - min(others))
        assert row["provenance"]["plugins"]


def test_the_terminal_and_the_page_show_its_figures(rows):
    found, place, printed = rows()
    value = found[0]["leakage"]["example_share_error"]["value"]
    page = (place / "report.html").read_text()
    assert f"{value:.3f}" in printed
    assert "example_mean_answer" in printed
    assert f"{value:.3f}" in page
    assert "example share error" in page


def test_the_explanation_tells_its_figure(rows, medleak):
    [first, _], *_ = rows()
    value = first["leakage"]["example_share_error"]["value"]
    said = medleak("explain", first["key"])
    assert "attack=example_mean_answer" in said
    assert f"{value:.3f}" in said


def test_an_edited_goal_is_measured_anew(rows, folder):
    found, *_ = rows()
    module = folder / EXAMPLE.name / "goals" / "class_shares.py"
    module.write_text(module.read_text() + "\n# edited\n")
    again, *_ = rows("edited")
    assert {row["cell"] for row in found}.isdisjoint(row["cell"] for row in again)

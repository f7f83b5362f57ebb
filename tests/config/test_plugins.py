"""Plugins: an installed package and a folder, from their YAML to the tables."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medleak.api import ConfigError
from medleak.config import instantiate as components
from medleak.config import plugins

EXAMPLE = Path(__file__).parents[1] / "plugin_example"
GRID = ["target=example_net", "defense=none,example_cap", "attack=yeom,example_confidence"]
YAML = "summary: s\n_target_: medleak.attacks.membership.yeom.Yeom\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The example, installed by pip into a folder of its own (from a copy: a build leaves traces)."""
    source, place = tmp_path_factory.mktemp("source") / "example", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLE, source)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--target", str(place), str(source)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def medleak(installed, tmp_path):
    """A function that runs the command where the example is installed, in a folder of its own."""

    def run(*words, **variables):
        environment = {**os.environ, "PYTHONPATH": str(installed), **variables}
        command = [sys.executable, "-m", "medleak.cli", *words]
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment
        )

    return run


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A function that makes a plugin folder with one attack of the given name."""
    monkeypatch.setenv(plugins.VARIABLE, "")

    def make(name, text=YAML, place="plugins"):
        conf = tmp_path / place / "conf" / "attack"
        conf.mkdir(parents=True, exist_ok=True)
        (conf / f"{name}.yaml").write_text(text)
        return tmp_path / place

    return make


def test_the_folder_of_what_was_chosen_is_named(folder):
    place = folder("mine_alone")
    folder("not_asked_for", place="elsewhere")
    plugins.add_folders([place, place.parent / "elsewhere"])
    chosen = [("attack", "yeom"), ("attack", "mine_alone"), ("metric", "auc")]
    assert plugins.folders_of(chosen) == [str(place)]


def test_an_installed_plugin_is_listed_with_its_source(medleak):
    done = medleak("list")
    assert done.returncode == 0, done.stderr
    names = ("confidence", "mean_answer", "cap", "net", "pooled", "gap", "share_error", "shares")
    for name in names:
        assert f"  example_{name} " in done.stdout
    assert done.stdout.count("plugin example\n") == len(names)
    assert "Salem et al. 2019" in done.stdout
    assert "serve: Cap" in done.stdout


def test_an_installed_plugin_keeps_the_contract(medleak):
    attacks = ["example_confidence", "example_mean_answer"]
    names = ["defense=example_cap", "target=example_net", "model=example_pooled"]
    names += ["metric=example_gap", *(f"attack={name}" for name in attacks)]
    done = medleak("check", *names[:4], f"attack={','.join(attacks)}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(done.stdout.split("\n")) == ["", *sorted(f"{name}: ok" for name in names)]


def test_completion_and_messages_know_an_installed_plugin(medleak):
    assert medleak("completion", "--complete", "grid", "attack=ex").stdout == (
        "attack=example_confidence\nattack=example_mean_answer\n"
    )
    done = medleak("grid", "attack=exampel_confidence")
    assert done.returncode == 2
    assert "did you mean 'example_confidence'?" in done.stderr
    done = medleak("doctor")
    assert "example (attack, defense, goal, metric, model, target)" in done.stdout


def test_scores_alone_bring_metrics_tables_and_a_report(medleak, tmp_path):
    """A grid over the plugin, in a worker process, issued twice."""
    words = ["grid", *GRID, "executor.jobs=1", "--name", "example"]
    done = medleak(*words)
    assert done.returncode == 0, done.stderr
    place = tmp_path / "results" / "grids" / "example"
    rows = json.loads((place / "rows.json").read_text())
    assert {(row["defense"], row["attack"]) for row in rows} == {
        (defense, attack)
        for defense in ("none", "example_cap")
        for attack in ("yeom", "example_confidence")
    }
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert {"auc", "tpr_at_10fpr", "roc", "example_gap"} <= row["leakage"].keys()
        auc = row["leakage"]["auc"]
        assert auc["low"] <= auc["value"] <= auc["high"]
        assert "executor.jobs=1" not in row["provenance"]["overrides"]
    # The loss threshold and the log-probability of the label order the records alike.
    by_attack = [{}, {}]
    for row in rows:
        side = by_attack[row["attack"] == "yeom"]
        side[row["defense"], row["records"], row["unit"]] = row["leakage"]["auc"]["value"]
    assert by_attack[0] == pytest.approx(by_attack[1])
    page = place / "report.html"
    drawn = page.read_bytes()
    assert b"example_confidence" in drawn

    again = medleak(*words)
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert json.loads((place / "rows.json").read_text()) == rows
    assert page.read_bytes() == drawn

    done = medleak("explain", rows[0]["key"])
    assert f"attack={rows[0]['attack']}" in done.stdout
    done = medleak("grid", "target=example_net", "--name", "example")
    assert done.returncode == 2
    assert "holds another grid" in done.stderr


def test_the_python_api_mirrors_the_command_line(installed, tmp_path):
    code = (
        "import medleak\n"
        f"words = {[*GRID, 'executor=serial']!r}\n"
        "plan = medleak.plan(*words, name='api')\n"
        "assert len(plan.cells) == 4 and 'cells' in plan.describe()\n"
        "frame = medleak.run(*words, name='api').frame\n"
        "assert set(frame.attack) == {'yeom', 'example_confidence'}\n"
        "assert frame.auc.notna().any() and frame.example_gap.notna().any()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr


def test_a_dry_run_trains_and_writes_nothing_but_costs(medleak, tmp_path):
    done = medleak("grid", *GRID, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "4 cells" in done.stdout
    assert not (tmp_path / "results" / "grids").exists()
    assert not (tmp_path / "results" / "store" / "runs").exists()


def test_a_folder_is_a_plugin(medleak, folder):
    place = folder("from_a_folder", "summary: s\n_target_: folder_plugin.Mine\n")
    (place / "folder_plugin.py").write_text(
        "from medleak.attacks.membership.yeom import Yeom\n\n\n"
        'class Mine(Yeom):\n    """A loss threshold by another name."""\n\n'
        "    requires = Yeom.requires\n    paper = Yeom.paper\n"
    )
    words = ["run", "target=example_net", "attack=from_a_folder", "executor=serial"]
    done = medleak("--plugins", str(place), *words)
    assert done.returncode == 0, done.stderr
    assert "from_a_folder" in done.stdout
    done = medleak("list", "attacks", **{plugins.VARIABLE: str(place)})
    assert "from_a_folder" in done.stdout
    assert "plugin plugins" in done.stdout
    assert "unknown attack 'from_a_folder'" in medleak(*words).stderr


def test_a_registered_package_that_is_gone_is_named(medleak, installed, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(installed, site)
    shutil.rmtree(site / "medleak_example" / "conf")
    done = medleak("list", PYTHONPATH=str(site))
    assert (done.returncode, done.stderr) == (
        2, "medleak: plugin 'example': package 'medleak_example' has no folder conf/\n",
    )  # fmt: skip
    shutil.rmtree(site / "medleak_example")
    done = medleak("list", PYTHONPATH=str(site))
    assert done.returncode == 2
    assert "names package 'medleak_example', which cannot be found" in done.stderr


def test_folders_that_are_no_plugins(tmp_path, monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    with pytest.raises(ConfigError, match="does not exist"):
        plugins.add_folders([tmp_path / "gone"])
    monkeypatch.setenv(plugins.VARIABLE, "")
    with pytest.raises(ConfigError, match="has no folder conf/"):
        plugins.add_folders([tmp_path])


def test_folders_add_up_and_are_registered_once(folder, monkeypatch):
    one, two = folder("first", place="one"), folder("second", place="two")
    monkeypatch.setenv(plugins.VARIABLE, str(one))
    plugins.add_folders([two, one, two])
    names = [source.name for source in plugins.sources() if source.folder]
    assert names == ["one", "two"]
    assert {"first", "second", "yeom"} <= plugins.options("attack").keys()
    assert plugins.options("attack")["second"].source == "two"


def test_a_name_of_another_plugin_is_not_replaced_in_silence(folder):
    plugins.add_folders([folder("same", place="one"), folder("same", place="two")])
    with pytest.raises(ConfigError, match="attack 'same' is offered twice: by one and by two"):
        plugins.options("attack")


def test_only_registered_code_may_be_named(folder, tmp_path):
    place = folder("here")
    (place / "registered_module.py").write_text("class A: ...\n")
    with pytest.raises(ConfigError, match="outside medleak and its plugins"):
        components.static("registered_module.A")
    plugins.add_folders([place])
    plugins.enable()
    assert components.static("registered_module.A").file == place / "registered_module.py"

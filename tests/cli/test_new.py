"""Whatever `medleak new` writes passes its check at once, and so does the test that it writes."""

import subprocess
import sys

import pytest

from medleak import cli
from medleak.api import SLOTS
from medleak.cli.arguments import NEW
from medleak.cli.new import TEMPLATES
from medleak.config import plugins

GOALS = ("membership", "reconstruction", "inversion", "attribute", "property")
WORDS = {
    "own_attack": ["attack"],
    "own_defense": ["defense"],
    "own_dataset": ["dataset"],
    "own_model": ["model"],
    "own_recipe": ["recipe"],
    "own_metric": ["metric"],
    "own_goal": ["goal"],
    **{f"own_{goal}_attack": ["attack", "--goal", goal] for goal in GOALS},
    **{f"own_{goal}_metric": ["metric", "--goal", goal] for goal in GOALS},
    **{f"own_{slot}_defense": ["defense", "--slot", slot] for slot in SLOTS},
}


@pytest.fixture(scope="module")
def tested(tmp_path_factory):
    """What pytest says in a folder with one plugin of each sort."""
    folder = tmp_path_factory.mktemp("plugins")
    for name, (kind, *more) in WORDS.items():
        assert cli.main(["new", kind, name, *more, "--dir", str(folder)]) == 0
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return folder, done.stdout


@pytest.mark.parametrize("name", WORDS)
def test_a_new_plugin_passes_its_check_at_once(tested, name):
    _, text = tested
    assert f"test_{name}.py::test_contract PASSED" in text, text


def test_every_template_is_tried():
    kinds = {path.name for path in TEMPLATES.iterdir() if path.is_dir()} - {"__pycache__"}
    assert kinds == set(NEW)
    tried = {(kind, *more[1:]) for kind, *more in WORDS.values()}
    for path in TEMPLATES.glob("*/*.py"):
        kind = path.parent.name
        assert (kind, path.stem) in tried or ((kind,) in tried and path.stem == kind)


def test_what_is_written_holds_no_placeholder(tested):
    folder, _ = tested
    written = [*folder.glob("*.py"), *folder.glob("conf/*/*.yaml")]
    assert len(written) == 3 * len(WORDS) + 1  # a goal brings an attack
    for path in written:
        text = path.read_text()
        assert not [
            w for w in ("plugin_name", "plugin_kind", "PluginName", "Plugin title") if w in text
        ]


@pytest.fixture
def run(tested, tmp_path, monkeypatch):
    """A function that measures a grid with the new plugins, and returns its rows."""
    folder, _ = tested
    monkeypatch.setenv(plugins.VARIABLE, "")

    def measured(*overrides):
        import medleak

        places = {"out": tmp_path / "out", "store": tmp_path / "store", "plugins": [folder]}
        return medleak.run(*overrides, "executor=serial", **places).rows

    return measured


def test_new_parts_and_metrics_are_measured_together(run):
    rows = run(
        "dataset=own_dataset", "model=own_model", "recipe=own_recipe", "recipe.steps=3",
        "defense=own_defense,own_train_defense,own_records_defense", "attack=own_attack",
        "metrics=[auc,own_metric]", "target=phantom_mlp",
    )  # fmt: skip
    by_defense = {row.defense: row for row in rows}
    assert by_defense["own_train_defense"].status == "not_applicable"
    for name in ("own_defense", "own_records_defense"):
        assert by_defense[name].status in ("ok", "invalid"), by_defense[name].reason
        assert 0 <= by_defense[name].leakage["own_metric"].value <= 1
    assert by_defense["own_defense"].extra["dataset"] == "own_dataset"

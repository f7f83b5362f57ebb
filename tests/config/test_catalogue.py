"""The catalogue is what the components say of themselves, read without importing them."""

import subprocess
import sys

import pytest

from medleak.config import plugins
from medleak.config.catalogue import GROUPS, entries
from medleak.config.instantiate import load


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")


@pytest.mark.parametrize("group", GROUPS)
def test_everything_shipped_can_be_listed(group):
    found = entries(group)
    assert [e.name for e in found] == sorted(e.name for e in found)
    assert found
    for entry in found:
        assert not entry.problem, entry
        assert entry.summary, entry
        assert "\n" not in entry.summary
        assert (entry.group, entry.file.stem, entry.source) == (group, entry.name, "built in")


def test_attacks_say_what_their_classes_say():
    import yaml

    for entry in entries("attack"):
        cls = load(yaml.safe_load(entry.file.read_text())["_target_"])
        assert (entry.threat, entry.paper) == (cls.requires, cls.paper)
        assert f"sees {cls.requires.access}" in entry.access


def test_shadows_are_told_as_the_yaml_grants_them():
    found = {entry.name: entry for entry in entries("attack")}
    assert "shadows" not in found["yeom"].access
    assert "shadows (audit)" in found["lira"].access


def test_defenses_name_their_slots():
    slots = {entry.name: entry.slots for entry in entries("defense")}
    assert slots["none"] == {}


def test_what_is_broken_is_listed_with_its_problem(tmp_path):
    texts = {
        "unreadable": "name: [",
        "empty": "",
        "nowhere": "_target_: medleak.attacks.nowhere.Nothing",
        "outside": "_target_: os.path.join",
        "classless": "_target_: medleak.attacks.membership.yeom.Nothing",
        "sound": "summary: fine\n_target_: medleak.attacks.membership.yeom.Yeom",
    }
    folder = tmp_path / "conf" / "attack"
    folder.mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    plugins.add_folders([tmp_path])
    found = {entry.name: entry for entry in entries("attack") if entry.name in texts}
    assert found.keys() == texts.keys()
    assert [name for name, entry in found.items() if not entry.problem] == ["sound"]
    assert "outside medleak and its plugins" in found["outside"].problem
    assert found["sound"].source == tmp_path.name


def test_listing_imports_neither_torch_nor_hydra():
    code = (
        "import sys; from medleak.cli import main; assert main(['list']) == 0;"
        "loaded = {'torch', 'hydra', 'omegaconf', 'scipy', 'sklearn', 'pandas'} & set(sys.modules);"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Carlini et al. 2022" in done.stdout

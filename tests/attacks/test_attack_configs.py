from pathlib import Path

import pytest
import yaml

from medleak.config.instantiate import static

FOLDER = Path(__file__).parents[2] / "conf" / "attack"
FILES = sorted(FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_shipped_attack_says_its_name_and_what_it_does(path):
    config = yaml.safe_load(path.read_text())
    assert config["name"] == path.stem
    assert config["summary"]


def test_every_attack_class_has_a_yaml():
    named = {yaml.safe_load(p.read_text())["_target_"].rpartition(".")[0] for p in FILES}
    modules = {
        f"medleak.attacks.{p.parent.name}.{p.stem}"
        for p in (FOLDER.parents[1] / "attacks").glob("*/[a-z]*.py")
    }
    assert modules == named
    assert all(static(yaml.safe_load(p.read_text())["_target_"]).requires for p in FILES)

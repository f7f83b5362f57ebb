"""Every shipped defense builds, fits its slot and answers for a setting."""

from pathlib import Path

import pytest
import yaml

import medleak.conf
from medleak.api import SLOTS, ProblemSpec
from medleak.config.instantiate import build, static
from medleak.targets.recipes import SGD
from medleak.training.pipeline import stage_blocks

FOLDER = Path(medleak.conf.__file__).parent / "defense"
FILES = sorted(FOLDER.glob("*.yaml"))
PROBLEM = ProblemSpec(1000, 1000, 1, (1, 28, 28), 2)


def blocks(path):
    slots = yaml.safe_load(path.read_text())["slots"]
    return [(slot, block) for slot, held in slots.items() for block in stage_blocks(held)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_defense_builds_in_its_slot_without_refusals(path):
    config = yaml.safe_load(path.read_text())
    assert config["name"] == path.stem
    assert "\n" not in config["summary"]
    for n in (1000, 250):
        trainer, problem = SGD(), ProblemSpec(n, n, 1, (1, 28, 28), 2)
        for slot, block in blocks(path):
            defense = build(block)
            assert slot in SLOTS
            assert defense.slot == slot
            assert static(block["_target_"]).literals.get("slot", slot) == slot
            assert defense.invalid_parameters() == []
            assert defense.incompatibilities(problem, trainer) == []
            assert type(defense)(**vars(defense)).__dict__ == vars(defense)
            if slot == "train":
                trainer = defense.apply(trainer, problem=problem)


def test_no_file_is_missing():
    assert {"none", "dp_sgd", "dp_sgd_eps1", "dp_sgd_eps8", "label_only"} <= {p.stem for p in FILES}

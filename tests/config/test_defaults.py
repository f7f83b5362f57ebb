"""A component built in Python is what the YAML of the same name builds."""

import inspect
import re
from pathlib import Path

import pytest
import yaml

from medleak.config.instantiate import RESERVED, load

CONF = Path(__file__).parents[2] / "conf"
DELIBERATE = {
    "plg_mi": {"crops"},  # an object, which a signature cannot hold
    "ppa": {"crops"},
    # What was tuned for the shipped targets, or has to be chosen.
    "dp_sgd": {"noise_multiplier", "sampling_rate", "epochs", "optimizer", "lr", "momentum",
               "weight_decay", "schedule", "trials"},
    "pate": {"epsilon", "teachers"},
}  # fmt: skip


def blocks(value):
    if isinstance(value, dict):
        if "_target_" in value:
            yield value
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from blocks(inner)


def names_of(target):
    """What the plain YAML of a class is called: as its module, or as the class in snake case."""
    module, _, name = target.rpartition(".")
    return module.rpartition(".")[2], re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def plain(value):
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


FILES = sorted(
    path for group in ("attack", "defense", "metric") for path in (CONF / group).glob("*.yaml")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_defaults_agree_with_the_plain_yaml(path):
    differing = set()
    for block in blocks(yaml.safe_load(path.read_text())):
        if path.stem not in names_of(block["_target_"]):
            continue
        parameters = inspect.signature(load(block["_target_"])).parameters
        for name in block.keys() - RESERVED:
            default = parameters[name].default
            if default is not inspect.Parameter.empty and plain(default) != plain(block[name]):
                differing.add(name)
    assert differing == DELIBERATE.get(path.stem, set())

"""Shared fixtures: a toy target, and where the real images are."""

import os
import sys
import textwrap
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch reads it: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from medleak.config import instantiate as components
from medleak.config import plugins

TOYS = Path(__file__).parent / "toys"
components.add_plugin_folder(TOYS)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images, or a skip that says why."""
    folder = os.environ.get("MEDLEAK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MEDLEAK_DATA names no folder of real images")
    return Path(folder)


@pytest.fixture
def toy_config():
    """A function that makes the configuration of a cell on the toy target."""

    def make(attack="Confidence", *, recipe=None, split=None, defense=None, seed=0, **options):
        knowledge = options.pop("knowledge", {})
        n_shadows = options.pop("n_shadows", None)
        split = {"n_members": 40, "n_auxiliary": 80, "n_evaluation": 40, "seed": 0} | (split or {})
        return {
            "target": {
                "name": "toy",
                "dataset": {"_target_": "toy.Blobs", **options.pop("dataset", {})},
                "model": {"_target_": "toy.Linear"},
                "recipe": {"_target_": "toy.Steps", **(recipe or {})},
                "split": split,
            },
            "defense": {"name": "none", "slots": defense or {}},
            "attack": {
                "name": attack,
                "_target_": f"toy.{attack}",
                "knowledge": knowledge,
                **options,
            },
            "seed": seed,
            "n_members": None,
            "n_shadows": n_shadows,
        }

    return make


@pytest.fixture
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """The working directory is a folder of the test's own, and no plugin is asked for."""
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.delenv("MEDLEAK_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that writes a plugin's module and returns the `_target_` of its class."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(components, "_roots", set(components._roots))

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        components.add_plugin_folder(tmp_path)
        return f"{name}.Mine"

    return write

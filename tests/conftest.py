"""Shared fixtures: a toy target, and where the real images are."""

import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch reads it: workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from medleak.config import instantiate as components

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

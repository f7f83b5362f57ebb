"""The shipped settings of DP-SGD are what the tuning says."""

import importlib.util
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def tool():
    spec = importlib.util.spec_from_file_location("tune_dp", ROOT / "tools" / "tune_dp.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dp_sgd_has_one_of_the_tuned_settings_and_its_true_cost():
    tune, shipped = tool(), sorted((ROOT / "conf" / "defense").glob("dp_sgd*.yaml"))
    shipped = [path for path in shipped if not path.stem.endswith("masks")]  # says its own trials
    stages = [yaml.safe_load(path.read_text())["slots"]["train"] for path in shipped]
    chosen = {tuple((name, stage[name]) for name in tune.GRID) for stage in stages}
    assert len(shipped) >= 8
    assert len(chosen) == 1
    assert chosen <= set(tune.settings())
    assert {stage["trials"] for stage in stages} == {tune.trials()}

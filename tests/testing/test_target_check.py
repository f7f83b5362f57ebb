"""The contract of targets: what breaks it is named."""

import pytest
from checked_plugins import only

from medleak.testing import check_target

TOY = {
    "dataset": {"_target_": "toy.Blobs"},
    "model": {"_target_": "toy.Linear"},
    "recipe": {"_target_": "toy.Steps"},
    "split": {"n_members": 40},
}
DATA = """
    import numpy as np
    from medleak.api import DataError, Dataset, DatasetSource, Records

    class Mine(DatasetSource):
        "Data."

        def __init__(self, *, fault=""):
            self.fault = fault

        def load(self):
            if self.fault == "missing":
                raise DataError("nowhere.npz is not there")
            x, y, p = np.zeros((6, 1, 8, 8), np.uint8), np.zeros(6, np.int64), np.arange(6)
            x, y, p = {"float64": (x.astype(float), y, p), "label": (x, y + 2, p),
                       "rows": (x, y, p[:3]), "none": (x, y, p),
                       "grey": (x + np.float32(3), y, p)}.get(self.fault, (x, y, p))
            source = np.full(5 if self.fault == "source" else 6, "all")
            fingerprint = "" if self.fault == "fingerprint" else "f"
            data = Dataset(Records(x, y, p), source, "mine", ("a", "b"), fingerprint)
            return None if self.fault == "nothing" else data
"""


def test_a_good_target_passes():
    assert check_target(TOY) == []


def test_missing_blocks_are_all_named():
    assert check_target({"model": {}, "split": {}}) == [
        "block 'dataset' is missing", "block 'recipe' is missing",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("float64", "x is float64"),
        ("grey", "float images lie in 3..3"),
        ("label", "y lies in 2..2: 0..1"),
        ("rows", "patients has 3 rows, y has 6"),
        ("source", "source has 5 rows"),
        ("fingerprint", "fingerprint is empty"),
    ],
)
def test_faulty_data_are_told(plugin, fault, words):
    mlp = {"_target_": "medleak.targets.architectures.mlp.MLP"}
    block = {"_target_": plugin("faulty_data", DATA), "fault": fault}
    only(check_target({**TOY, "dataset": block, "model": mlp}), "dataset: ", words)


def test_data_may_be_absent_unless_needed(plugin):
    mlp = {"_target_": "medleak.targets.architectures.mlp.MLP"}
    block = {"_target_": plugin("absent_data", DATA), "fault": "missing"}
    target = {**TOY, "dataset": block, "model": mlp}
    assert check_target(target) == []
    only(check_target(target, need_data=True), "nowhere.npz is not there")


def test_models_and_recipes_are_tried(plugin):
    source = """
        from torch import nn

        class Mine(nn.Linear):
            def __init__(self, *, in_shape, n_outputs, extra=0):
                super().__init__(in_shape[0], n_outputs + extra)
    """
    model = {"_target_": plugin("wide", source)}
    assert check_target({**TOY, "model": model}) == []
    only(
        check_target({**TOY, "model": {**model, "extra": 1}}), "answers (3, 3)", "(3, 2) is needed"
    )
    only(check_target({**TOY, "model": {**model, "extr": 1}}), "model on (40,) raised ConfigError")
    only(check_target({**TOY, "recipe": TOY["dataset"]}), "is no Trainer")

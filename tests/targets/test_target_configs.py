"""Every shipped target: its YAML builds, and where the data are at hand they load and split."""

import json
from pathlib import Path

import numpy as np
import pytest

from medleak.api import DatasetSource, Trainer
from medleak.config import compose
from medleak.config import instantiate as components
from medleak.data.experiment import load_experiment_data

FOLDER = Path(__file__).parents[2] / "conf" / "target"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
OFFLINE = ["breast_cancer_lr", "breast_cancer_mlp", "phantom_cnn", "phantom_mlp"]
REAL = ["covid_cnn", "pneumonia_cnn", "pneumonia_resnet18"]


BLOCKS = json.loads((Path(__file__).parent / "blocks.json").read_text())
"""What each target came to when its YAML spelt every block out: run keys are made of it."""


def read(name):
    [job] = compose.expand([f"target={name}"])
    return job.config["target"]


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_comes_to_the_blocks_that_stored_runs_are_keyed_by(name):
    assert {key: value for key, value in read(name).items() if key != "summary"} == BLOCKS[name]


@pytest.mark.parametrize("name", NAMES)
def test_parts_are_built(name):
    config = read(name)
    assert config["name"] == name
    assert config["summary"]
    assert "\n" not in config["summary"]
    dataset = components.build(config["dataset"])
    assert isinstance(dataset, DatasetSource)
    given = {key: value for key, value in config["dataset"].items() if key != "_target_"}
    assert {key: getattr(dataset, key) for key in given} == given
    assert isinstance(components.build(config["recipe"]), Trainer)
    components.check_keywords(
        components.load(config["model"]["_target_"]),
        {k: v for k, v in config["model"].items() if k != "_target_"}
        | {"in_shape": (1, 64, 64), "n_outputs": 2},
    )


@pytest.mark.parametrize("name", NAMES)
def test_first_line_is_a_comment(name):
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")


def check_world(name):
    config = read(name)
    experiment = load_experiment_data(config, None)
    split = config["split"]
    assert len(np.unique(experiment.challenge.patients)) == 2 * split["n_members"]
    assert len(np.unique(experiment.auxiliary.patients)) == split["n_auxiliary"]
    model = components.build(
        config["model"],
        in_shape=experiment.problem.in_shape,
        n_outputs=experiment.problem.n_outputs,
    )
    assert components.build(config["recipe"]).incompatibilities(experiment.problem) == []
    return experiment, model


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_targets_split(name):
    check_world(name)


@pytest.mark.parametrize("name", REAL)
def test_real_targets_split(name, real_data):
    check_world(name)


def test_pneumonia_members_and_non_members_share_a_split(real_data):
    experiment, _ = check_world("pneumonia_cnn")
    positions = experiment.challenge.patients
    assert set(experiment.dataset.source[positions]) == {"train"}
    assert experiment.dataset.note.startswith("unofficial file")
    assert experiment.problem.unit == "image (patient unknown)"


def test_covid_patients_have_several_scans(real_data):
    experiment, _ = check_world("covid_cnn")
    assert experiment.problem.unit == "patient"
    assert experiment.problem.max_records > 2
    assert experiment.dataset.classes == ("COVID-19", "other")
    assert set(experiment.challenge.records.groups) == {"sex", "age_band", "view"}

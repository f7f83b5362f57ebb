"""A cell is looked at before anything is trained: what is wrong in itself, and what makes no sense."""

import subprocess
import sys

import pytest

from medleak.api import ConfigError
from medleak.config import compose, plugins
from medleak.engine.cell import Cell
from medleak.engine.compatibility import reasons


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")


def cell(*overrides):
    """The one cell that `overrides` ask for."""
    [job] = compose.expand(overrides)
    return Cell(job.config, {}, {}, job.overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["target.recipe.lr=-1"], "target.recipe of target=phantom_cnn: lr -1.0 must be a number"),
        (["target.recipe.epochs=0"], "epochs 0 must be a whole number of at least 1"),
        (["target.recipe.optimizer=foo"], "unknown optimizer 'foo'"),
        (
            ["defense=dp_sgd_eps8", "defense.slots.train.clip=-1"],
            "defense.slots.train of defense=dp_sgd_eps8: clip must be a positive finite number",
        ),
        (["defense=dp_sgd_eps8", "defense.slots.train.lr=-1"], "DPSGD: lr -1.0 must be"),
        (["defense=temperature", "defense.slots.serve.t=0"], "slots.serve of defense=temperature: t"),
        (["attack=rmia", "attack.gamma=-1"], "RMIA gamma is -1.0"),
    ],
)  # fmt: skip
def test_what_is_wrong_whatever_the_setting_refuses_the_request(overrides, message):
    with pytest.raises(ConfigError, match=message):
        reasons(cell(*overrides))


def test_what_depends_on_the_setting_is_a_reason():
    stops = cell("defense=dp_sgd_eps8", "+target.recipe.early_stopping={patience: 2}")
    assert "early_stopping with DP-SGD" in reasons(stops)[0]


@pytest.mark.parametrize("attack", ["linear_layer", "spear", "fishing"])
def test_a_first_layer_that_an_attack_cannot_read_is_a_reason(attack):
    asked = ["defense=fedsgd", f"attack={attack}"]
    [reason] = reasons(cell("target=phantom_cnn", *asked))
    start = "needs a linear first layer: that of target=phantom_cnn is convolutional (linear: "
    assert reason.startswith(start)
    choices = reason.removeprefix(start).rstrip(")").split(", ")
    assert {"phantom_mlp", "pneumonia_he_mlp"} <= set(choices)
    assert not {"phantom_cnn", "pneumonia_resnet18"} & set(choices)
    assert reasons(cell("target=phantom_mlp", *asked)) == []


def test_attacks_that_bring_their_own_first_layer_read_any():
    assert reasons(cell("target=phantom_cnn", "defense=fedsgd", "attack=trap_weights")) == []


def test_a_network_of_which_no_first_layer_is_declared_is_not_refused(tmp_path, monkeypatch):
    own = (
        "from medleak.targets.architectures.cnn import SmallCNN\nimport torch\n"
        "class Derived(SmallCNN): version = 1\n"
        "class OwnCNN(torch.nn.Module):\n    def __init__(self, **sizes):\n        super().__init__()\n"
    )
    (tmp_path / "own_network_of_mine.py").write_text(own)
    (tmp_path / "conf").mkdir()
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path))
    model = "target.model._target_=own_network_of_mine.OwnCNN"
    words = ("target=phantom_cnn", "defense=fedsgd", "attack=linear_layer")
    assert reasons(cell(*words, model)) == []
    inherited = reasons(cell(*words, model.replace("OwnCNN", "Derived")))
    assert len(inherited) == 1


@pytest.mark.parametrize(
    ("overrides", "fewest"),
    [
        (["defense=transfer_freeze"], 2),
        (["defense=early_stopping"], 1),
        (["defense=pate", "defense.slots.train.queries=10"], 10),
        (["+target.recipe.early_stopping={patience: 2}"], 1),
    ],
)
def test_training_that_reads_validation_records_needs_them(overrides, fewest):
    without = reasons(cell("target.split.n_validation=0", *overrides))
    told = f"training reads {fewest} or more validation records, there are 0"
    assert len(without) == 1
    assert without[0].startswith(told)
    assert reasons(cell(f"target.split.n_validation={fewest}", *overrides)) == []


def test_without_pretraining_no_validation_record_is_needed():
    plain = "defense.slots.train.pretrain_epochs=0"
    assert not reasons(cell("target.split.n_validation=0", "defense=transfer_freeze", plain))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["target=phantom_mlp", "target.model.hidden=0"],
            "target.model of target=phantom_mlp: MLP hidden must be a pos",
        ),
        (["target.model.width=3"], "SmallCNN width must be a multiple of 4"),
        (["+target.model.depth=3"], "unknown key of SmallCNN 'depth'"),
    ],
)
def test_a_model_that_was_changed_is_built_before_anything_is_trained(overrides, message):
    with pytest.raises(ConfigError, match=message):
        reasons(cell(*overrides))


def test_shipped_models_are_not_built_when_planning():
    code = (
        "import sys; from medleak.config import compose; from medleak.engine.cell import Cell; from medleak.engine.compatibility import reasons;"
        "[job] = compose.expand([]); cell = Cell(job.config, {}, {}, job.overrides);"
        "assert reasons(cell) == []; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("~target.model", "target=phantom_cnn: block 'model' names no _target_"),
        ("~target.recipe._target_", "target=phantom_cnn: block 'recipe' names no _target_"),
        ("~target.split", "target=phantom_cnn has no block 'split'"),
        ("~attack._target_", "attack=yeom: it names no _target_"),
        ("attack._target_=medleak.targets.recipes.SGD", "recipes.SGD' is no Attack"),
    ],
)
def test_blocks_that_are_missing_or_name_something_else(override, message):
    with pytest.raises(ConfigError, match=message):
        reasons(cell(override))

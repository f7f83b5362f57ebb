"""Targets as presets: parts by name, with differences, chosen on the command line, brought by plugins."""

import pytest

from medleak.api import ConfigError
from medleak.config import catalogue, compose, plugins
from medleak.config.presets import expanded, full_key, named
from medleak.engine.cell import Cell
from medleak.engine.plan import plan

CNN = {"_target_": "medleak.targets.architectures.cnn.SmallCNN", "width": 16}
RESNET = {
    "_target_": "medleak.targets.architectures.resnet.ResNet18", "width": 64, "stem": "auto",
}  # fmt: skip
MLP = "_target_: medleak.targets.architectures.mlp.MLP\nhidden: 32\ndepth: 1\n"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")


@pytest.fixture
def add(tmp_path):
    """A function that writes a YAML into a plugin folder and registers it."""

    def write(group, name, text):
        file = tmp_path / "conf" / group / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        compose.initialise([tmp_path])
        return tmp_path

    return write


def option(group, name):
    return {"name": name, "summary": "s", "_target_": f"x.{group}", "a": 1, "b": [1, 2]}


def test_names_differences_and_blocks_become_blocks():
    given = {
        "dataset": "one",
        "model": {"base": "two", "b": [3], "c": 4},
        "recipe": {"_target_": "y.Own", "base": 5},
        "evaluator": {"model": "three", "recipe": {"base": "four", "a": 0}},
        "split": {"n_members": 5},
    }
    assert expanded(given, option) == {
        "dataset": {"_target_": "x.dataset", "a": 1, "b": [1, 2]},
        "model": {"_target_": "x.model", "a": 1, "b": [3], "c": 4},
        "recipe": {"_target_": "y.Own", "base": 5},
        "evaluator": {
            "model": {"_target_": "x.model", "a": 1, "b": [1, 2]},
            "recipe": {"_target_": "x.recipe", "a": 0, "b": [1, 2]},
        },
        "split": {"n_members": 5},
    }
    pairs = [("dataset", "one"), ("model", "two"), ("model", "three"), ("recipe", "four")]
    assert named(given) == pairs


def test_a_chosen_part_replaces_the_differences_too():
    given = {"model": {"base": "two", "c": 4}}
    assert expanded(given, option, chosen={"model": "one"})["model"].keys() == {
        "_target_",
        "a",
        "b",
    }


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("recipe.epochs=5", "target.recipe.epochs=5"),
        ("+model.depth=1", "+target.model.depth=1"),
        ("++dataset.a=1", "++target.dataset.a=1"),
        ("~model.width", "~target.model.width"),
        ("model=cnn", "model=cnn"),
        ("target.model.width=8", "target.model.width=8"),
        ("modelx.a=1", "modelx.a=1"),
    ],
)
def test_short_keys_have_one_full_name(short, full):
    assert full_key(short) == full


def test_parts_are_swept_and_reached_into():
    jobs = compose.expand(
        ["target=phantom_cnn,pneumonia_cnn", "model=cnn,resnet18", "recipe.epochs=5,10"]
    )
    assert [job.config["target"]["model"] for job in jobs[::2]] == [CNN, RESNET, CNN, RESNET]
    assert [job.config["target"]["recipe"]["epochs"] for job in jobs] == [5, 10] * 4
    assert (jobs[-1].axes["model"], jobs[-1].axes["target.recipe.epochs"]) == ("resnet18", 10)
    assert jobs[-1].overrides == (
        "target=pneumonia_cnn", "model=resnet18", "target.recipe.epochs=10",
    )  # fmt: skip
    for job in jobs[::3]:
        assert compose.expand(job.overrides) == [job]


def test_what_is_added_and_removed_meets_the_chosen_part():
    [job] = compose.expand(
        ["recipe=sgd_cosine", "~recipe.schedule", "+recipe.augment=[flip]", "model=resnet18"]
    )
    recipe = job.config["target"]["recipe"]
    assert recipe["augment"] == ["flip"]
    assert "schedule" not in recipe
    assert recipe["momentum"] == 0.9
    assert job.config["target"]["model"] == RESNET


def test_the_same_choice_is_the_same_cell():
    own, chosen = (Cell(job.config, {}) for o in ([], ["model=cnn"]) for job in compose.expand(o))
    assert own.key == chosen.key


def test_a_row_names_what_was_chosen_and_its_plugin_folder(add, tmp_path):
    folder = add("model", "tiny", MLP)
    asked = ["model=tiny", "dataset=phantom", "dataset.n_patients=900"]
    made = plan(compose.expand(asked), store=tmp_path / "store")
    row = made.cells[0].row("not_run", "why")
    assert row.extra == {"model": "tiny", "dataset": "phantom", "target.dataset.n_patients": 900}
    assert row.provenance["overrides"] == (*asked[:2], "target.dataset.n_patients=900")
    assert row.provenance["plugins"] == (str(folder),)


def test_a_folder_whose_option_a_target_names_is_repeated(add, tmp_path):
    folder = add("recipe", "quick", "_target_: medleak.targets.recipes.SGD\nepochs: 1\n")
    text = "dataset: phantom\nmodel: {base: mlp, hidden: 8}\nrecipe: quick\n"
    other = tmp_path / "other"
    (other / "conf" / "target").mkdir(parents=True)
    split = "split: {n_members: 9, n_auxiliary: 9, n_validation: 9, n_evaluation: 9, seed: 0}\n"
    (other / "conf" / "target" / "theirs.yaml").write_text(text + split)
    compose.initialise([other])
    made = plan(compose.expand(["target=theirs"]), store=tmp_path / "store")
    row = made.cells[0].row("not_run", "why")
    assert set(row.provenance["plugins"]) == {str(folder), str(other)}


REFUSED = {
    "model=resnet8": "unknown model 'resnet8': did you mean 'resnet18'?",
    "recipe=adam": "unknown recipe 'adam': did you mean 'adamw'?",
    "dataset=": "unknown dataset ''",
    "model=[cnn,mlp]": "write model=cnn,mlp",
    "model={width: 8}": "model is chosen by name, not by a block (choices: cnn, ",
    "+model=cnn": "write model=NAME",
    "~model": "write model=NAME",
    "model.widht=8": "unknown key of target.model in target=phantom_cnn 'widht'",
    "model.width=abc": "target.model.width='abc': a whole number is needed",
    "recipe=glob(z*)": "matches nothing (choices: adamw",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refusals_name_value_and_choices(override):
    with pytest.raises(ConfigError) as caught:
        compose.expand([override])
    assert REFUSED[override] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_option_that_was_chosen_is_named():
    with pytest.raises(
        ConfigError, match=r"unknown key of target\.model in model=resnet18 'widht'"
    ):
        compose.expand(["model=resnet18", "model.widht=3"])
    with pytest.raises(ConfigError, match=r"recipe\.epochs is given twice"):
        compose.expand(["recipe.epochs=3", "target.recipe.epochs=4"])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (
            ["dataset=breast_cancer"],
            "target.model of target=phantom_cnn with dataset=breast_cancer",
        ),
        (["model=cnn", "model.width=3"], "with model=cnn: SmallCNN width must be a multiple of 4"),
        (["recipe=sgd", "recipe.lr=-1"], "target.recipe of recipe=sgd: lr -1.0 must be"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_training(asked, words, tmp_path):
    small = [
        "target.split.n_members=60",
        "target.split.n_auxiliary=60",
        "target.split.n_evaluation=60",
    ]
    with pytest.raises(ConfigError) as caught:
        plan(compose.expand([*asked, *small]), store=tmp_path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: rsnet18", "unknown model 'rsnet18': did you mean 'resnet18'?"),
        ("model: {base: cn, width: 8}", "unknown model 'cn': did you mean 'cnn'?"),
        ("model: empty", "names no _target_"),
        ("model: misnamed", "the YAML is named 'other', its file 'misnamed'"),
    ],
)
def test_a_target_that_names_what_is_not_there(add, text, words):
    add("model", "empty", "width: 3\n")
    add("model", "misnamed", f"name: other\n{MLP}")
    add("target", "mine", f"dataset: phantom\n{text}\nrecipe: adamw\nsplit: {{n_members: 5}}\n")
    with pytest.raises(ConfigError) as caught:
        compose.expand(["target=mine"])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_name_is_listed_with_its_problem(add):
    add("target", "mine", "summary: s\nmodel: rsnet18\n")
    [found] = [entry for entry in catalogue.entries("target") if entry.name == "mine"]
    assert "unknown model 'rsnet18'" in found.problem


def test_first_layers_are_read_through_names(add):
    assert "phantom_mlp" in catalogue.with_first_layer("linear")
    assert "phantom_cnn" not in catalogue.with_first_layer("linear")


@pytest.mark.parametrize("group", plugins.GROUPS)
def test_plugins_bring_options_of_every_group(add, group):
    add(group, "theirs", "summary: s\n")
    assert plugins.options(group)["theirs"].source != plugins.BUILT_IN


def test_every_folder_of_conf_is_a_known_group():
    folders = {path.name for path in plugins.search_path()[0].iterdir() if path.is_dir()}
    assert folders - {"__pycache__"} <= set(plugins.GROUPS)

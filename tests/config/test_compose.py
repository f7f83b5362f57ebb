"""Overrides to jobs: every axis a sweep, the same configuration as Hydra's own, one-line errors."""

import shutil

import pytest

from medleak.api import ConfigError
from medleak.config import compose, plugins
from medleak.config.presets import expanded

TOY = "name: {name}\nsummary: a toy\n_target_: medleak.attacks.membership.yeom.Yeom\n{more}"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.delenv(compose.STORE_VARIABLE, raising=False)


@pytest.fixture
def add(tmp_path):
    """A function that writes a YAML into a plugin folder and registers it."""

    def write(group, name, text):
        file = tmp_path / "conf" / group / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        compose.initialise([tmp_path])
        return file

    return write


@pytest.fixture(scope="module")
def spelt_out(tmp_path_factory):
    """A copy of conf/ in which every target spells its blocks out, as Hydra by itself needs it."""
    from omegaconf import OmegaConf

    conf = tmp_path_factory.mktemp("plain") / "conf"
    shutil.copytree(compose.search_path()[0], conf)

    def read(group, name):
        return OmegaConf.to_container(OmegaConf.load(conf / group / f"{name}.yaml"))

    for file in (conf / "target").glob("*.yaml"):
        OmegaConf.save(OmegaConf.create(expanded(read("target", file.stem), read)), file)
    return conf


def by_hydra(conf, *overrides):
    """What Hydra alone composes from one point."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(str(conf), version_base="1.3"):
        return OmegaConf.to_container(hydra_compose("config", list(overrides)), resolve=True)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["target=pneumonia_cnn", "attack=lira", "seed=3", "n_members=250"],
        ["target.recipe.epochs=7", "attack=rmia"],
        ["attack=lira", "attack.knowledge.n_shadows=4", "target.split.canaries.mislabelled=0.25"],
        ["+target.recipe.extra={a: 1}", "~target.summary"],
        ["target.split.canaries={mislabelled: 0.5}"],
        ["target.recipe.lr=${seed}", "seed=2"],
        ["++attack.summary='two words, and a comma'"],
        ["executor=serial", "n_shadows=4"],
    ],
)
def test_a_job_is_what_hydra_composes(overrides, spelt_out):
    [job] = compose.expand(overrides)
    expected = by_hydra(spelt_out, *overrides)
    for group in compose.SUBJECTS:
        assert job.config[group] == expected[group]
    for name in ("seed", "n_members", "n_shadows", "executor"):
        assert job.config[name] == expected[name]
    assert job.overrides == tuple(word for word in overrides if not word.startswith("executor"))


def test_parts_of_many_jobs_equal_jobs_composed_alone():
    sweep = [
        "target=phantom_cnn,pneumonia_cnn",
        "attack=yeom,lira",
        "attack.summary=a,b",
        "seed=0,1",
    ]
    jobs = compose.expand(sweep)
    assert len(jobs) == 16
    for job in jobs[::5]:
        assert compose.expand(job.overrides) == [job]


def test_the_last_axis_varies_fastest():
    jobs = compose.expand(["attack=yeom,lira", "seed=0,1"])
    assert [(j.axes["attack"], j.axes["seed"]) for j in jobs] == [
        ("yeom", 0), ("yeom", 1), ("lira", 0), ("lira", 1),
    ]  # fmt: skip
    assert jobs[2].overrides == ("attack=lira", "seed=0")


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("seed=choice(3,1)", [3, 1]),
        ("seed=range(0,3)", [0, 1, 2]),
        ("seed=range(0,7,3)", [0, 3, 6]),
        ("seed=1e2", [100]),
        ("seed=sort(2,0,1)", [0, 1, 2]),
        ("seed=1,1,2", [1, 2]),
        ("n_members=250.0,300", [250, 300]),
    ],
)
def test_sweeps_of_numbers(axis, values):
    key = axis.partition("=")[0]
    jobs = compose.expand([axis])
    assert [job.config[key] for job in jobs] == values
    assert all(type(job.config[key]) is int for job in jobs)


def test_glob_sees_every_option_and_excludes():
    names = list(plugins.options("attack"))
    assert [j.axes["attack"] for j in compose.expand(["attack=glob(*)"])] == names
    some = compose.expand(["attack=glob(*,exclude=[l*])"])
    assert [j.axes["attack"] for j in some] == [n for n in names if not n.startswith("l")]


def test_nested_sweeps_are_axes_and_reach_the_block():
    jobs = compose.expand(
        ["target.recipe.epochs=5,10", "target.split.canaries.mislabelled=0.1,0.2"]
    )
    assert [j.axes["target.recipe.epochs"] for j in jobs] == [5, 5, 10, 10]
    assert [j.config["target"]["recipe"]["epochs"] for j in jobs] == [5, 5, 10, 10]
    shares = [j.config["target"]["split"]["canaries"]["mislabelled"] for j in jobs]
    assert shares == [0.1, 0.2, 0.1, 0.2]


def test_axes_hold_the_coordinates_even_where_they_are_defaults():
    [job] = compose.expand(["attack=lira"])
    own = job.config["target"]["split"]["n_members"]
    assert job.config["n_members"] is None
    assert job.axes == {
        "target": "phantom_cnn", "defense": "none", "attack": "lira", "seed": 0, "n_members": own,
    }  # fmt: skip


def test_n_shadows_is_an_axis_only_of_attacks_that_use_shadows():
    with_shadows, without = compose.expand(["attack=lira,yeom", "n_shadows=8"])
    assert with_shadows.axes["n_shadows"] == 8
    assert "n_shadows" not in without.axes


def test_executor_and_runtime_are_no_coordinates():
    [job] = compose.expand(["executor=serial", "runtime.device=cpu"])
    assert set(job.axes) == {"target", "defense", "attack", "seed", "n_members"}
    assert job.config["runtime"]["device"] == "cpu"


def test_equal_numbers_are_one_setting():
    whole, point = compose.expand(["target.recipe.epochs=7,7.0"])
    assert whole.config == point.config
    assert type(point.config["target"]["recipe"]["epochs"]) is int


def test_the_store_is_the_variable_unless_the_runtime_says(monkeypatch):
    assert compose.expand([])[0].config["runtime"]["store"] == "results/store"
    monkeypatch.setenv(compose.STORE_VARIABLE, "/somewhere")
    assert compose.expand([])[0].config["runtime"]["store"] == "/somewhere"
    assert compose.expand(["runtime.store=x"])[0].config["runtime"]["store"] == "x"


def test_metrics_are_read_by_name_and_chosen_by_list():
    assert "_target_" in compose.metrics()["auc"]
    assert compose.expand(["metrics=[auc]"])[0].config["metrics"] == ["auc"]
    assert compose.expand(["metrics=auc"])[0].config["metrics"] == ["auc"]


REFUSED = {
    "attack=lria": "unknown attack 'lria': did you mean '",
    "defense=non": "unknown defense 'non': did you mean 'none'?",
    "attack=": "unknown attack ''",
    "attack=[yeom,lira]": "a list would merge its options into one: write attack=yeom,lira",
    "attack={a: 1}": "attack is chosen by name, not by a block (choices: ",
    "attack=null": "attack is chosen by name, not by null (choices: ",
    "attack=glob(z*)": "matches nothing (choices: ",
    "~attack": "attack cannot be left out (choices: ",
    "attak=lira": "unknown key 'attak': did you mean 'attack'?",
    "sed=1": "unknown key 'sed': did you mean 'seed'?",
    "+shadows=1": "unknown key 'shadows'",
    "seed=-1": "seed=-1: a whole number from 0 to 4294967295 is needed",
    "seed=abc": "seed='abc': a whole number from 0 to",
    "seed=4294967296": "seed=4294967296: a whole number from 0 to 4294967295 is needed",
    "seed=range(9223372036854775808,9223372036854775810)": "seed=9223372036854775808: a whole",
    "seed=1.5": "seed=1.5: a whole number",
    "seed=true": "seed=true: a whole number",
    "seed=null": "seed=null: a whole number",
    "n_members=0": "n_members=0: a whole number from 1, or null, is needed",
    "n_shadows=0": "n_shadows=0: a whole number from 1",
    "seed=range(3,0)": "names no value",
    "seed=range(0,1000000000)": "more than 100000 jobs",
    "seed=interval(0,1)": "an interval has no end of values",
    "seed=shuffle(1,2)": "no order to shuffle",
    "seed=glob(*)": "glob(..) chooses options of target, defense, attack, dataset, model, "
    "recipe only",
    "+seed=1": "seed is always there: write seed=VALUE",
    "~seed": "seed is always there",
    "target.recipe.epoch=5": "unknown key of target.recipe in target=phantom_cnn 'epoch': did you "
    "mean 'epochs'?",
    "target.recip.epochs=5": "unknown key of target=phantom_cnn 'recip': did you mean 'recipe'?",
    "target.recipe.epochs.x=5": "unknown key of target.recipe.epochs in target=phantom_cnn 'x'",
    "target.recipe.epochs=abc": "target.recipe.epochs='abc': a whole number is needed (now ",
    "target.recipe.epochs=2.5": "target.recipe.epochs=2.5: a whole number is needed (now ",
    "target.recipe.lr='1e-3'": "target.recipe.lr='1e-3': a number is needed (now ",
    "target.recipe=sgd": "target.recipe is a block, not a value: set one of target.recipe._target_",
    "target.dataset=foo": "target.dataset is a block, not a value",
    "target.split.canaries.mislabelled=true": "mislabelled=true: a number is needed",
    "target.name=other": "target.name is the name of its file: choose with target=NAME",
    "target.recipe.lr=${oc.env:HOME}": "override 'target.recipe.lr=${oc.env:HOME}': only ${KEY}",
    "target.recipe={lr: '${oc.env:HOME}'}": "only ${KEY}, another key's value, is filled in",
    "+attack.x=[a,'${${seed}:HOME}']": "only ${KEY}",
    "target.recipe.lr=${target.name}": "target.recipe.lr='phantom_cnn': a number is needed",
    "target.recipe.lr=${sed}": "Interpolation key 'sed' not found",
    "+target.recipe.epochs=3": "Could not append to config. An item is already at",
    "~target.nothing": "Could not delete from config. 'target.nothing' does not exist",
    "attack@elsewhere=lira": "Could not override 'attack@elsewhere'",
    "+attack@elsewhere=lira": "unknown key 'elsewhere'",
    "metrics=auk": "unknown metric 'auk': did you mean 'auc'?",
    "metrics=auc,roc": "metrics are measured together: write metrics=[a,b]",
    "executor=local,serial": "executor is no axis",
    "executor=slurm": "unknown executor 'slurm'",
    "executor.jobs=0": "executor.jobs=0: a whole number from 1, or null, is needed",
    "executor.jobs=two": "executor.jobs='two': a whole number or null is needed",
    "runtime.device=gpu": "unknown runtime.device 'gpu': did you mean 'cpu'?",
    "runtime.devise=cpu": "unknown key of runtime=default 'devise': did you mean 'device'?",
    "runtime.store=5": "runtime.store=5: a folder is needed",
    "hydra.run.dir=x": "Hydra's own settings have no effect here",
    "word": "'word' is no override: write key=value",
    "attack=yeom,": "cannot read 'attack=yeom,': ",
    "attack=range(1,2": "cannot read 'attack=range(1,2': ",
    "a b=c": "cannot read 'a b=c': a character out of place",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refusals_are_one_line_that_names_the_value(override):
    with pytest.raises(ConfigError) as caught:
        compose.expand([override])
    message = str(caught.value)
    assert REFUSED[override] in message
    assert "\n" not in message
    assert "hydra.cc" not in message


def test_what_cannot_be_given_together():
    with pytest.raises(ConfigError, match="attack is given twice: write attack=A,B"):
        compose.expand(["attack=yeom", "attack=lira"])
    with pytest.raises(ConfigError, match="give one of them"):
        compose.expand(["attack=lira", "n_shadows=4", "attack.knowledge.n_shadows=8"])


def test_a_key_that_one_option_lacks_names_that_option():
    with pytest.raises(ConfigError, match="unknown key of attack=yeom 'variance'"):
        compose.expand(["attack=lira,yeom", "attack.variance=pooled"])


def test_a_parameter_that_the_yaml_leaves_out_asks_for_a_plus(add):
    add("attack", "bare", "name: bare\n_target_: medleak.attacks.membership.lira.LiRA\n")
    with pytest.raises(ConfigError, match=r"leaves attack.variance unset: write \+attack.variance"):
        compose.expand(["attack=bare", "attack.variance=pooled"])
    [job] = compose.expand(["attack=bare", "+attack.variance=pooled"])
    assert job.config["attack"]["variance"] == "pooled"


def test_plugin_options_sweep_with_the_others(add):
    add("attack", "toy_attack", TOY.format(name="toy_attack", more="k: 1\n"))
    jobs = compose.expand(["attack=yeom,toy_attack", "seed=0,1"])
    assert [j.axes["attack"] for j in jobs] == ["yeom", "yeom", "toy_attack", "toy_attack"]
    assert "toy_attack" in [j.axes["attack"] for j in compose.expand(["attack=glob(*)"])]


def test_a_defaults_list_and_a_package_header_are_hydras_to_read(add):
    add("attack", "heir", "defaults: [yeom, _self_]\nname: heir\nextra: 1\n")
    add("attack", "everywhere", "# @package _global_\nattack: {name: everywhere, a: 1}\nseed: 7\n")
    heir, everywhere, plain = compose.expand(["attack=heir,everywhere,yeom"])
    assert heir.config["attack"]["extra"] == 1
    assert heir.config["attack"]["_target_"] == plain.config["attack"]["_target_"]
    assert everywhere.config["attack"] == {"name": "everywhere", "a": 1}
    assert plain.config["seed"] == 0


def test_interpolations_reach_other_blocks_of_their_own_job(add):
    more = "of: ${target.name}\nat: ${seed}\n"
    add("attack", "reader", TOY.format(name="reader", more=more))
    jobs = compose.expand(["target=phantom_cnn,pneumonia_cnn", "attack=reader", "seed=4,5"])
    assert [(j.config["attack"]["of"], j.config["attack"]["at"]) for j in jobs] == [
        ("phantom_cnn", 4), ("phantom_cnn", 5), ("pneumonia_cnn", 4), ("pneumonia_cnn", 5),
    ]  # fmt: skip


def test_resolvers_in_a_yaml_are_refused(add, monkeypatch):
    monkeypatch.setenv("SECRET", "told")
    more = "of: ['${oc.env:SECRET}']\n"
    file = add("attack", "nosy", TOY.format(name="nosy", more=more))
    with pytest.raises(ConfigError, match=r"attack=nosy '\$\{oc.env:SECRET\}': only \$\{KEY\}"):
        compose.expand(["attack=nosy"])
    file.unlink()
    add("metric", "nosy", "_target_: x.Y\nof: ${oc.env:SECRET}\n")
    with pytest.raises(ConfigError, match=r"nosy\.yaml '\$\{oc.env:SECRET\}': only"):
        compose.metrics()


def test_an_interpolation_fits_its_place_once_it_is_resolved():
    [job] = compose.expand(["target.recipe.epochs=${seed}", "seed=7"])
    assert job.config["target"]["recipe"]["epochs"] == 7
    [job] = compose.expand(["seed=4294967295"])
    assert job.config["seed"] == 2**32 - 1


def test_a_yaml_must_carry_the_name_of_its_file(add):
    add("attack", "one", TOY.format(name="another", more=""))
    with pytest.raises(ConfigError, match="the YAML is named 'another', its file 'one'"):
        compose.expand(["attack=one"])
    add("attack", "nameless", "_target_: medleak.attacks.membership.yeom.Yeom\n")
    assert compose.expand(["attack=nameless"])[0].config["attack"]["name"] == "nameless"


def test_a_yaml_that_does_not_parse_is_named(add):
    file = add("attack", "broken", "name: [broken\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml.*line 2") as caught:
        compose.expand(["attack=broken"])
    assert "\n" not in str(caught.value)
    file.unlink()
    add("metric", "broken", "name: [broken\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        compose.metrics()


def test_a_name_offered_twice_is_refused(add):
    add("attack", "lira", TOY.format(name="lira", more=""))
    with pytest.raises(ConfigError, match="attack 'lira' is offered twice: by built in and by"):
        compose.expand(["attack=lira"])


def test_jobs_do_not_leak_into_each_other():
    first, second = compose.expand(["attack.summary=a,b"])
    assert (first.config["attack"]["summary"], second.config["attack"]["summary"]) == ("a", "b")
    assert compose.expand([])[0].config["attack"]["summary"] not in ("a", "b")


def test_hydra_of_the_caller_is_left_as_it_was(tmp_path, add):
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    add("attack", "toy_attack", TOY.format(name="toy_attack", more=""))
    callers = tmp_path / "callers"
    callers.mkdir()
    (callers / "config.yaml").write_text("mine: 1\n")
    compose.expand([])
    with initialize_config_dir(str(callers), version_base="1.3"):
        compose.expand([])
        assert hydra_compose("config").mine == 1
        assert GlobalHydra.instance().config_loader().get_group_options("attack") == []


def test_many_jobs_compose_each_option_once(monkeypatch):
    calls = []
    original = compose._compose
    monkeypatch.setattr(compose, "_compose", lambda o: calls.append(o) or original(o))
    axes = ["attack=yeom,lira,rmia", "seed=range(0,20)", "target.recipe.epochs=range(1,11)"]
    assert len(compose.expand(axes)) == 600
    assert len(calls) <= 1 + 3


@pytest.mark.parametrize("text", ["+target.foo=1", "+defense.train=x", "+runtime.foo=1"])
def test_a_key_that_nothing_reads_is_refused(text):
    group, _, key = text.lstrip("+").partition("=")[0].partition(".")
    with pytest.raises(ConfigError, match=f"unknown key of {group} '{key}'"):
        compose.expand([text])

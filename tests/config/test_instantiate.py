"""From YAML to class: only what is allowed, read without importing where possible."""

import hashlib
import re
import sys

import pytest

from medleak.api import ConfigError, ThreatModel
from medleak.config import catalogue, plugins
from medleak.config import instantiate as components
from medleak.engine import plan as grid
from medleak.engine.executors import Executor
from medleak.training.run_spec import RunSpec, build_model, make_trainer


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "subprocess.Popen", "torch.load"])
def test_nothing_outside_medleak_and_its_plugins_is_built(target):
    with pytest.raises(ConfigError, match="outside medleak and its plugins"):
        components.build({"_target_": target, "command": "true"})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("medleak.nowhere.Thing", "cannot be found"),
        ("toy.Lineer", "has no class 'Lineer'"),
        ("Linear", "not a dotted path"),
        (3, "not a dotted path"),
    ],
)
def test_what_cannot_be_found_is_named(target, message):
    with pytest.raises(ConfigError, match=message):
        components.build({"_target_": target})


def test_misspelt_keywords_are_named_with_the_near_match():
    with pytest.raises(ConfigError, match="unknown key of Steps 'epoch': did you mean 'epochs'"):
        components.build({"_target_": "toy.Steps", "epoch": 3})
    with pytest.raises(ConfigError, match="Linear needs n_outputs"):
        components.build({"_target_": "toy.Linear", "in_shape": [3]})


def test_blocks_nest_and_repr_rebuilds():
    made = components.build({"_target_": "toy.Steps", "name": "x", "summary": "y", "epochs": 3})
    assert repr(made) == "Steps(epochs=3, lr=0.5, wait=0.0, fail=False)"


def test_literals_are_read_without_importing_and_follow_the_parent(tmp_path):
    (tmp_path / "never_imported.py").write_text(
        "raise RuntimeError('imported')\n"
        "class Parent(Attack):\n    '''One line.\n\n    More.'''\n    version = 3\n"
        "    requires = ThreatModel(goal='membership', access='labels')\n"
        "class Child(Parent):\n    '''A child.'''\n    paper = 'Doe 2020'\n"
    )
    components.add_plugin_folder(tmp_path)
    found = components.static("never_imported.Child")
    assert found.literals["version"] == 3
    assert found.requires == ThreatModel(goal="membership", access="labels")
    assert (found.paper, found.line) == ("Doe 2020", "A child.")
    digest = hashlib.sha256((tmp_path / "never_imported.py").read_bytes()).hexdigest()
    assert found.identity == f"never_imported.Child#{digest[:16]}"


@pytest.mark.parametrize(
    ("header", "base"),
    [
        ("from inherited_plugin.bases import Base", "Base"),
        ("from .bases import Base as Other", "Other"),
        ("from . import bases", "bases.Base"),
        ("import inherited_plugin.bases", "inherited_plugin.bases.Base"),
        ("import inherited_plugin.bases as b", "b.Base"),
        ("from inherited_plugin import Base", "Base"),
        ("from .all import *", "Base"),
        ("try:\n    from .bases import Base\nexcept ImportError:\n    pass", "Base"),
    ],
)
def test_literals_are_inherited_across_files_without_importing(tmp_path, header, base, monkeypatch):
    monkeypatch.setattr(components, "_tree", components._tree.__wrapped__)
    components._static.cache_clear()
    folder = tmp_path / "inherited_plugin"
    folder.mkdir()
    raising = "raise RuntimeError('imported')\n"
    sources = {
        "__init__.py": "from .bases import Base\n",
        "bases.py": raising
        + "from medleak.metrics.attribute import AttributeMetric\n"
        + "class Base(AttributeMetric):\n    unit = 'dB'\n",
        "all.py": raising + "from .bases import *\nfrom .all import *\n",
        "mine.py": f"{raising}{header}\nclass Mine({base}):\n    'One line.'\n",
    }
    for name, text in sources.items():
        (folder / name).write_text(text)
    name, file = "inherited_plugin.mine", folder / "mine.py"
    components.allow("inherited_plugin")
    found = components._static(f"{name}.Mine", file, "Mine").literals
    assert (found["goal"], found["unit"], found["higher_is_leakier"]) == ("attribute", "dB", True)


def test_a_metric_that_inherits_its_goal_is_listed_under_it(tmp_path):
    (tmp_path / "far_metric.py").write_text(
        "from medleak.metrics.property import PropertyAUC\nclass Far(PropertyAUC):\n    'Far.'\n"
    )
    (tmp_path / "conf" / "metric").mkdir(parents=True)
    (tmp_path / "conf" / "metric" / "far.yaml").write_text("_target_: far_metric.Far\n")
    components.add_plugin_folder(tmp_path)
    option = plugins.Option(tmp_path / "conf" / "metric" / "far.yaml", "far")
    assert catalogue._entry("metric", "far", option).goal == "property"
    config = {"attack": {"_target_": "medleak.attacks.membership.yeom.Yeom"}}
    assert grid._fitting(config, {"far": {"_target_": "far_metric.Far"}}) == {}


def test_what_a_plugin_imports_from_its_own_folder_is_in_its_identity(tmp_path):
    sources = {
        "outer_plugin.py": "import numpy\nfrom inner_plugin.deep import thing\nclass Mine: pass\n",
        "inner_plugin/__init__.py": "",
        "inner_plugin/deep.py": "from . import beside\nfrom .other import thing\n",
        "inner_plugin/beside.py": "x = 1\n",
        "inner_plugin/other.py": "def late():\n    import lazy_plugin\n",
        "lazy_plugin.py": "raise RuntimeError('imported')\n",
        "unrelated_plugin.py": "class Mine: pass\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    components.add_plugin_folder(tmp_path)

    def identity():
        return components.static("outer_plugin.Mine").identity

    seen = {identity()}
    for name in sources:
        (tmp_path / name).write_text(sources[name] + "# changed\n")
        seen.add(identity())
    assert len(seen) == len(sources)  # all but the unrelated one


def test_a_plugin_that_cannot_be_imported_is_one_line(tmp_path):
    (tmp_path / "leaving_plugin.py").write_text("import sys\nsys.exit(0)\nclass Mine: pass\n")
    components.add_plugin_folder(tmp_path)
    with pytest.raises(ConfigError, match="importing leaving_plugin raised SystemExit: 0"):
        components.build({"_target_": "leaving_plugin.Mine"})


def test_identities_are_gathered_from_anywhere():
    config = {"a": [{"_target_": "toy.Steps"}], "b": {"c": {"_target_": "toy.Blobs"}}}
    names = [name.split("#")[0] for name in components.identities(config)]
    assert names == ["toy.Blobs", "toy.Steps"]


@pytest.mark.parametrize("name", ["subprocess", "sys", "yaml"])
def test_a_plugin_named_like_an_installed_module_opens_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setattr(components, "_roots", set(components._roots))
    monkeypatch.setattr(components, "_folders", dict(components._folders))
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / f"{name}.py").write_text("class Popen:\n    pass\n")
    components.add_plugin_folder(tmp_path)
    for act in (components.static, components.load):
        with pytest.raises(ConfigError, match=re.escape(str(tmp_path / name))):
            act(f"{name}.Popen")


@pytest.mark.parametrize("place", ["dataset", "model", "recipe"])
def test_every_part_of_a_target_needs_its_base_class(toy_config, place):
    config = toy_config()
    config["target"][place] = {"_target_": "medleak.engine.executors.SerialExecutor"}
    config["target"]["split"]["seed"] = 3  # not in memory

    def made():
        spec = RunSpec(config["target"], {}, None, "audit", 0)
        return build_model(spec.target, spec.experiment, 0), make_trainer(spec)

    with pytest.raises(ConfigError, match="is no "):
        made()


def test_an_executor_is_one():
    assert isinstance(
        components.build({"_target_": "medleak.engine.executors.LocalExecutor"}), Executor
    )
    with pytest.raises(ConfigError, match="is no Executor"):
        components.build({"_target_": "toy.Steps"}, of=Executor)

"""The shim: exit status, one-line faults, and nothing imported before it is needed."""

import errno
import os
import subprocess
import sys

import pytest

from medleak import cli
from medleak.api import ConfigError
from medleak.cli import completion
from medleak.cli.arguments import COMMANDS, command_parser
from medleak.config import plugins

HEAVY = "{'torch', 'hydra', 'omegaconf', 'numpy', 'yaml', 'pandas', 'rich'} & set(sys.modules)"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    monkeypatch.setenv(plugins.VARIABLE, "")
    monkeypatch.delenv("MEDLEAK_DEBUG", raising=False)


def medleak(*words, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "medleak.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        [],
        ["--version"],
        ["grid", "--help"],
        ["completion", "zsh"],
        ["completion", "--complete", "gr"],
        ["completion", "--complete", "grid", "attack=l"],
    ],
)
def test_help_and_completion_import_nothing_heavy(words):
    code = (
        f"import sys; from medleak.cli import main; status = main({words!r}); loaded = {HEAVY};"
        "assert not loaded, loaded; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "medleak 0.1.0\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_body(name, capsys):
    from importlib import import_module

    assert cli.main([name, "--help"]) == 0
    assert f"medleak {name}" in capsys.readouterr().out
    assert callable(import_module(f"medleak.cli.{name}").main)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gird"], "unknown command 'gird': did you mean 'grid'?"),
        (["grid", "--dryrun"], "unrecognized arguments: --dryrun"),
        (["grid", "--jobs", "two"], "invalid int value: 'two'"),
        (["grid", "--budget", "soon", "attack=yeom"], "budget 'soon' is no time: write 90s"),
        (["grid", "demmo"], "unknown saved grid 'demmo': did you mean 'demo'?"),
        (["grid", "attack=lria"], "unknown attack 'lria'"),
        (["grid", "attack=[yeom,lira]"], "write attack=yeom,lira"),
        (["grid", "--name", "a/b", "attack=yeom"], "'a/b' cannot name a grid"),
        (["grid", "--name", "", "attack=yeom"], "name is empty"),
        (["report", "--publish", ""], "publish is empty"),
        (["grid", "--budget=", "attack=yeom"], "budget is empty"),
        (["cache", "verify", "--store", "nowhere"], "there is no store in nowhere"),
        (["cache", "--all"], "size deletes nothing"),
        (["report", "--overwrite"], "write --publish NAME beside it"),
        (["cache", "prune", "--days", "nan", "--store", "."], "--days nan: zero or more"),
        (["explain", ""], "row is empty"),
        (["new", "attack", ""], "name is empty"),
        (["run", "attack=yeom,lira"], "these are 2 cells, and run measures one: use medleak grid"),
        (["run", "--plugins", "/nowhere/at/all"], "'/nowhere/at/all' does not exist"),
        (["list", "atacks"], "unknown kind 'atacks': did you mean 'attacks'?"),
        (["check", "seed=0"], "nothing to check: write target=NAME or dataset=NAME or model=NAME"),
        (["check"], "the following arguments are required"),
        (["new", "defence", "x"], "unknown kind of plugin 'defence': did you mean 'defense'?"),
        (["new", "attack", "x", "--goal", "memebership"], "did you mean 'membership'?"),
        (
            ["new", "defense", "x", "--slot", "server"],
            "unknown slot 'server': did you mean 'serve'?",
        ),
        (["new", "model", "x", "--goal", "property"], "--goal property: a model has no goal"),
        (["check", "metric=auk"], "unknown metric 'auk': did you mean 'auc'?"),
        (["grid", "attack=lira,", "rmia"], "no space after a comma: write attack=lira,rmia"),
        (
            ["grid", "target", "=", "w", "seed=1"],
            "'target = w': no space around '=': write target=w",
        ),
        (["grid", "seed=1", "target=", "w"], "'target= w': no space around '=': write target=w"),
        (["run", "dataset.root=~/cxr"], "out of place: write \"target.dataset.root='~/cxr'\""),
        (["cache", "purge"], "unknown action 'purge': did you mean 'prune'?"),
        (["cache", "prune"], "what to prune? --days N"),
        (["cache", "prune", "--days", "-1"], "--days -1: zero or more"),
        (["completion", "tcsh"], "unknown shell 'tcsh'"),
        (["report", "nothing"], "unknown grid in results/grids 'nothing'"),
        (["report"], "no grid in results/grids: run medleak grid first"),
        (["explain", "abc"], "unknown row 'abc'"),
    ],
)
def test_requests_that_cannot_be_met(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert err.startswith("medleak")
    assert not out
    assert not list(tmp_path.iterdir())


def test_options_may_stand_between_overrides():
    words = ["attack=yeom", "--dry-run", "seed=0,1", "--jobs", "2", "~target.summary"]
    given = command_parser("grid").parse_intermixed_args(words)
    assert given.overrides == ["attack=yeom", "seed=0,1", "~target.summary"]
    assert (given.dry_run, given.jobs) == (True, 2)


class _Body:
    def __init__(self, raises):
        self.raises = raises

    def main(self, arguments):
        raise self.raises


@pytest.mark.parametrize(
    ("raised", "status", "line"),
    [
        (ConfigError("so it is"), 2, "medleak: so it is\n"),
        (KeyboardInterrupt(), 130, "medleak: interrupted\n"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 2, "No space left on device: f\n"),
    ],
)
def test_faults_become_a_line_and_a_status(raised, status, line, monkeypatch, capsys):
    monkeypatch.setattr("medleak.cli.dispatch.import_module", lambda name: _Body(raised))
    assert cli.main(["doctor"]) == status
    assert capsys.readouterr().err.endswith(line)


def test_debug_and_faults_of_the_program_show_their_traceback(monkeypatch):
    monkeypatch.setattr(
        "medleak.cli.dispatch.import_module", lambda name: _Body(ZeroDivisionError())
    )
    with pytest.raises(ZeroDivisionError):
        cli.main(["doctor"])
    monkeypatch.setattr("medleak.cli.dispatch.import_module", lambda name: _Body(ConfigError("x")))
    monkeypatch.setenv("MEDLEAK_DEBUG", "1")
    with pytest.raises(ConfigError):
        cli.main(["doctor"])


def test_a_reader_that_leaves_is_no_fault():
    command = [sys.executable, "-m", "medleak.cli", "list"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_plugins_before_or_after_the_command(tmp_path, capsys):
    for name in ("one", "two"):
        folder = tmp_path / name / "conf" / "attack"
        folder.mkdir(parents=True)
        text = "summary: s\n_target_: medleak.attacks.membership.yeom.Yeom\n"
        (folder / f"from_{name}.yaml").write_text(text)
    words = [
        "--plugins",
        str(tmp_path / "one"),
        "list",
        "--plugins",
        str(tmp_path / "two"),
        "attacks",
    ]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "from_one" in text
    assert "from_two" in text
    assert os.environ[plugins.VARIABLE].count(os.pathsep) == 1


# --------------------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("words", "some"),
    [
        ([], {"grid", "list", "--version"}),
        (["g"], {"grid"}),
        (["grid", "de"], {"demo", "defense="}),
        (["grid", "attack=yeom,l"], {"attack=yeom,lira"}),
        (["run", "--retry"], {"--retry-failed"}),
        (["list", "a"], {"attacks"}),
        (["cache", ""], {"size", "verify", "prune"}),
        (["check", "target=pneumonia_c"], {"target=pneumonia_cnn"}),
        (["run", "metrics=a"], {"metrics=auc"}),
        (["grid", "model=cnn,res"], {"model=cnn,resnet18"}),
        (["grid", "r"], {"recipe="}),
        (["check", "dataset=ph"], {"dataset=phantom"}),
        (["check", "metric=a"], {"metric=auc"}),
        (["list", "m"], {"models", "metrics"}),
        (["new", ""], {"attack", "defense", "dataset", "model", "recipe", "metric"}),
    ],
)
def test_candidates(words, some):
    found = completion.candidates(list(words) or [""])
    assert some <= set(found)
    assert all(candidate.startswith(words[-1] if words else "") for candidate in found)


@pytest.mark.parametrize("words", [["nothing", "x"], ["grid", "nothing="], ["doctor", "x"]])
def test_no_candidates(words):
    assert completion.candidates(words) == []


def test_completion_is_silent_about_faults(capsys):
    assert cli.main(["completion", "--complete", "--plugins", "/nowhere", "grid", ""]) == 0
    assert capsys.readouterr() == ("", "")


def test_completion_offers_the_names_of_plugin_folders(tmp_path):
    folder = tmp_path / "conf" / "attack"
    folder.mkdir(parents=True)
    (folder / "mine_only.yaml").write_text("name: mine_only\n")
    words = ["--plugins", str(tmp_path), "grid", "attack=mine"]
    assert completion.candidates(words) == ["attack=mine_only"]


@pytest.mark.parametrize("line", ["medleak gri", "medleak grid attack=yeom,lir"])
def test_bash_completes(line, tmp_path):
    """The script in a real bash, asked as readline asks."""
    (tmp_path / "medleak").write_text(f'#!/bin/sh\nexec {sys.executable} -m medleak.cli "$@"\n')
    (tmp_path / "medleak").chmod(0o755)
    script = tmp_path / "completion.bash"
    script.write_text(completion.BASH)
    asked = (
        f'source {script}; compopt() {{ :; }}; COMP_LINE="{line}"; COMP_POINT={len(line)}; '
        '_medleak; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", asked], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    expected = "grid" if line.endswith("gri") else "yeom,lira"
    assert done.stdout.split()[0] == expected, done


# --------------------------------------------------------------------------- the smaller commands


def test_doctor_says_all_problems_and_fails_with_any(capsys, tmp_path, monkeypatch):
    (tmp_path / "some.npz").write_bytes(b"x" * 2500)
    (tmp_path / "images").mkdir()
    monkeypatch.setenv("MEDLEAK_DATA", str(tmp_path))
    (tmp_path / "file").write_text("")
    assert cli.main(["doctor", "--store", str(tmp_path / "room")]) == 0
    capsys.readouterr()
    assert cli.main(["doctor", "--store", str(tmp_path / "file")]) == 1
    text = capsys.readouterr().out
    for part in ("Python 3", "torch ", "some.npz (2.5 kB)", "images/", "GPU: "):
        assert part in text
    assert "PROBLEM: store" in text
    monkeypatch.setenv("MEDLEAK_DATA", str(tmp_path / "gone"))
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "gone"))
    assert cli.main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "which is no folder" in text
    assert "PROBLEM: plugin folder" in text


def test_cache_counts_verifies_and_prunes(tmp_path, capsys):
    import numpy as np

    from medleak.core.store import Store

    store = Store(tmp_path)
    store.save("runs", "ab12", {}, {"w": np.zeros(1000, np.float32)})
    assert cli.main(["cache", "--store", str(tmp_path)]) == 0
    assert "runs              1" in capsys.readouterr().out
    assert cli.main(["cache", "verify", "--store", str(tmp_path)]) == 0
    assert "all sound" in capsys.readouterr().out
    for path in store.folder("runs", "ab12").iterdir():
        if path.stat().st_size > 3000:
            path.write_bytes(path.read_bytes()[:-9] + b"corrupted")
    assert cli.main(["cache", "verify", "--store", str(tmp_path)]) == 1
    assert "1 damaged: issue the grid's command again" in capsys.readouterr().out
    assert cli.main(["cache", "prune", "--all", "--store", str(tmp_path)]) == 0
    assert "deleted" in capsys.readouterr().out
    assert not store.keys("runs")


def test_pruning_refuses_a_folder_that_is_no_store(tmp_path, capsys):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp" / "letter.txt").write_text("mine")
    assert cli.main(["cache", "prune", "--all", "--store", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert (tmp_path / "tmp" / "letter.txt").exists()


@pytest.mark.parametrize("name", ["Lira", "9lives", "a-b", "class", "../x"])
def test_new_refuses_names_that_cannot_be(name, tmp_path, capsys):
    assert cli.main(["new", "attack", name, "--dir", str(tmp_path)]) == 2
    assert "cannot name an attack" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_new_refuses_names_that_are_taken(tmp_path, capsys):
    for name, message in {"lira": "exists already", "json": "installed module"}.items():
        assert cli.main(["new", "attack", name, "--dir", str(tmp_path)]) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "test_idea.py").write_text("mine")
    assert cli.main(["new", "attack", "idea", "--dir", str(tmp_path)]) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["test_idea.py"]


def test_check_says_what_is_wrong(tmp_path, capsys):
    (tmp_path / "silent_fault.py").write_text(
        "from medleak.api import Attack, ThreatModel\n\n\n"
        'class Fault(Attack):\n    """Returns nothing of use."""\n\n'
        '    requires = ThreatModel(goal="membership", access="scores")\n    paper = "none"\n\n'
        "    def run(self, release, challenge):\n        return [0.0]\n"
    )
    folder = tmp_path / "conf" / "attack"
    folder.mkdir(parents=True)
    (folder / "silent_fault.yaml").write_text("_target_: silent_fault.Fault\n")
    assert cli.main(["--plugins", str(tmp_path), "check", "attack=silent_fault"]) == 1
    text = capsys.readouterr().out
    assert "silent_fault: 1 problem\n" in text
    assert "shape (1,)" in text


def test_check_says_which_attack_no_example_suits(tmp_path, capsys):
    (tmp_path / "silent_service.py").write_text(
        "from medleak.api import Attack, ThreatModel\n\n\n"
        'class Service(Attack):\n    """Reads what is encrypted."""\n\n'
        '    requires = ThreatModel(goal="membership", access="ciphertext")\n    paper = "none"\n\n'
        "    def run(self, release, challenge):\n        return [0.0] * len(challenge)\n"
    )
    folder = tmp_path / "conf" / "attack"
    folder.mkdir(parents=True)
    (folder / "silent_service.yaml").write_text("_target_: silent_service.Service\n")
    assert cli.main(["--plugins", str(tmp_path), "check", "attack=silent_service,yeom"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("attack=silent_service: not exercised: ")
    assert "view 'ciphertext'" in first
    assert second == "attack=yeom: ok"

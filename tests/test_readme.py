"""The README shows what was published, its links lead somewhere, and its commands can be typed as they stand."""

import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from medleak.cli.arguments import COMMANDS, command_parser, top_parser

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = (README, ROOT / "docs" / "decisions.md")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b")
"""FILE, DIR, NAME ...: the reader's own."""


def _typed() -> list[list[str]]:
    """The words of every command of a console block, without the prompt and the comments."""
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
    return [words[1:] for words in commands if words and words[0] == "medleak"]


def _mentioned() -> list[list[str]]:
    """The words of every command that a sentence or a table names."""
    found = re.findall(r"`medleak ([^`]+)`", README.read_text())
    return [shlex.split(text) for text in found]


def _parsed(words):
    """The name and the arguments of a command; leaves as the command line itself would."""
    given = top_parser().parse_args([word for word in words if word != "--help"])
    assert given.command in COMMANDS, words
    return given, command_parser(given.command).parse_intermixed_args(given.rest)


TYPED, MENTIONED = _typed(), _mentioned()
REQUESTS = [words for words in TYPED + MENTIONED if words[0] in ("run", "grid")]
OF_PLUGINS = [words for words in TYPED if "plugins" in words]


def test_the_result_is_the_published_one():
    command = [sys.executable, str(ROOT / "tools" / "readme_result.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run tools/readme_result.py"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", document.read_text())
    assert not [link for link in links if not (document.parent / link).exists()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_module_and_object_exists(document):
    for name in re.findall(r"`(medleak(?:\.\w+)+)`", document.read_text()):
        module, _, last = name.rpartition(".")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            assert hasattr(importlib.import_module(module), last), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_exists(document):
    rooms = "medleak|attacks|defenses|targets|conf|docs|results|tests|tools"
    paths = re.findall(rf"`((?:{rooms})/[\w/.]*)`", document.read_text())
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_examples_are_found():
    assert {"grid", "run", "new"} <= {words[0] for words in TYPED}
    assert {"audit", "explain", "doctor", "check"} <= {words[0] for words in MENTIONED}
    assert len(OF_PLUGINS) >= 3


@pytest.mark.parametrize("words", TYPED + MENTIONED, ids=" ".join)
def test_every_command_is_understood(words):
    _parsed(words)


def test_every_option_belongs_to_a_command():
    parsers = [top_parser(), *map(command_parser, COMMANDS)]
    known = {flag for parser in parsers for flag in parser._option_string_actions}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README.read_text()))
    assert named
    assert not named - known


@pytest.mark.parametrize("words", REQUESTS, ids=" ".join)
def test_every_grid_names_what_there_is(words):
    """Saved grids, options of every axis and keys; nothing is loaded or trained."""
    from medleak.config.compose import expand_all
    from medleak.config.saved_grids import gather

    overrides = _parsed(words)[1].overrides
    assert not any(map(PLACEHOLDER.fullmatch, overrides))
    request = gather(overrides)
    assert all(expand_all([part.overrides for part in request.parts]))


@pytest.mark.parametrize("words", [w for w in TYPED if w[0] == "new"], ids=" ".join)
def test_every_kind_of_plugin_exists(words):
    from medleak.cli.new import chosen_variant

    given = _parsed(words)[1]
    assert chosen_variant(given.kind, {"goal": given.goal, "slot": given.slot})


def test_the_plugin_of_the_readme_works(tmp_path):
    """`new`, `check` and `grid` in the order of the README, in an empty folder."""
    environment = {**os.environ, "MEDLEAK_STORE": str(tmp_path / "store")}
    environment.pop("MEDLEAK_PLUGINS", None)
    for words in OF_PLUGINS:
        planned = [*words, "--dry-run"] if "grid" in words else words
        command = [sys.executable, "-m", "medleak.cli", *planned]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
        )
        assert done.returncode == 0, (words, done.stderr)

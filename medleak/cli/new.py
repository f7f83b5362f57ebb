"""``medleak new KIND NAME``: a plugin that passes `check` at once, to be filled with an idea.

Each kind has a folder of templates, real files in which a few words stand for what is asked for.
"""

from __future__ import annotations

import keyword
import re
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from medleak.api import ConfigError
from medleak.cli.arguments import NEW
from medleak.config.plugins import options
from medleak.core.suggestions import unknown

TEMPLATES = Path(__file__).parent / "templates"
VARIANTS = {
    "attack": ("goal", "membership"),
    "metric": ("goal", "membership"),
    "defense": ("slot", "serve"),
}
"""Kind -> the option that chooses among its templates, and the default; other kinds have one."""


def main(arguments: Namespace) -> int:
    folder = Path(arguments.dir)
    given = {"goal": arguments.goal, "slot": arguments.slot}
    variant = chosen_variant(arguments.kind, given)
    files = scaffold(arguments.kind, arguments.name, folder, variant)
    write(files)
    for path in files:
        print(f"wrote {path}")
    print(f"next: medleak --plugins {folder} check {arguments.kind}={arguments.name}")
    return 0


def chosen_variant(kind: str, given: dict[str, str | None]) -> str:
    """Which template of `kind` is asked for: a goal, a slot, or the only one.

    Raises:
        ConfigError: an unknown kind or variant, or an option that the kind does not have.
    """
    if kind not in NEW:
        raise ConfigError(unknown("kind of plugin", kind, NEW))
    option, default = VARIANTS.get(kind, ("", kind))
    for name, value in given.items():
        if value is not None and name != option:
            raise ConfigError(f"--{name} {value}: a {kind} has no {name}")
    variant = given.get(option) or default
    choices = [path.stem for path in (TEMPLATES / kind).glob("*.py")]
    if variant not in choices:
        raise ConfigError(unknown(option, variant, choices))
    return variant


def scaffold(kind: str, name: str, folder: Path, variant: str) -> dict[Path, str]:
    """Path -> content of a new plugin: module, YAML and test.

    Raises:
        ConfigError: a name that cannot be one, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        article = "an" if kind[0] in "aeiou" else "a"
        raise ConfigError(
            f"'{name}' cannot name {article} {kind}: lower case letters, digits and _ only"
        )
    known = options(kind)
    if name in known:
        raise ConfigError(f"{kind} '{name}' exists already: {known[name].file}")
    if find_spec(name) is not None:
        raise ConfigError(f"'{name}' is the name of an installed module: choose another")
    title = name.replace("_", " ").capitalize()
    words = {
        "plugin_name": name,
        "plugin_kind": kind,
        "PluginName": title.title().replace(" ", ""),
        "Plugin title": title,
    }
    place = TEMPLATES / kind / variant
    files = {
        folder / f"{name}.py": _filled(place.with_suffix(".py"), words),
        folder / "conf" / kind / f"{name}.yaml": _filled(place.with_suffix(".yaml"), words),
        folder / f"test_{name}.py": _filled(TEMPLATES / "test_plugin.py", words),
    }
    if kind == "goal":  # a goal that no attack is after could not be tried
        attack = folder / "conf" / "attack" / f"{name}_attack.yaml"
        files[attack] = _filled(TEMPLATES / kind / "attack.yaml", words)
    return files


def _filled(template: Path, words: dict[str, str]) -> str:
    text = template.read_text()
    for word, meant in words.items():
        text = text.replace(word, meant)
    return text


def write(files: dict[Path, str]) -> None:
    """Write all of them, or none where one exists.

    Raises:
        ConfigError: a file exists, or cannot be written.
    """
    for path in files:
        if path.exists():
            raise ConfigError(f"'{path}' exists already")
    for path, content in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        except OSError as error:
            raise ConfigError(f"'{path}' cannot be written: {error.strerror}") from None

"""Where YAMLs come from: medleak's own `conf/`, installed plugins, and plugin folders.

A plugin is either a package named under the entry-point group ``medleak.plugins``, with a `conf/`
inside, or a folder (``--plugins DIR``, or MEDLEAK_PLUGINS) that holds ``my_attack.py`` and
``conf/attack/my_attack.yaml``. Only the standard library is imported here, so that completion and
`list` answer at once.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ENTRY_POINTS = "medleak.plugins"
VARIABLE = "MEDLEAK_PLUGINS"
BUILT_IN = "built in"
GROUPS = (
    "target", "dataset", "model", "recipe", "defense", "attack", "goal", "metric", "grid",
    "artefact", "mechanism", "utility", "executor", "runtime",
)  # fmt: skip
"""The folders of a `conf/`; a plugin may bring options of any of them."""
UNLISTED = ("artefact", "mechanism", "utility", "executor", "runtime")
LISTED = tuple(group for group in GROUPS if group not in UNLISTED)
"""What `medleak list` shows."""


class Source(NamedTuple):
    """A folder of YAMLs: `package` is importable by name, `folder` has to be put on the path."""

    name: str
    conf: Path
    package: str | None = None
    folder: Path | None = None


class Option(NamedTuple):
    """One YAML of a group."""

    file: Path
    source: str


def add_folders(folders: Iterable[str | os.PathLike]) -> None:
    """Register plugin folders for this process and the workers that it starts.

    Raises:
        ConfigError: no such folder, or no `conf/` in it.
    """
    known = _folders()
    # The environment is the register: worker processes inherit it.
    new = [path for path in (Path(folder).resolve() for folder in folders) if path not in known]
    if new:
        os.environ[VARIABLE] = os.pathsep.join(map(str, [*known, *new]))
    for path in new:
        _conf_of_folder(path)


def sources() -> list[Source]:
    """Every folder of YAMLs, medleak's own first.

    Raises:
        ConfigError: a plugin that is registered but cannot be found, or has no `conf/`.
    """
    built_in = Source(BUILT_IN, _conf_of_package("medleak"), "medleak")
    folders = [Source(path.name, _conf_of_folder(path), None, path) for path in _folders()]
    return [built_in, *_installed(), *folders]


def search_path() -> list[Path]:
    """The folders that hold groups of YAMLs, medleak's own first."""
    return [source.conf for source in sources()]


def options(group: str) -> dict[str, Option]:
    """The YAMLs of `group` by name, sorted.

    Raises:
        ConfigError: two sources offer the same name.
    """
    found: dict[str, Option] = {}
    for source in sources():
        for file in sorted((source.conf / group).glob("*.yaml")):
            if file.stem in found:
                first = found[file.stem].source
                _refuse(f"{group} '{file.stem}' is offered twice: by {first} and by {source.name}")
            found[file.stem] = Option(file, source.name)
    return dict(sorted(found.items()))


def folders_of(chosen: Iterable[tuple[str, str]]) -> list[str]:
    """The plugin folders that offer the `chosen` (group, name), for a command to name again.

    `chosen` is not read where there are no folders.
    """
    folders = _folders()
    pairs = list(chosen) if folders else []
    offered = {folder: (folder / "conf").glob("*/*.yaml") for folder in folders}
    return [
        str(folder)
        for folder, files in offered.items()
        if any((file.parent.name, file.stem) in pairs for file in files)
    ]


def enable() -> None:
    """Let `_target_` name the classes of every plugin; also for worker processes to call."""
    from medleak.config import instantiate as components

    for source in sources():
        if source.package:
            components.allow(source.package)
        if source.folder:
            components.add_plugin_folder(source.folder)


def _folders() -> list[Path]:
    paths = (part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part.strip())
    return list(dict.fromkeys(Path(part).expanduser().resolve() for part in paths))


def _installed() -> tuple[Source, ...]:
    return _installed_on(tuple(sys.path))


@functools.cache
def _installed_on(path: tuple[str, ...]) -> tuple[Source, ...]:
    from importlib.metadata import entry_points

    named = {point.name: point.module for point in entry_points(group=ENTRY_POINTS)}
    return tuple(
        Source(name, _conf_of_package(module, name), module.partition(".")[0])
        for name, module in sorted(named.items())
    )


def _conf_of_package(package: str, plugin: str = "medleak") -> Path:
    try:
        # medleak.conf lies elsewhere in a checkout, so it is asked for by its own name.
        spec = find_spec("medleak.conf" if package == "medleak" else package)
    except (ImportError, ValueError):
        spec = None
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        _refuse(f"plugin '{plugin}' names package '{package}', which cannot be found")
    conf = Path(places[0]) if package == "medleak" else Path(places[0]) / "conf"
    if not conf.is_dir():
        _refuse(f"plugin '{plugin}': package '{package}' has no folder conf/")
    return conf


def _conf_of_folder(folder: Path) -> Path:
    if not folder.is_dir():
        _refuse(f"plugin folder '{folder}' does not exist")
    if not (folder / "conf").is_dir():
        _refuse(f"plugin folder '{folder}' has no folder conf/")
    return folder / "conf"


def _refuse(message: str) -> None:
    from medleak.api import ConfigError

    raise ConfigError(message)

"""From overrides to resolved configurations: the only module that knows Hydra.

Every axis of Hydra's override grammar is a sweep, and the product of all axes is the list of jobs.
Hydra needs tens of milliseconds per composition, so each option of a group is composed once, jobs
are put together from these parts, and plain values are set without composing again.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medleak import plugins
from medleak.api import ConfigError
from medleak.messages import unknown
from medleak.plugins import options, search_path
from medleak.values import put, whole

SUBJECTS = ("target", "defense", "attack")
GROUPS = (*SUBJECTS, "executor", "runtime")
SCALARS = ("seed", "n_members", "n_shadows", "metrics")
MOST_JOBS = 100_000
TOO_MANY = f"more than {MOST_JOBS} jobs: narrow an axis"
STORE, STORE_VARIABLE = "results/store", "MEDLEAK_STORE"

__all__ = ["Job", "expand", "initialise", "metrics", "options", "search_path"]


@dataclass(frozen=True)
class Job:
    """One cell as asked for.

    Attributes:
        overrides: what repeats its numbers on the command line; not where and how it ran.
        axes: coordinate -> value: target, defense, attack, seed, n_members, and whatever else was
            given ("target.recipe.epochs").
        config: resolved; target, defense, attack, executor, runtime (blocks), seed, n_members,
            n_shadows, metrics. Blocks are shared between jobs: read only.
    """

    overrides: tuple[str, ...]
    axes: Mapping[str, Any]
    config: Mapping[str, Any]


def initialise(folders: Iterable[str | os.PathLike] = ()) -> None:
    """Register plugin `folders` beside those of MEDLEAK_PLUGINS and the installed plugins.

    Raises:
        ConfigError: a plugin that cannot be found, or has no `conf/`.
    """
    plugins.add_folders(folders)
    plugins.enable()


def expand(overrides: Sequence[str]) -> list[Job]:
    """Every job that `overrides` ask for; the axis given last varies fastest.

    Raises:
        ConfigError: in one line, whatever is wrong with the overrides or the YAMLs.
    """
    initialise()
    axes = [_axis(text) for text in overrides]
    _refuse_twice([axis[0] for axis in axes])
    points = list(itertools.islice(itertools.product(*axes), MOST_JOBS + 1))
    if len(points) > MOST_JOBS:
        raise ConfigError(TOO_MANY)
    with _hydra():
        composer = _Composer()
        composer.prepare(axes)
        return [composer.job(point) for point in points]


def metrics() -> dict[str, dict[str, Any]]:
    """Every metric YAML by name, those of plugins included.

    Raises:
        ConfigError: a YAML that does not parse, or has no `_target_`.
    """
    return {name: _read_metric(name, option.file) for name, option in options("metric").items()}


def _read_metric(name: str, file: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    try:
        block = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except Exception as error:
        raise ConfigError(f"{file}: {_one_line(error)}") from None
    if not isinstance(block, dict) or "_target_" not in block:
        raise ConfigError(f"{file} names no _target_")
    return {"name": name, **block}


# --------------------------------------------------------------------------- reading overrides


@dataclass(frozen=True)
class _Override:
    """One point of one axis: `key` without package, `prefix` as typed ("", "+", "++", "~")."""

    text: str
    prefix: str
    key: str
    package: str | None
    value: Any

    @property
    def plain(self) -> bool:
        return not self.prefix and self.package is None


def _axis(text: str) -> list[_Override]:
    """The points of one override."""
    if not text.startswith("~") and "=" not in text:
        raise ConfigError(f"'{text}' is no override: write key=value")
    parsed = _parse(text)
    if parsed.is_hydra_override():
        raise ConfigError(f"'{text}': Hydra's own settings have no effect here")
    if not parsed.is_sweep_override():
        return [_point(parsed, text)]
    _refuse_sweep(parsed, text)
    return list(
        {point.text: point for point in map(_pointing(parsed), _values(parsed, text))}.values()
    )


def _pointing(parsed: Any) -> Callable[[Any], _Override]:
    """A function from one value of a sweep to the override that sets it."""
    from hydra.core.override_parser.types import ValueType

    def point(value: Any) -> _Override:
        one = replace(parsed, value_type=ValueType.ELEMENT, _value=value)
        return _point(one, f"{one.get_key_element()}={one.get_value_element_as_str()}")

    return point


def _point(parsed: Any, text: str) -> _Override:
    value = None if parsed.is_delete() else parsed.value()
    key = parsed.key_or_group
    prefix = parsed.get_key_element().partition(key)[0]
    point = _Override(text, prefix, key, parsed.package, value)
    if key in GROUPS and not parsed.is_delete():
        return _option(point)
    if key in SCALARS:
        return replace(point, value=_scalar(point))
    if not parsed.package and key.split(".")[0].split("/")[0] not in GROUPS:
        raise ConfigError(unknown("key", key, [*GROUPS, *SCALARS]))
    return point


def _option(point: _Override) -> _Override:
    """A group given by the name of one of its options."""
    key, value = point.key, point.value
    if isinstance(value, list):
        names = ",".join(map(str, value))
        raise ConfigError(
            f"{point.text}: a list would merge its options into one: write {key}={names}"
        )
    if isinstance(value, Mapping) or value is None:
        shown = "null" if value is None else "a block"
        raise ConfigError(
            f"{key} is chosen by name, not by {shown} (choices: {', '.join(options(key))})"
        )
    if str(value) not in options(key):
        raise ConfigError(unknown(key, value, options(key)))
    return replace(point, value=str(value))


def _scalar(point: _Override) -> Any:
    key, value = point.key, point.value
    if not point.plain:
        raise ConfigError(f"'{point.text}': {key} is always there: write {key}=VALUE")
    if key == "metrics":
        return _metric_names(value)
    return whole(key, value, least=0 if key == "seed" else 1, null=key != "seed")


def _metric_names(value: Any) -> list[str] | None:
    if value is None:
        return None
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name not in options("metric"):
            raise ConfigError(unknown("metric", name, options("metric")))
    return list(map(str, names))


def _parse(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_overrides([text])[0]
    except HydraException as error:
        reason = re.sub(r"LexerNoViableAlt.*", "a character out of place", _one_line(error))
        reason = re.sub(r" expecting {.*", "", reason.replace("'<EOF>'", "the end"))
        raise ConfigError(f"cannot read '{text}': {reason}") from None


def _refuse_sweep(parsed: Any, text: str) -> None:
    if parsed.is_interval_sweep():
        raise ConfigError(f"{text}: an interval has no end of values: use range(..) or choice(..)")
    if getattr(parsed.value(), "shuffle", False):
        raise ConfigError(f"{text}: a grid has no order to shuffle")
    root = re.split(r"[./]", parsed.key_or_group)[0]
    if root == "metrics":
        raise ConfigError(f"{text}: metrics are measured together: write metrics=[a,b]")
    if root in ("executor", "runtime"):
        raise ConfigError(f"{text}: {root} is no axis: it changes no number")


def _values(parsed: Any, text: str) -> list[Any]:
    """The values of a sweep, as parsed."""
    from hydra.core.override_parser.types import Glob

    key, value = parsed.key_or_group, parsed.value()
    if isinstance(value, Glob):
        if key not in GROUPS:
            raise ConfigError(f"{text}: glob(..) chooses options of {', '.join(SUBJECTS)} only")
        values = value.filter(list(options(key)))
        if not values:
            raise ConfigError(f"{text} matches nothing (choices: {', '.join(options(key))})")
        return values
    try:
        values = list(itertools.islice(parsed.sweep_iterator(), MOST_JOBS + 1))
    except Exception as error:
        raise ConfigError(f"cannot read '{text}': {_one_line(error)}") from None
    if not values:
        raise ConfigError(f"{text} names no value")
    if len(values) > MOST_JOBS:
        raise ConfigError(f"{text}: {TOO_MANY}")
    return values


def _refuse_twice(first: Sequence[_Override]) -> None:
    seen: dict[tuple[str, str | None], str] = {}
    for point in first:
        place = (point.key, point.package)
        if place in seen:
            raise ConfigError(f"{point.key} is given twice: write {point.key}=A,B for both")
        seen[place] = point.text
    if ("n_shadows", None) in seen and ("attack.knowledge.n_shadows", None) in seen:
        raise ConfigError("n_shadows replaces attack.knowledge.n_shadows: give one of them")


# --------------------------------------------------------------------------- composing


class _Composer:
    """Puts jobs together; remembers what Hydra composed while it lives."""

    def __init__(self) -> None:
        self._composed: dict[tuple[str, ...], dict[str, Any]] = {}
        self._parts: dict[tuple[str, str], dict[str, Any]] = {}
        self._blocks: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._alone: dict[tuple[str, str], bool] = {}
        self._root = self._compose(())
        self._chosen = {group: self._root["_choices"][group] for group in GROUPS}

    def job(self, point: Sequence[_Override]) -> Job:
        """The job at `point`."""
        choices = {p.key: p.value for p in point if p.plain and p.key in GROUPS}
        scalars = {p.key: p.value for p in point if p.key in SCALARS}
        nested = [p for p in point if p.key not in choices and p.key not in scalars]
        config = self._blocks_for(choices, nested)
        config |= {name: self._root[name] for name in SCALARS} | scalars
        config = _resolved(config)
        _check_runtime(config)
        # How and where it runs changes no number, and paths have no place in published rows.
        texts = (p.text for p in point if _root(p) not in ("executor", "runtime"))
        return Job(tuple(texts), _axes(config, point), config)

    def prepare(self, axes: Sequence[Sequence[_Override]]) -> None:
        """Compose every option of every group once, one of each group at a time."""
        names = {group: [self._chosen[group]] for group in GROUPS}
        names |= {a[0].key: [p.value for p in a] for a in axes if a[0].plain and a[0].key in GROUPS}
        for i in range(max(map(len, names.values()))):
            chosen = {group: some[i % len(some)] for group, some in names.items()}
            if all(self._stands_alone(*item) for item in chosen.items()):
                self._compose_parts(chosen)

    def _compose_parts(self, chosen: Mapping[str, str]) -> None:
        """Compose the chosen options together, and keep each as a part."""
        changed = (f"{g}={option}" for g, option in chosen.items() if option != self._chosen[g])
        composed = self._compose(tuple(changed))
        self._parts |= {item: composed for item in chosen.items()}

    def _part(self, group: str, chosen: Mapping[str, str]) -> dict[str, Any]:
        """A composition that holds the chosen option of `group`."""
        if (group, chosen[group]) not in self._parts:
            self._compose_parts(chosen)
        return self._parts[group, chosen[group]]

    def _blocks_for(
        self, choices: Mapping[str, str], nested: Sequence[_Override]
    ) -> dict[str, Any]:
        chosen = {**self._chosen, **choices}
        simple = all(_settable(p) for p in nested)
        if simple and all(self._stands_alone(*item) for item in chosen.items()):
            whole_of = {group: self._part(group, chosen) for group in GROUPS}
        else:
            # Hydra alone knows what additions, removals, packages and defaults lists do.
            hard = [p.text for p in nested if not _settable(p)]
            composed = self._compose((*(f"{g}={n}" for g, n in choices.items()), *hard))
            whole_of = dict.fromkeys(GROUPS, composed)
        return {
            group: self._block(group, chosen[group], whole_of[group], nested) for group in GROUPS
        }

    def _block(
        self, group: str, option: str, composed: Mapping[str, Any], nested: Sequence[_Override]
    ) -> dict[str, Any]:
        if group not in composed:
            raise ConfigError(f"{group} cannot be left out (choices: {', '.join(options(group))})")
        mine = [p for p in nested if _settable(p) and p.key.startswith(f"{group}.")]
        key = (id(composed), group, tuple(p.text for p in mine))
        if key not in self._blocks:
            block = copy.deepcopy(composed[group])
            for override in mine:
                put(block, override.key, override.value, f"{group}={option}")
            self._blocks[key] = _named(block, group, option)
        return self._blocks[key]

    def _stands_alone(self, group: str, option: str) -> bool:
        """Whether the YAML only fills its own block, so that it can be composed beside any other."""
        if (group, option) not in self._alone:
            text = options(group)[option].file.read_text()
            reaches_out = re.search(r"^(# *@package|defaults *:)", text, re.MULTILINE)
            self._alone[group, option] = reaches_out is None
        return self._alone[group, option]

    def _compose(self, overrides: tuple[str, ...]) -> dict[str, Any]:
        if overrides not in self._composed:
            self._composed[overrides] = _compose(overrides)
        return self._composed[overrides]


def _compose(overrides: tuple[str, ...]) -> dict[str, Any]:
    """One composition by Hydra, interpolations unresolved; `_choices` says option by group."""
    from hydra import compose
    from omegaconf import OmegaConf, open_dict

    try:
        composed = compose("config", list(overrides), return_hydra_config=True)
        choices = dict(composed.hydra.runtime.choices)
        with open_dict(composed):
            del composed["hydra"]
        plain = OmegaConf.to_container(composed, resolve=False)
    except Exception as error:
        given = f"{' '.join(overrides)}: " if overrides else ""
        raise ConfigError(f"{given}{_one_line(error)}") from None
    for name in plain:
        if name not in (*GROUPS, *SCALARS):
            raise ConfigError(unknown("key", name, [*GROUPS, *SCALARS]))
    return {**plain, "_choices": choices}


def _root(point: _Override) -> str:
    return re.split(r"[./]", point.key)[0]


def _settable(point: _Override) -> bool:
    return point.plain and "." in point.key and not isinstance(point.value, Mapping)


def _named(block: Any, group: str, option: str) -> dict[str, Any]:
    """`block` with its name, which must be the name of its file."""
    if not isinstance(block, dict):
        raise ConfigError(f"{group}={option}: the YAML is not a block of keys")
    if group not in SUBJECTS:
        return block
    name = block.setdefault("name", option)
    if name != option:
        raise ConfigError(f"{group}={option}: the YAML is named '{name}', its file '{option}'")
    return block


def _resolved(config: dict[str, Any]) -> dict[str, Any]:
    if not any("${" in str(value) for value in config.values()):
        return dict(config)
    from omegaconf import OmegaConf

    try:
        return OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    except Exception as error:
        raise ConfigError(_one_line(error)) from None


def _check_runtime(config: dict[str, Any]) -> None:
    runtime = config["runtime"]
    device = str(runtime.get("device"))
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise ConfigError(unknown("runtime.device", device, ["auto", "cpu", "cuda"]))
    for key in ("store", "out"):
        if not isinstance(runtime.get(key), str | None):
            raise ConfigError(f"runtime.{key}={runtime[key]!r}: a folder is needed")
    config["runtime"] = {**runtime, "store": runtime.get("store") or default_store()}
    whole("executor.jobs", config["executor"].get("jobs"), least=1, null=True)


def default_store() -> str:
    """Where the store lies unless the runtime says otherwise."""
    return os.environ.get(STORE_VARIABLE) or STORE


def _axes(config: Mapping[str, Any], point: Sequence[_Override]) -> dict[str, Any]:
    axes = {group: config[group]["name"] for group in SUBJECTS}
    own = (config["target"].get("split") or {}).get("n_members")
    axes |= {"seed": config["seed"], "n_members": config["n_members"] or own}
    aside = (*GROUPS, *SCALARS)
    for override in point:
        if override.key not in aside and _root(override) in SUBJECTS:
            value = "removed" if override.prefix == "~" else override.value
            axes[f"{override.key}@{override.package}" if override.package else override.key] = value
    if config["n_shadows"] and (config["attack"].get("knowledge") or {}).get("n_shadows"):
        axes["n_shadows"] = config["n_shadows"]
    return axes


@contextlib.contextmanager
def _hydra() -> Iterator[None]:
    """Hydra on our search path while the context lasts; one that the caller started is kept."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.version import VersionBase

    Plugins.instance().register(_search_path_plugin())
    callers, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(search_path()[0]), job_name="medleak", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = callers
        VersionBase.instance().version_base = base


@functools.cache
def _search_path_plugin() -> type:
    from hydra.plugins.search_path_plugin import SearchPathPlugin

    class MedleakPlugins(SearchPathPlugin):
        """Adds the YAMLs of plugins, for medleak's own configuration only."""

        def manipulate_search_path(self, search_path: Any) -> None:
            main = [item.path for item in search_path.get_path() if item.provider == "main"]
            own, *others = map(str, plugins.search_path())
            for conf in others if main == [own] else ():
                search_path.append("medleak", f"file://{conf}")

    return MedleakPlugins


def _one_line(error: BaseException) -> str:
    """The first line that says something, down the chain of causes."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"{mark.name}, line {mark.line + 1}: {getattr(error, 'problem', '')}"
    for line in str(error).splitlines():
        if line.strip() and not line.startswith("Error parsing override"):
            return line.strip().rstrip(".:")
    return _one_line(error.__cause__) if error.__cause__ else type(error).__name__

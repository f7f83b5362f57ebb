"""From overrides to resolved configurations: with `overrides` and `hydra_search` all that knows Hydra.

Every axis of Hydra's override grammar is a sweep, and the product of all axes is the list of jobs.
Hydra needs tens of milliseconds per composition, so each option of a group is composed once, jobs
are put together from these parts, and plain values are set without composing again.
"""

from __future__ import annotations

import copy
import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medleak.api import ConfigError
from medleak.config import plugins
from medleak.config.hydra_search import expanding, hydra_started
from medleak.config.override_types import put, refit
from medleak.config.overrides import (
    GROUPS,
    MOST_JOBS,
    SCALARS,
    SUBJECTS,
    TOO_MANY,
    Override,
    one_line,
    read_axis,
    refuse_resolvers,
    refuse_twice,
)
from medleak.config.plugins import options, search_path
from medleak.config.presets import PARTS, expanded
from medleak.core.suggestions import unknown
from medleak.core.validation import whole

KEYS = {
    "target": {"name", "summary", "dataset", "model", "recipe", "split", "evaluator"},
    "defense": {"name", "summary", "slots"},
    "runtime": {"name", "summary", "device", "store", "out"},
}
STORE, STORE_VARIABLE = "results/store", "MEDLEAK_STORE"

__all__ = [
    "SUBJECTS",
    "Job",
    "expand",
    "expand_all",
    "initialise",
    "metrics",
    "options",
    "search_path",
]


@dataclass(frozen=True)
class Job:
    """One cell as asked for.

    Attributes:
        overrides: what repeats its numbers on the command line; not where and how it ran.
        axes: coordinate -> value: target, defense, attack, seed, n_members, and whatever else was
            given ("model", "target.recipe.epochs").
        config: resolved; target, defense, attack, executor, runtime (blocks), seed, n_members,
            n_shadows, metrics. Blocks are shared between jobs: read only.
        not_run: why the cell is listed without being measured, where a saved grid says so.
    """

    overrides: tuple[str, ...]
    axes: Mapping[str, Any]
    config: Mapping[str, Any]
    not_run: str = ""


def initialise(folders: Iterable[str | os.PathLike] = ()) -> None:
    """Register plugin `folders` in addition to those of MEDLEAK_PLUGINS and the installed plugins.

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
    [jobs] = expand_all([overrides])
    return jobs


def expand_all(products: Iterable[Sequence[str]]) -> list[list[Job]]:
    """`expand` of each of `products`; what they share is composed once.

    Raises:
        ConfigError: as `expand`.
    """
    initialise()
    axes = [[read_axis(text) for text in overrides] for overrides in products]
    for product in axes:
        refuse_twice([axis[0] for axis in product])
    if sum(math.prod(map(len, product)) for product in axes) > MOST_JOBS:
        raise ConfigError(TOO_MANY)
    with hydra_started():
        composer = _Composer()
        for product in axes:
            composer.prepare(product)
        return [[composer.job(point) for point in itertools.product(*product)] for product in axes]


def metrics() -> dict[str, dict[str, Any]]:
    """Every metric YAML by name, those of plugins included.

    Raises:
        ConfigError: a YAML that does not parse, or has no `_target_`.
    """
    return {
        name: {"name": name, **_read(option.file, resolve=True)}
        for name, option in options("metric").items()
    }


def _read(file: Path, *, resolve: bool = False) -> dict[str, Any]:
    """The YAML of a component; `resolve` fills interpolations in, which can then name its own keys."""
    from omegaconf import OmegaConf

    try:
        loaded = OmegaConf.load(file)
        refuse_resolvers(OmegaConf.to_container(loaded), str(file))
        block = OmegaConf.to_container(loaded, resolve=resolve)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{file}: {one_line(error)}") from None
    if not isinstance(block, dict) or "_target_" not in block:
        raise ConfigError(f"{file} names no _target_")
    return block


class _Composer:
    """Puts jobs together; remembers what Hydra composed while it lives."""

    def __init__(self) -> None:
        self._composed: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._options: dict[tuple[str, str], dict[str, Any]] = {}
        self._parts: dict[tuple[str, str], dict[str, Any]] = {}
        self._blocks: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._alone: dict[tuple[str, str], bool] = {}
        self._root = self._compose(())
        self._chosen = {group: self._root["_choices"][group] for group in GROUPS}

    def job(self, point: Sequence[Override]) -> Job:
        """The job at `point`."""
        choices = {p.key: p.value for p in point if p.plain and p.key in (*GROUPS, *PARTS)}
        scalars = {p.key: p.value for p in point if p.key in SCALARS}
        nested = [p for p in point if p.key not in choices and p.key not in scalars]
        config = self._blocks_for(choices, nested)
        config |= {name: self._root[name] for name in SCALARS} | scalars
        config = _resolved(config)
        for p in nested:
            if p.settable and "${" in str(p.value):
                refit(config[p.root], p.key, _origin(p.key, {**self._chosen, **choices}))
        _check_keys(config)
        _check_runtime(config)
        # How and where it runs changes no number, and paths have no place in published rows.
        texts = (p.text for p in point if p.root not in ("executor", "runtime"))
        return Job(tuple(texts), _axes(config, point), config)

    def prepare(self, axes: Sequence[Sequence[Override]]) -> None:
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

    def _blocks_for(self, choices: Mapping[str, str], nested: Sequence[Override]) -> dict[str, Any]:
        chosen = {**self._chosen, **choices}
        options_of = {group: chosen[group] for group in GROUPS}
        parts = tuple((part, chosen[part]) for part in PARTS if part in chosen)
        simple = all(p.settable for p in nested)
        if simple and all(self._stands_alone(*item) for item in options_of.items()):
            whole_of = {group: self._part(group, options_of) for group in GROUPS}
            whole_of["target"] = self._with_parts(whole_of["target"], parts)
        else:
            # Hydra alone knows what additions, removals, packages and defaults lists do.
            hard = [p.text for p in nested if not p.settable]
            named = [f"{g}={n}" for g, n in choices.items() if g in GROUPS]
            whole_of = dict.fromkeys(GROUPS, self._compose((*named, *hard), parts))
        return {group: self._block(group, chosen, whole_of[group], nested) for group in GROUPS}

    def _with_parts(
        self, composed: Mapping[str, Any], parts: tuple[tuple[str, str], ...]
    ) -> Mapping[str, Any]:
        """`composed` with the chosen `parts` in place of the target's own."""
        if not parts or "target" not in composed:
            return composed
        key = (id(composed), parts)
        if key not in self._composed:
            target = expanded(composed["target"], self._option, chosen=dict(parts))
            self._composed[key] = {**composed, "target": target}
        return self._composed[key]

    def _block(
        self,
        group: str,
        chosen: Mapping[str, str],
        composed: Mapping[str, Any],
        nested: Sequence[Override],
    ) -> dict[str, Any]:
        if group not in composed:
            raise ConfigError(f"{group} cannot be left out (choices: {', '.join(options(group))})")
        mine = [p for p in nested if p.settable and p.key.startswith(f"{group}.")]
        key = (id(composed), group, tuple(p.text for p in mine))
        if key not in self._blocks:
            block = copy.deepcopy(composed[group])
            for override in mine:
                put(block, override.key, override.value, _origin(override.key, chosen))
            self._blocks[key] = _named(block, group, chosen[group])
        return self._blocks[key]

    def _stands_alone(self, group: str, option: str) -> bool:
        """Whether the YAML only fills its own block, so that it can be composed with any other."""
        if (group, option) not in self._alone:
            text = options(group)[option].file.read_text()
            reaches_out = re.search(r"^(# *@package|defaults *:)", text, re.MULTILINE)
            self._alone[group, option] = reaches_out is None
        return self._alone[group, option]

    def _option(self, group: str, name: str) -> Mapping[str, Any]:
        """The YAML of a target's part."""
        if (group, name) not in self._options:
            known = options(group)
            if name not in known:
                raise ConfigError(unknown(group, name, known))
            self._options[group, name] = _named(_read(known[name].file), group, name)
        return self._options[group, name]

    def _compose(
        self, overrides: tuple[str, ...], parts: tuple[tuple[str, str], ...] = ()
    ) -> dict[str, Any]:
        key = (overrides, parts)
        if key not in self._composed:
            with expanding(lambda target: expanded(target, self._option, chosen=dict(parts))):
                self._composed[key] = _compose(overrides)
        return self._composed[key]


def _origin(key: str, chosen: Mapping[str, str]) -> str:
    """The option that the block around the dotted `key` came from: ``target=phantom_cnn``."""
    group, _, inner = key.partition(".")
    part = inner.partition(".")[0]
    owner = part if group == "target" and part in PARTS and part in chosen else group
    return f"{owner}={chosen[owner]}"


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
        raise ConfigError(f"{given}{one_line(error)}") from None
    for name in plain:
        if name not in (*GROUPS, *SCALARS):
            raise ConfigError(unknown("key", name, [*GROUPS, *SCALARS]))
    refuse_resolvers(plain, " ".join(overrides) or "conf")
    return {**plain, "_choices": choices}


def _named(block: Any, group: str, option: str) -> dict[str, Any]:
    """`block` with its name, which must be the name of its file."""
    if not isinstance(block, dict):
        raise ConfigError(f"{group}={option}: the YAML is not a block of keys")
    if group not in (*SUBJECTS, *PARTS):
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
        raise ConfigError(one_line(error)) from None


def _check_keys(config: Mapping[str, Any]) -> None:
    """A key that nothing reads would stand in the rows as if it had an effect."""
    for group, known in KEYS.items():
        for key in config[group]:
            if key not in known:
                raise ConfigError(unknown(f"key of {group}", key, sorted(known)))


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


def _axes(config: Mapping[str, Any], point: Sequence[Override]) -> dict[str, Any]:
    axes = {group: config[group]["name"] for group in SUBJECTS}
    own = (config["target"].get("split") or {}).get("n_members")
    axes |= {"seed": config["seed"], "n_members": config["n_members"] or own}
    aside = (*GROUPS, *SCALARS)
    for override in point:
        if override.key not in aside and override.root in (*SUBJECTS, *PARTS):
            value = "removed" if override.prefix == "~" else override.value
            axes[f"{override.key}@{override.package}" if override.package else override.key] = value
    if (config["n_targets"] or 1) > 1:
        axes["n_targets"] = config["n_targets"]
    if config["exposed"]:
        axes["exposed"] = config["exposed"]
    if config["n_shadows"] and (config["attack"].get("knowledge") or {}).get("n_shadows"):
        axes["n_shadows"] = config["n_shadows"]
    return axes

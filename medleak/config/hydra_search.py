"""Where Hydra looks for YAMLs while medleak composes: its own conf/, that of plugins, presets expanded."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from medleak.config import plugins

SCHEME = "medleak"
Expand = Callable[[Mapping[str, Any]], Mapping[str, Any]]
_expand: ContextVar[Expand] = ContextVar("expand", default=dict)


@contextlib.contextmanager
def hydra_started() -> Iterator[None]:
    """Hydra on our search path while the context lasts; one that the caller started is kept."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.plugins import Plugins
    from hydra.version import VersionBase

    for plugin in _hydra_plugins():
        Plugins.instance().register(plugin)
    callers, base = GlobalHydra.instance().hydra, VersionBase.instance().version_base
    GlobalHydra.instance().clear()
    try:
        conf = str(plugins.search_path()[0])
        with initialize_config_dir(conf, job_name="medleak", version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = callers
        VersionBase.instance().version_base = base


@contextlib.contextmanager
def expanding(expand: Expand) -> Iterator[None]:
    """Let `expand` complete the YAML of every target that Hydra reads while the context lasts."""
    before = _expand.set(expand)
    try:
        yield
    finally:
        _expand.reset(before)


@functools.cache
def _hydra_plugins() -> tuple[type, type]:
    from hydra._internal.core_plugins.file_config_source import FileConfigSource
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.plugins.config_source import ConfigResult
    from hydra.plugins.search_path_plugin import SearchPathPlugin
    from omegaconf import OmegaConf

    class MedleakSource(FileConfigSource):
        """Completes targets as they are read, so that overrides meet whole blocks."""

        @staticmethod
        def scheme() -> str:
            return SCHEME

        def load_config(self, config_path: str) -> ConfigResult:
            found = super().load_config(config_path)
            if config_path.startswith("target/") and OmegaConf.is_dict(found.config):
                plain = OmegaConf.to_container(found.config, resolve=False)
                found.config = OmegaConf.create(dict(_expand.get()(plain)))
            return found

    class MedleakPlugins(SearchPathPlugin):
        """Adds the YAMLs of plugins, for medleak's own configuration only."""

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            main = [item for item in search_path.get_path() if item.provider == "main"]
            own, *others = map(str, plugins.search_path())
            if [item.path for item in main] != [own]:
                return
            main[0].path = f"{SCHEME}://{own}"
            for conf in others:
                search_path.append("medleak", f"{SCHEME}://{conf}")

    return MedleakSource, MedleakPlugins

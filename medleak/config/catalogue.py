"""What there is to choose from, read without importing any component, torch or Hydra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medleak.api import ConfigError, ThreatModel
from medleak.config.instantiate import Static, static
from medleak.config.plugins import BUILT_IN, LISTED, Option, options
from medleak.config.presets import expanded, named
from medleak.core.suggestions import unknown

GROUPS = LISTED


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue.

    Attributes:
        group, name: ``group=name`` chooses it.
        summary: one line of its YAML, or else of its class.
        threat: of an attack; its `pool` and `n_shadows` too.
        paper: where it was published.
        slots: slot -> class names, of a defense.
        goal: of a metric.
        source: "built in", or the plugin.
        file: the YAML.
        problem: why it cannot be used, where the YAML or the class cannot be read.
    """

    group: str
    name: str
    source: str
    file: Path
    summary: str = ""
    threat: ThreatModel | None = None
    pool: str = ""
    n_shadows: int = 0
    paper: str = ""
    slots: Mapping[str, tuple[str, ...]] | None = None
    goal: str = ""
    problem: str = ""

    @property
    def access(self) -> str:
        """The threat model of an attack in a few words."""
        if self.threat is None:
            return ""
        # The YAML says how many shadows this attack really gets; `knowledge` is what its class may use.
        knows = [word for word in self.threat.knowledge if word != "shadows"]
        if self.n_shadows:
            knows.append(f"{self.n_shadows} shadows ({self.pool})")
        parts = [self.threat.goal, f"sees {self.threat.access}"]
        parts += [f"knows {', '.join(knows)}".replace("_", " ")] if knows else []
        return "; ".join([*parts, f"{self.threat.conduct} {self.threat.adversary}"])


def entries(group: str) -> list[Entry]:
    """The catalogue of `group`, by name; what is broken is listed with its problem."""
    return [_entry(group, name, option) for name, option in options(group).items()]


def with_first_layer(kind: str) -> list[str]:
    """Targets whose network says that its first layer is of this `kind`, by name."""
    found = []
    for name, option in options("target").items():
        try:
            target = expanded(_read(option.file), _part)
            classes = [static(path) for path in _targets(target.get("model"))]
        except ConfigError:
            continue  # listed with its problem elsewhere
        if any(c.literals.get("first_layer") == kind for c in classes):
            found.append(name)
    return found


def parts_of(target: str) -> list[tuple[str, str]]:
    """The options (group, name) that the YAML of `target` names; none where there is no such YAML."""
    option = options("target").get(target)
    return named(_read(option.file)) if option else []


def _entry(group: str, name: str, option: Option) -> Entry:
    where = {"group": group, "name": name, "source": option.source, "file": option.file}
    try:
        return Entry(**where, **_described(group, _read(option.file)))
    except ConfigError as error:
        return Entry(**where, problem=str(error))


def _read(file: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, OSError) as error:
        raise ConfigError(f"{file.name}: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file.name} is not a block of keys")
    return content


def _part(group: str, name: str) -> dict[str, Any]:
    """The YAML of what a target names."""
    known = options(group)
    if name not in known:
        raise ConfigError(unknown(group, name, known))
    return _read(known[name].file)


def _described(group: str, content: Mapping[str, Any]) -> dict[str, Any]:
    if group == "defense":
        blocks = {
            slot: list(_targets(block)) for slot, block in (content.get("slots") or {}).items()
        }
        classes = [static(name) for names in blocks.values() for name in names]
        slots = {
            slot: tuple(n.rpartition(".")[2] for n in names)
            for slot, names in blocks.items()
            if names
        }
        return {**_words(content, classes), "slots": slots}
    if group == "target":
        content = expanded(content, _part)
    classes = [static(name) for name in _targets(content)]
    found = _words(content, classes if "_target_" in content else [])
    if group == "attack" and classes:
        knowledge = content.get("knowledge") or {}
        found["threat"] = classes[0].requires
        found["pool"] = knowledge.get("pool", "audit")
        found["n_shadows"] = int(knowledge.get("n_shadows") or 0)
    if group == "metric" and classes:
        found["goal"] = classes[0].literals.get("goal", "membership")
    return found


def _words(content: Mapping[str, Any], classes: list[Static]) -> dict[str, Any]:
    line = content.get("summary") or next((c.line for c in classes if c.line), "")
    return {"summary": str(line), "paper": next((c.paper for c in classes if c.paper), "")}


def _targets(value: Any) -> Iterator[str]:
    """Every `_target_` inside `value`, outermost first."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield value["_target_"]
        for inner in value.values():
            yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)


__all__ = ["BUILT_IN", "GROUPS", "Entry", "entries", "parts_of", "with_first_layer"]

"""Reading overrides: each text of the command line becomes the points of one axis.

Here Hydra's grammar; its composition, which puts the points together, is in `medleak.config.compose`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from medleak.api import ConfigError
from medleak.config.plugins import options
from medleak.config.presets import PARTS, full_key
from medleak.core.suggestions import unknown
from medleak.core.validation import share, whole

SUBJECTS = ("target", "defense", "attack")
GROUPS = (*SUBJECTS, "executor", "runtime")
SCALARS = ("seed", "n_targets", "exposed", "n_members", "n_shadows", "metrics")
LARGEST_SEED = 2**32 - 1
"""scikit-learn, which draws the folds of the blind baseline, takes no larger one."""
MOST_JOBS = 100_000
TOO_MANY = f"more than {MOST_JOBS} jobs: narrow an axis"
_KEY = re.compile(r"\$\{\s*[\w.\[\]-]*\s*\}")


@dataclass(frozen=True)
class Override:
    """One point of one axis: `key` without package, `prefix` as typed ("", "+", "++", "~")."""

    text: str
    prefix: str
    key: str
    package: str | None
    value: Any

    @property
    def plain(self) -> bool:
        return not self.prefix and self.package is None

    @property
    def root(self) -> str:
        """The first part of the key: a group, mostly."""
        return re.split(r"[./]", self.key)[0]

    @property
    def settable(self) -> bool:
        """Whether it only replaces one plain value, which takes no new composition."""
        return self.plain and "." in self.key and not isinstance(self.value, Mapping)


def read_axis(text: str) -> list[Override]:
    """The points of one override, in the order given.

    Raises:
        ConfigError: it cannot be read, or cannot be.
    """
    refuse_resolvers(text, "override")
    if not text.startswith("~") and "=" not in text:
        raise ConfigError(f"'{text}' is no override: write key=value")
    text = full_key(text)
    parsed = _parse(text)
    if parsed.is_hydra_override():
        raise ConfigError(f"'{text}': Hydra's own settings have no effect here")
    if not parsed.is_sweep_override():
        return [_point(parsed, text)]
    _refuse_sweep(parsed, text)
    return list(
        {point.text: point for point in map(_pointing(parsed), _values(parsed, text))}.values()
    )


def _pointing(parsed: Any) -> Callable[[Any], Override]:
    """A function from one value of a sweep to the override that sets it."""
    from hydra.core.override_parser.types import ValueType

    def point(value: Any) -> Override:
        one = replace(parsed, value_type=ValueType.ELEMENT, _value=value)
        return _point(one, f"{one.get_key_element()}={one.get_value_element_as_str()}")

    return point


def _point(parsed: Any, text: str) -> Override:
    value = None if parsed.is_delete() else parsed.value()
    key = parsed.key_or_group
    prefix = parsed.get_key_element().partition(key)[0]
    point = Override(text, prefix, key, parsed.package, value)
    if key in PARTS and not point.plain:
        raise ConfigError(f"'{point.text}': the target has a {key}: write {key}=NAME for another")
    if key in (*GROUPS, *PARTS) and not parsed.is_delete():
        return _option(point)
    if key in SCALARS:
        return replace(point, value=_scalar(point))
    if not parsed.package and key.split(".")[0].split("/")[0] not in GROUPS:
        raise ConfigError(unknown("key", key, [*GROUPS, *PARTS, *SCALARS]))
    return point


def _option(point: Override) -> Override:
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


def _scalar(point: Override) -> Any:
    key, value = point.key, point.value
    if not point.plain:
        raise ConfigError(f"'{point.text}': {key} is always there: write {key}=VALUE")
    if key == "metrics":
        return _metric_names(value)
    if key == "seed":
        return whole(key, value, most=LARGEST_SEED)
    if key == "exposed":
        return share(key, value)
    return whole(key, value, least=1, null=True)


def _metric_names(value: Any) -> list[str] | None:
    if value is None:
        return None
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name not in options("metric"):
            raise ConfigError(unknown("metric", name, options("metric")))
    return list(map(str, names))


def _parse(text: str) -> Any:
    from hydra.errors import HydraException

    try:
        return _parsed(text)
    except HydraException as error:
        reason = re.sub(r"LexerNoViableAlt.*", "a character out of place", one_line(error))
        reason = re.sub(r" expecting {.*", "", reason.replace("'<EOF>'", "the end"))
        raise ConfigError(f"cannot read '{text}': {reason}{_quoted(text)}") from None


def _parsed(text: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides([text])[0]


def _quoted(text: str) -> str:
    """What to type instead, where the value is one word that only lacks quotes; else nothing."""
    from hydra.errors import HydraException

    key, _, value = text.partition("=")
    if not value or re.search(r"""[,'"`$!\\(){}\[\]]""", value):
        return ""
    try:
        _parsed(f"{key}='{value}'")
    except HydraException:
        return ""
    return f""": write "{key}='{value}'\""""


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
        if key not in (*GROUPS, *PARTS):
            groups = ", ".join((*SUBJECTS, *PARTS))
            raise ConfigError(f"{text}: glob(..) chooses options of {groups} only")
        values = value.filter(list(options(key)))
        if not values:
            raise ConfigError(f"{text} matches nothing (choices: {', '.join(options(key))})")
        return values
    try:
        values = list(itertools.islice(parsed.sweep_iterator(), MOST_JOBS + 1))
    except Exception as error:
        raise ConfigError(f"cannot read '{text}': {one_line(error)}") from None
    if not values:
        raise ConfigError(f"{text} names no value")
    if len(values) > MOST_JOBS:
        raise ConfigError(f"{text}: {TOO_MANY}")
    return values


def refuse_twice(first: Sequence[Override]) -> None:
    """Refuse two overrides of one key; `first` holds a point of each axis."""
    seen: dict[tuple[str, str | None], str] = {}
    for point in first:
        place = (point.key, point.package)
        if place in seen:
            raise ConfigError(f"{point.key} is given twice: write {point.key}=A,B for both")
        seen[place] = point.text
    if ("n_shadows", None) in seen and ("attack.knowledge.n_shadows", None) in seen:
        raise ConfigError("n_shadows replaces attack.knowledge.n_shadows: give one of them")


def refuse_resolvers(value: Any, where: str) -> None:
    """Refuse ``${name:...}`` anywhere inside `value`: it would read the environment or run code.

    Interpolations of other keys (``${seed}``) are left for the composition to resolve.

    Raises:
        ConfigError: a resolver, named; `where` says whose.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            refuse_resolvers(inner, where)
    elif isinstance(value, str) and "${" in value:
        left, plain = value, 1
        while plain:  # from the inside out: keys may be interpolated themselves
            left, plain = _KEY.subn("", left)
        if "${" in left:
            raise ConfigError(
                f"{where} '{value}': only ${{KEY}}, another key's value, is filled in"
            )


def one_line(error: BaseException) -> str:
    """The first line that says something, down the chain of causes."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"{mark.name}, line {mark.line + 1}: {getattr(error, 'problem', '')}"
    for line in str(error).splitlines():
        if line.strip() and not line.startswith("Error parsing override"):
            return line.strip().rstrip(".:")
    return one_line(error.__cause__) if error.__cause__ else type(error).__name__

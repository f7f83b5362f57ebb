"""What every plugin keeps: literals, docstring, a constructor that only stores; and safe calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from medleak.api import Component, ConfigError
from medleak.api.component import parameters_of
from medleak.config.instantiate import build, raised, static


def attempt(problems: list[str], what: str, call: Callable[[], Any]) -> Any:
    """The result of `call`; None, and a problem, where it raises (or calls `sys.exit`)."""
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a plugin raises is its author's to read
        problems.append(f"{what} {raised(error)}")
        return None


def made_from(config: Any, base: type, problems: list[str]) -> Any:
    """The component that `config` (a mapping, or the object itself) describes."""
    if isinstance(config, Mapping):
        config = attempt(
            problems, f"building {config.get('_target_', 'it')}", lambda: build(config)
        )
    if config is not None and not isinstance(config, base):
        problems.append(f"{config!r} is no {base.__name__}")
        return None
    return config


def rebuilt(component: Component) -> Component:
    """A fresh object from the stored arguments."""
    names = parameters_of(type(component))
    return type(component)(**{name: getattr(component, name) for name in names})


def _constructor_problems(component: Component, config: Any) -> list[str]:
    cls, problems = type(component), []
    parameters = parameters_of(cls)
    for p in parameters.values():
        if p.kind is not p.KEYWORD_ONLY:
            problems.append(f"__init__ argument '{p.name}' is not keyword-only, by name")
        elif not hasattr(component, p.name):
            problems.append(f"__init__ does not store its argument '{p.name}' under that name")
    if problems:
        return problems
    for name, p in parameters.items() if isinstance(config, Mapping) else ():
        given, stored = config.get(name, p.default), getattr(component, name)
        if isinstance(given, str | int | float | None) and stored != given:
            problems.append(f"__init__ changes '{name}': {given!r} became {stored!r}")
    again = attempt(problems, "rebuilding from its arguments", lambda: rebuilt(component))
    if again is not None:
        texts = attempt(problems, "repr", lambda: (repr(component), repr(again)))
        if texts is not None and texts[0] != texts[1]:
            problems.append(f"repr does not rebuild: {texts[0]} became {texts[1]}")
        for name in sorted(set(vars(again)) - set(parameters)):
            problems.append(f"__init__ sets '{name}', which is none of its arguments")
    return problems


def _literal_problems(cls: type, needed: Sequence[str], defaults: type) -> list[str]:
    """Class attributes that `medleak list` would read wrongly, because it never imports the class."""
    try:
        read = static(f"{cls.__module__}.{cls.__qualname__}")
    except ConfigError:  # not nameable by a YAML (a class inside a test): nothing reads it
        return []
    problems = []
    for name in [*needed, *(["version"] if read.builtin else [])]:
        value = getattr(cls, name, None)
        if name in read.literals and read.literals[name] != value:
            problems.append(
                f"`{name}` reads {read.literals[name]!r} in the source, {value!r} at run time"
            )
        elif name not in read.literals and (
            value != getattr(defaults, name, None) or name == "version"
        ):
            problems.append(f"`{name}` is no literal in the class body")
    return problems


def generic(component: Component, config: Any, needed: Sequence[str], base: type) -> list[str]:
    cls = type(component)
    problems = [] if (cls.__doc__ or "").strip() else ["the class has no docstring"]
    problems += _literal_problems(cls, needed, base) + _constructor_problems(component, config)
    invalid_parameters = strings(problems, "invalid_parameters", component.invalid_parameters)
    return problems + [f"invalid parameter: {fault}" for fault in invalid_parameters]


def strings(problems: list[str], what: str, call: Callable[[], Any]) -> list[str]:
    """What `incompatibilities` or `invalid_parameters` says, where it is a list of strings."""
    fallen: list[str] = []
    found = attempt(fallen, what, call)
    if isinstance(found, list | tuple) and all(isinstance(reason, str) for reason in found):
        return list(found)
    problems += fallen or [f"{what} returned {found!r}: a list of strings is needed"]
    return []

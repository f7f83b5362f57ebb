"""``medleak check``: the contract of plugins, held against ours and the user's."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any

from medleak.config.presets import PARTS

CHOSEN = ("target", *PARTS, "defense", "attack")
"""Groups of which a configuration holds one option; of metrics it holds several."""
KINDS = (*CHOSEN, "metric")


def main(arguments: Namespace) -> int:
    from medleak import testing

    checks = {
        "attack": testing.check_attack,
        "defense": testing.check_defense,
        "target": testing.check_target,
        "dataset": testing.check_dataset,
        "model": testing.check_model,
        "recipe": testing.check_recipe,
        "metric": testing.check_metric,
    }
    failed = False
    for group, name, config in subjects(arguments.overrides):
        problems = checks[group](config)
        failed |= bool(problems)
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "ok"
        if group == "attack" and not problems and (reason := testing.not_exercised(config)):
            count = f"not exercised: {reason}"
        print(f"{group}={name}: {count}")
        for problem in problems:
            print(f"  {problem}")
    return int(failed)


def subjects(overrides: Sequence[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Group, name and YAML of every component that the overrides choose, once.

    Raises:
        ConfigError: none is chosen.
    """
    from medleak.api import ConfigError
    from medleak.config.compose import expand, metrics

    groups = [g for g in KINDS if any(word.startswith(f"{g}=") for word in overrides)]
    if not groups:
        choices = " or ".join(f"{group}=NAME" for group in KINDS)
        raise ConfigError(f"nothing to check: write {choices}")
    jobs = expand([word for word in overrides if not word.startswith("metric=")])
    for group in groups:
        seen: list[Any] = []
        for job in jobs if group in CHOSEN else ():
            own = job.config["target"] if group in PARTS else job.config
            found = (group, job.axes[group], own[group])
            if found not in seen:
                seen.append(found)
                yield found
    for word in overrides:
        if word.startswith("metric="):
            yield from _metrics(word, metrics())


def _metrics(word: str, known: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    from medleak.api import ConfigError
    from medleak.core.suggestions import unknown

    for name in word.removeprefix("metric=").split(","):
        if name not in known:
            raise ConfigError(unknown("metric", name, known))
        yield "metric", name, known[name]

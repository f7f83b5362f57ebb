"""``medleak check``: the contract of plugins, held against ours and the user's."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any


def main(arguments: Namespace) -> int:
    from medleak import testing

    checks = {
        "attack": testing.check_attack,
        "defense": testing.check_defense,
        "target": testing.check_target,
    }
    failed = False
    for group, config in subjects(arguments.overrides):
        problems = checks[group](config)
        failed |= bool(problems)
        count = f"{len(problems)} problem{'s' * (len(problems) > 1)}" if problems else "ok"
        if group == "attack" and not problems and (reason := testing.not_exercised(config)):
            count = f"not exercised: {reason}"
        print(f"{group}={config['name']}: {count}")
        for problem in problems:
            print(f"  {problem}")
    return int(failed)


def subjects(overrides: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every component that the overrides choose, once, with its group.

    Raises:
        ConfigError: none is chosen.
    """
    from medleak.api import ConfigError
    from medleak.config.compose import SUBJECTS, expand

    groups = [g for g in SUBJECTS if any(word.startswith(f"{g}=") for word in overrides)]
    if not groups:
        choices = " or ".join(f"{group}=NAME" for group in SUBJECTS)
        raise ConfigError(f"nothing to check: write {choices}")
    jobs = expand(overrides)
    for group in groups:
        seen: list[Any] = []
        for job in jobs:
            if job.config[group] not in seen:
                seen.append(job.config[group])
                yield group, job.config[group]

"""``medleak new attack NAME``: a plugin that passes `check` at once, to be filled with an idea."""

from __future__ import annotations

import keyword
import re
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path
from string import Template

from medleak.api import ConfigError
from medleak.config.plugins import options
from medleak.core.suggestions import unknown

CODE = Template('''"""$title: say here what it exploits."""

from __future__ import annotations

import numpy as np

from medleak.api import Attack, Challenge, Release, ThreatModel


class $cls(Attack):
    """Scores a record by the log-probability that the model gives to its label.

    Args:
        weight: what the score is multiplied with; the YAML sets it.
    """

    requires = ThreatModel(goal="membership", access="scores", knowledge=("labels",))
    paper = "unpublished"

    def __init__(self, *, weight: float = 1.0):
        self.weight = weight

    def run(self, release: Release, challenge: Challenge) -> np.ndarray:
        """One score for each record, higher for members, ``(N,)``."""
        scores = np.maximum(release.scores(challenge.x), -50.0)  # a defense may round to -inf
        y = challenge.y
        if y.ndim == 2:  # several labels: add up the log-probability of each
            found = np.take_along_axis(scores, y[..., None], axis=2)[..., 0].sum(axis=1)
        else:
            found = scores[np.arange(len(y)), y]
        return self.weight * found
''')
YAML = Template("""# What `attack=$name` means; every key below is a parameter that a grid can sweep.
name: $name
summary: say in one line what it exploits
_target_: $name.$cls
weight: 1.0
knowledge: {pool: audit, n_shadows: 0}   # n_shadows: 16 for shadow models in `fit`
""")
TEST = Template('''"""The contract of plugins, held against $cls."""

from pathlib import Path

from medleak.config import compose
from medleak.testing import check_attack


def test_contract():
    compose.initialise([Path(__file__).parent])
    [job] = compose.expand(["attack=$name"])
    assert check_attack(job.config["attack"]) == []
''')


def main(arguments: Namespace) -> int:
    if arguments.kind != "attack":
        raise ConfigError(unknown("kind of plugin", arguments.kind, ["attack"]))
    folder = Path(arguments.dir)
    files = scaffold(arguments.name, folder)
    write(files)
    for path in files:
        print(f"wrote {path}")
    print(f"next: medleak --plugins {folder} check attack={arguments.name}")
    return 0


def scaffold(name: str, folder: Path) -> dict[Path, str]:
    """Path -> content of a new attack.

    Raises:
        ConfigError: a name that cannot be one, or is taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"'{name}' cannot name an attack: lower case letters, digits and _ only")
    known = options("attack")
    if name in known:
        raise ConfigError(f"attack '{name}' exists already: {known[name].file}")
    if find_spec(name) is not None:
        raise ConfigError(f"'{name}' is the name of an installed module: choose another")
    title = name.replace("_", " ").capitalize()
    words = {"name": name, "cls": title.title().replace(" ", ""), "title": title}
    return {
        folder / f"{name}.py": CODE.substitute(words),
        folder / "conf" / "attack" / f"{name}.yaml": YAML.substitute(words),
        folder / f"test_{name}.py": TEST.substitute(words),
    }


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

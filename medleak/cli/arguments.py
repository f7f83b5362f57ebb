"""What may be written on the command line: commands, their options, and parsers that say faults in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

COMMANDS = {
    "run": "measure one cell and print its rows",
    "grid": "measure every combination of what is given; issued again, only what is missing",
    "report": "tables, plots and page of a grid; or publish them",
    "audit": "membership scores, or stored logits of shadows, of any model: no training",
    "list": "targets and their parts, defenses, attacks, metrics and saved grids to choose from",
    "explain": "one row in words, with the command that repeats it",
    "doctor": "environment, devices, data found, store",
    "check": "hold attacks, defenses, targets, their parts and metrics to the contract of plugins",
    "new": "start an attack, defense, data set, network, recipe, metric or goal: code, YAML and test",
    "cache": "size, check or prune the store",
    "completion": "print the completion script of a shell",
}
NEW = ("attack", "defense", "dataset", "model", "recipe", "metric", "goal")
"""Kinds of plugin that ``medleak new`` starts."""
_OVERRIDES = (("overrides",), {"nargs": "*", "metavar": "KEY=VALUE"})
_OUT = (("--out",), {"metavar": "DIR", "help": "folder of grids (default: results/grids)"})
_STORE = (("--store",), {"metavar": "DIR", "help": "store (default: MEDLEAK_STORE, results/store)"})
_JOBS = (("--jobs",), {"type": int, "metavar": "N", "help": "how many at once (default: cores)"})
_AGAIN = (("--retry-failed",), {"action": "store_true", "help": "try what failed before again"})
_DRY = (("--dry-run",), {"action": "store_true", "help": "say what would be done, and its time"})
_GRID = (
    (("overrides",), {"nargs": "*", "metavar": "NAME|KEY=VALUE"}),
    _DRY,
    (("--budget",), {"metavar": "TIME", "help": "start nothing new after 30m, 1h30m, 90s"}),
    _AGAIN,
    (("--fail-fast",), {"action": "store_true", "help": "stop at the first failure"}),
    _JOBS,
    (("--name",), {"metavar": "NAME", "help": "of the grid and its folder"}),
    _OUT,
    _STORE,
)
ARGUMENTS: dict[str, Sequence[Any]] = {
    "run": (
        _OVERRIDES,
        _DRY,
        (("-m", "--multirun"), {"action": "store_true", "help": "the same as grid"}),
        _AGAIN,
        _JOBS,
        _OUT,
        _STORE,
    ),
    "grid": _GRID,
    "report": (
        (("grid",), {"nargs": "?", "metavar": "NAME|DIR", "help": "default: the latest"}),
        (("--publish",), {"metavar": "NAME", "help": "write results/published/NAME"}),
        (("--overwrite",), {"action": "store_true", "help": "replace what is published there"}),
        _OUT,
    ),
    "audit": (
        (("--scores",), {"metavar": "FILE", "help": "npz or CSV: scores, member, ..."}),
        (("--signals",), {"metavar": "DIR", "help": "stored logits of a target and its shadows"}),
        (("--epsilon",), {"type": float, "metavar": "E", "help": "claimed, to compare with"}),
        (
            ("--delta",),
            {"type": float, "metavar": "D", "help": "of the claim, and of audited bounds"},
        ),
        (("--unit",), {"metavar": "record|patient", "help": "of the claim (default: record)"}),
        (("--name",), {"metavar": "NAME", "help": "of the audit (default: that of FILE or DIR)"}),
        (("--out",), {"metavar": "DIR", "help": "folder of audits (default: results/audits)"}),
    ),
    "list": ((("kinds",), {"nargs": "*", "metavar": "KIND", "help": "attacks, targets, ..."}),),
    "explain": ((("row",), {"metavar": "ROW", "help": "key of a row, or its beginning"}), _OUT),
    "doctor": (_STORE,),
    "check": ((("overrides",), {"nargs": "+", "metavar": "attack=NAME"}),),
    "new": (
        (("kind",), {"metavar": "KIND", "help": ", ".join(NEW)}),
        (("name",), {"metavar": "NAME"}),
        (("--goal",), {"metavar": "GOAL", "help": "of an attack or metric (default: membership)"}),
        (("--slot",), {"metavar": "SLOT", "help": "of a defense (default: serve)"}),
        (("--dir",), {"default": ".", "metavar": "DIR", "help": "plugin folder (default: here)"}),
    ),
    "cache": (
        (("action",), {"nargs": "?", "default": "size", "metavar": "size|verify|prune"}),
        _STORE,
        (("--days",), {"type": float, "metavar": "N", "help": "prune what is older"}),
        (("--kind",), {"metavar": "KIND", "help": "prune one kind only"}),
        (("--all",), {"action": "store_true", "help": "prune everything"}),
    ),
    "completion": (
        (("shell",), {"nargs": "?", "default": "bash", "metavar": "bash|zsh|fish"}),
        (("--complete",), {"nargs": "*", "help": argparse.SUPPRESS}),
    ),
}
DETAILS = {
    "grid": "NAME is a saved grid (medleak list grids). Every axis is a sweep: attack=yeom,lira, "
    "attack=glob(*), seed=range(0,3). dataset=, model= and recipe= replace the target's own, and "
    "recipe.epochs=5,10 reaches into them.",
    "audit": "FILE holds scores (N,), higher for members, and member (N,), 0 or 1; maybe patients (N,), "
    "so that a patient's records count once, and group_NAME (N,). DIR holds target.npz and shadow_*.npz "
    "(4 or more), each with logits (N, C) and member (N,) for the same N records in the same order, and "
    "labels.npz with y (N,), or (N, C) of 0 and 1 for several labels; maybe patients, group_NAME, and "
    "population (N,), 1 for records that the target never saw, which RMIA compares with. Exit status 1: "
    "more was found than is claimed, or the shadows are no replicas of the target.",
    "list": "KIND: targets, datasets, models, recipes, defenses, attacks, metrics, grids.",
}


class _Parser(argparse.ArgumentParser):
    """Faults in one line; options may stand between overrides."""

    def error(self, message: str) -> Any:
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(2)


def _plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugins", action="append", default=[], metavar="DIR", help="folder of plugins"
    )


def top_parser() -> _Parser:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {line}" for name, line in COMMANDS.items()]
    parser = _Parser(
        prog="medleak",
        description="Measure how much a medical-imaging model tells about its patients.",
        epilog="\n".join(["commands:", *lines, "", "medleak COMMAND --help tells more."]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _plugins(parser)
    parser.add_argument("--version", action="store_true", help="print the version")
    parser.add_argument("command", nargs="?", metavar="COMMAND")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of the command `name`."""
    parser = _Parser(
        prog=f"medleak {name}", description=f"{COMMANDS[name]}.", epilog=DETAILS.get(name)
    )
    _plugins(parser)
    for flags, settings in ARGUMENTS[name]:
        parser.add_argument(*flags, **settings)
    return parser

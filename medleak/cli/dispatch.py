"""The command line: a thin shim that imports what a command needs once it is known.

Exit status: 0; 1 where rows failed, or audit, check, doctor or cache found problems; 2 for a request that
cannot be met; 130 when interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from medleak.cli.arguments import COMMANDS, command_parser, top_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
        return status
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 2
    except KeyboardInterrupt:
        print("medleak: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone; Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        line = _explanation(error)
        if os.environ.get("MEDLEAK_DEBUG") == "1" or line is None:
            raise
        print(f"medleak: {line}", file=sys.stderr)
        return 2


def _dispatch(words: Sequence[str]) -> int:
    if words[:2] == ["completion", "--complete"]:  # what follows may look like options
        return import_module("medleak.cli.completion").complete(words[2:])
    parser = top_parser()
    given = parser.parse_args(words)
    if given.version:
        from medleak import __version__

        print(f"medleak {__version__}")
        return 0
    if given.command is None:
        parser.print_help()
        return 0
    if given.command not in COMMANDS:
        from medleak.core.suggestions import unknown

        parser.error(unknown("command", given.command, COMMANDS))
    parser = command_parser(given.command)
    arguments = parser.parse_intermixed_args(given.rest)
    for name, value in vars(arguments).items():
        if value == "":  # an unset variable of a script: the default would do something else
            parser.error(f"{name} is empty: give a value, or leave it out")
    arguments.plugins = given.plugins + arguments.plugins
    from medleak.config.plugins import add_folders

    add_folders(arguments.plugins)
    return import_module(f"medleak.cli.{given.command}").main(arguments)


def _explanation(error: Exception) -> str | None:
    """One line, where that tells what to do; None for a fault of the program."""
    api = sys.modules.get("medleak.api")
    if api is not None and isinstance(error, api.MedleakError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}"
    return None


if __name__ == "__main__":
    sys.exit(main())

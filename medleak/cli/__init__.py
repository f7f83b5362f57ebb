"""The command line: one module a command, imported when it is asked for."""

from medleak.cli.dispatch import main

__all__ = ["main"]

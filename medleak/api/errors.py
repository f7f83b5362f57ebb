"""The errors that one line explains."""

from __future__ import annotations


class MedleakError(Exception):
    """A fault that one line explains; the command line prints it without a traceback."""


class ConfigError(MedleakError):
    """The request cannot be met as it stands (exit status 2): nothing was run or written."""


class DataError(ConfigError):
    """The data are missing, malformed or too few for what was asked (exit status 2)."""


class NotApplicable(MedleakError):
    """A cell that makes no sense; `reasons` says why, all of them at once."""

    def __init__(self, *reasons: str):
        super().__init__("; ".join(reasons))
        self.reasons = reasons


class Hidden(NotApplicable):
    """An attack asked for a view that the release does not have."""

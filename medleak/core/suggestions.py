"""One-line errors that name the value, the near match and the choices."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, value: object, choices: Iterable[object], *, most: int = 12) -> str:
    """``unknown <what> 'valeu': did you mean 'value'? (choices: ...)``."""
    names = sorted(map(str, choices))
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f": did you mean '{near[0]}'?" if near else ""
    shown = ", ".join(names[:most]) + (
        f", ... {len(names) - most} more" if len(names) > most else ""
    )
    return f"unknown {what} '{value}'{hint} (choices: {shown or 'none'})"

"""Numbers in words."""

from __future__ import annotations


def count(n: int, noun: str) -> str:
    """``1 group``, ``2 groups``, ``2 processes``."""
    plural = "es" if noun.endswith("s") else "s"
    return f"{n:,} {noun}{'' if n == 1 else plural}"

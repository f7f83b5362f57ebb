"""Rows to something that people read: tables, plots, one HTML page, words, and publishing.

``terminal``, ``write``, ``publish``, ``risk``, ``scan``, ``explain`` and ``aggregate`` are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Aggregate": "aggregated",
    "aggregate": "aggregated",
    "explain": "explained",
    "publish": "publishing",
    "risk": "risking",
    "scan": "scanning",
    "terminal": "texts",
    "write": "publishing",
}
__all__ = [
    "Aggregate",
    "aggregate",
    "explain",
    "prepare",
    "publish",
    "risk",
    "scan",
    "terminal",
    "write",
]


def prepare() -> None:
    """Import what a report is drawn with, while something else is waited for."""
    for module in ("jinja2", "matplotlib.figure", "matplotlib.backends.backend_svg", "pandas"):
        importlib.import_module(module)
    importlib.import_module(f"{__name__}.publishing")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

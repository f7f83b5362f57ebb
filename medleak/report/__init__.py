"""Rows to something that people read: tables, plots, one HTML page, narrative, and publishing.

``terminal``, ``write``, ``publish``, ``risk``, ``scan``, ``explain`` and ``aggregate`` are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "Aggregate": "medleak.results.aggregate",
    "aggregate": "medleak.results.aggregate",
    "tidy": "medleak.results.frame",
    "explain": "medleak.report.row_narrative",
    "publish": "medleak.report.publishing",
    "risk": "medleak.report.patient_risk",
    "scan": "medleak.report.publish_check",
    "terminal": "medleak.report.text_tables",
    "write": "medleak.report.publishing",
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
    "tidy",
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
    return getattr(importlib.import_module(_HOMES[name]), name)

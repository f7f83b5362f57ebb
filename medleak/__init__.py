"""Measure how much a medical-imaging model tells about its patients.

>>> import medleak
>>> plan = medleak.plan("target=phantom_cnn", "attack=yeom,lira")
>>> print(plan.describe())
>>> medleak.run("target=phantom_cnn", "attack=yeom,lira").frame
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "plan", "report", "run"]

_HOMES = {"plan": "medleak.engine.session", "run": "medleak.engine.session"}


def __getattr__(name: str) -> Any:
    """Loaded on first use, so that ``import medleak`` costs nothing."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "report":
        return importlib.import_module("medleak.report")
    raise AttributeError(f"module 'medleak' has no attribute '{name}'")

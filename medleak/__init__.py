"""Measure how much a medical-imaging model tells about its patients.

>>> import medleak
>>> plan = medleak.plan("target=phantom_cnn", "attack=yeom,lira")
>>> print(plan.describe())
>>> medleak.run("target=phantom_cnn", "attack=yeom,lira").frame

A model of your own, without a grid (docs/python.md):

>>> release = medleak.Release.from_torch(model)
>>> output = medleak.attack(LiRA(), release, x, y, shadows=shadows)
>>> medleak.score(output.scores, member)["auc"]
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = ["Release", "__version__", "attack", "plan", "report", "run", "score"]

_HOMES = {
    "Release": "medleak.api.release",
    "attack": "medleak.audit.given_models",
    "plan": "medleak.engine.session",
    "run": "medleak.engine.session",
    "score": "medleak.audit.scoring",
}


def __getattr__(name: str) -> Any:
    """Loaded on first use, so that ``import medleak`` costs nothing."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name == "report":
        return importlib.import_module("medleak.report")
    raise AttributeError(f"module 'medleak' has no attribute '{name}'")

"""Which kinds of artefact a run makes, and how their arrays lie together in the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medleak.api import ArtefactKind, MedleakError
from medleak.config.instantiate import static
from medleak.config.registry import Registry
from medleak.training.pipeline import stage_blocks

KINDS: Registry[ArtefactKind] = Registry("artefact", ArtefactKind)
FITTED = ("classifier",)


def made_by(target: Mapping[str, Any], slots: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the kinds that recipe and stages make; read from their literals, without importing them."""
    names = list(static(target["recipe"]["_target_"]).literals.get("makes", FITTED))
    for block in slots.values():
        for stage in stage_blocks(block):
            names += static(stage["_target_"]).literals.get("makes", ())
    return tuple(dict.fromkeys(names))


def packed(contents: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of several artefacts, kind -> content, under one set of names.

    Raises:
        MedleakError: a number that is not finite, which is no artefact but a failure.
    """
    found = {}
    for name, content in contents.items():
        kind = KINDS.get(name)
        for part, array in kind.arrays(content).items():
            if not kind.fitted and array.dtype.kind == "f" and not np.isfinite(array).all():
                raise MedleakError(f"the {name} of this run hold NaN or infinity ({part})")
            found[_prefix(kind) + part] = array
    return found


def unpacked(
    arrays: Mapping[str, np.ndarray], name: str, made: Sequence[str]
) -> dict[str, np.ndarray]:
    """The arrays of the artefact `name` alone, among those of all kinds that were `made`."""
    prefix = _prefix(KINDS.get(name))
    if prefix:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
    others = tuple(filter(None, (_prefix(KINDS.get(one)) for one in made)))
    return {n: a for n, a in arrays.items() if not n.startswith(others)}


def _prefix(kind: ArtefactKind) -> str:
    """The parameters of a network keep the names that it gives them."""
    return "" if kind.fitted else f"{kind.name}/"

"""Content keys: SHA-256 of canonical JSON, and seeds derived from names."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from medleak.api import ConfigError

KEY_VERSION = 2
"""Raised when the meaning of keys changes: everything stored before is then left unused."""

DRAW_VERSION = 1
"""Raised when draws come out otherwise; apart from `KEY_VERSION`, so that a new layout of keys changes
no figure."""

BENCH_VERSION = 1
"""Raised when runs come out otherwise: split, seeding, training. Everything is then trained anew."""

MEASURE_VERSION = 2
"""Raised when the same runs are judged otherwise: attacks' draws, pooling, utility, controls."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats by `repr`, so that 1e9 and 1000000000.0 agree."""
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), default=_plain, allow_nan=False
        )
    except ValueError:
        raise ConfigError("a number of the configuration is NaN or infinite") from None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no place in a key")


def digest(value: Any) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of `value` under `KEY_VERSION`."""
    return hashlib.sha256(canonical({"v": KEY_VERSION, "value": value}).encode()).hexdigest()


def lasting_digest(value: Any) -> str:
    """As `digest`, but the same under every `KEY_VERSION`: for seeds and fingerprints of data."""
    return hashlib.sha256(canonical({"v": DRAW_VERSION, "value": value}).encode()).hexdigest()


def array_digest(*arrays: np.ndarray) -> str:
    """Hexadecimal SHA-256 over dtype, shape and bytes of each array."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(array.tobytes() if array.dtype.kind == "U" else np.ascontiguousarray(array).data)
    return sha.hexdigest()


def seed_for(*names: Any) -> int:
    """A seed in 0..2**63 for the component that `names` name; independent between names."""
    return int(lasting_digest(list(names))[:16], 16) >> 1


def rng_for(*names: Any) -> np.random.Generator:
    """A NumPy generator seeded by `seed_for`."""
    return np.random.default_rng(seed_for(*names))

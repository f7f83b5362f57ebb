"""Long vectors as CKKS ciphertexts: who holds which key, and what each party does.

Values are whole multiples of 2^-26, and a decrypted sum is rounded to them again. The noise of CKKS
is far smaller (about 2^-31 with ten clients), so the sum is exact: the same in every run, and without
the noise from which the secret key can be learnt (Li & Micciancio, EUROCRYPT 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np

from medleak.api import ConfigError

RING, PRIMES, SCALE_BITS = 8192, (60, 60), 46
SLOTS = RING // 2
STEP = 2.0**-26
LIMIT = 2.0**12
"""Largest absolute value of a sum: a plaintext has 60 bits, 46 of them behind the point, and one bit
is kept free beside that of the sign."""
SECURITY = (
    "ring learning with errors is hard at these parameters (128 bits)",
    "the server is honest but curious",
)


def require(who: str) -> ModuleType:
    """TenSEAL.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import tenseal
    except ImportError:
        raise ConfigError(f"{who} needs TenSEAL: pip install 'medleak[he]'") from None
    return tenseal


def rounded(values: np.ndarray, summands: int) -> np.ndarray:
    """`values` clipped such that so many cannot overflow, as the nearest multiples of `STEP`."""
    most = LIMIT / summands
    return np.rint(np.clip(values, -most, most) / STEP) * STEP


class KeyHolder:
    """Makes the keys and opens sums. Nothing of it can be pickled, and only `public` is handed out."""

    def __init__(self) -> None:
        ts = require("CKKS")
        self._context = ts.context(ts.SCHEME_TYPE.CKKS, RING, coeff_mod_bit_sizes=list(PRIMES))
        self._context.global_scale = 2.0**SCALE_BITS

    def __reduce__(self):
        raise TypeError("a secret key is not written down")

    def public(self) -> bytes:
        """The public key and the parameters."""
        return self._context.serialize(
            save_public_key=True,
            save_secret_key=False,
            save_galois_keys=False,
            save_relin_keys=False,
        )

    def open(self, blocks: Sequence[bytes], length: int) -> np.ndarray:
        """The encrypted sum, ``(length,)``, as multiples of `STEP`."""
        ts = require("CKKS")
        values = [ts.ckks_vector_from(self._context, block).decrypt() for block in blocks]
        return np.rint(np.concatenate(values)[:length] / STEP) * STEP


def encrypt(public: bytes, values: np.ndarray) -> list[bytes]:
    """What a client sends: the ciphertexts of `values` ``(P,)``, `SLOTS` in each."""
    ts = require("CKKS")
    context = ts.context_from(public)
    parts = np.split(values, range(SLOTS, len(values), SLOTS))
    return [ts.ckks_vector(context, part.tolist()).serialize() for part in parts]


def add(public: bytes, messages: Sequence[Sequence[bytes]]) -> list[bytes]:
    """What the server does: the ciphertexts of the sum of several clients' messages."""
    ts = require("CKKS")
    context = ts.context_from(public)
    totals = []
    for blocks in zip(*messages, strict=True):
        total, *others = (ts.ckks_vector_from(context, block) for block in blocks)
        for other in others:
            total += other
        totals.append(total.serialize())
    return totals

"""Shamir's secret sharing of 32 bytes over a prime field (Shamir 1979, How to share a secret)."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from medleak.api import MedleakError

PRIME = 2**256 + 297
"""The smallest prime above 2^256: every 32 bytes are an element of its field."""

SECRET_BYTES = 32
SHARE_BYTES = 33


def split(secret: bytes, threshold: int, holders: int) -> list[bytes]:
    """Shares of `secret` for holders 1 .. `holders`, `SHARE_BYTES` each.

    Share x is ``f(x)`` of a polynomial of degree ``threshold - 1`` with ``f(0)`` the secret and the
    other coefficients from the operating system's generator: `threshold` shares give the secret, any
    fewer are independent of it.

    Raises:
        MedleakError: a threshold that the holders cannot meet.
    """
    if not 1 <= threshold <= holders:
        raise MedleakError(f"threshold {threshold} must lie in 1..{holders}, the number of holders")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    coefficients.append(int.from_bytes(secret, "little"))
    return [_value(coefficients, x).to_bytes(SHARE_BYTES, "little") for x in range(1, holders + 1)]


def weights(holders: list[int]) -> dict[int, int]:
    """Lagrange's weights at zero: ``prod_j x_j / (x_j - x_i) mod p`` of each holder."""
    found = {}
    for own in holders:
        above = below = 1
        for other in holders:
            if other != own:
                above = above * other % PRIME
                below = below * (other - own) % PRIME
        found[own] = above * pow(below, -1, PRIME) % PRIME
    return found


def join(shares: Mapping[int, bytes], at: Mapping[int, int]) -> bytes:
    """The secret behind `shares` (holder -> share), with the `weights` of just these holders.

    Raises:
        MedleakError: shares that belong to no 32 bytes; most wrong ones are noticed only by whoever
            knows what the secret should be.
    """
    total = sum(w * int.from_bytes(shares[holder], "little") for holder, w in at.items()) % PRIME
    if total >= 2 ** (8 * SECRET_BYTES):
        raise MedleakError("the shares do not belong together: they give no secret of 32 bytes")
    return total.to_bytes(SECRET_BYTES, "little")


def _value(coefficients: list[int], x: int) -> int:
    """The polynomial at `x`, highest coefficient first (Horner)."""
    value = 0
    for c in coefficients:
        value = (value * x + c) % PRIME
    return value

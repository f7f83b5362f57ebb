"""Records as pictures inside a page: for the holder of the data, never published unless simulated."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np


def address(x: np.ndarray) -> str | None:
    """One record ``(C, H, W)``, uint8 or floats in 0..1, as a PNG in a data address; None for a table.

    At its own size: the page enlarges it. The same record gives the same bytes.
    """
    if x.ndim != 3:
        return None
    values = x if x.dtype == np.uint8 else np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)
    pixels = np.moveaxis(values, 0, -1)
    pixels = pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., :1]
    return "data:image/png;base64," + base64.b64encode(_png(pixels)).decode()


def _png(pixels: np.ndarray) -> bytes:
    """A PNG of ``(H, W, 1)`` grey or ``(H, W, 3)`` colour values (ISO/IEC 15948)."""
    height, width, channels = pixels.shape
    colour = 0 if channels == 1 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    # Each line begins with the number of its filter: 0, none.
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum

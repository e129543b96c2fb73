"""Packed bitmaps over the chunks of one segment.

A bitmap is ``(ceil(n / 8),) uint8``; bit ``i`` of the bitmap is bit ``i % 8`` (least significant first) of byte
``i // 8``, which is the layout of FAISS' ``IDSelectorBitmap``. The padding bits of the last byte are always 0, so that
counts are counts and a negation selects nothing beyond the segment.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bitmap: TypeAlias = npt.NDArray[np.uint8]
Mask: TypeAlias = npt.NDArray[np.bool_]
Positions: TypeAlias = npt.NDArray[np.int64]


def pack(mask: Mask) -> Bitmap:
    """Return the bitmap of a boolean mask."""
    return np.packbits(mask, bitorder="little")


def unpack(bitmap: Bitmap, n: int) -> Mask:
    """Return the boolean mask, ``(n,) bool``, of a bitmap."""
    return np.unpackbits(bitmap, count=n, bitorder="little").view(np.bool_)


def full(n: int) -> Bitmap:
    """Return the bitmap with the first ``n`` bits set."""
    return pack(np.ones(n, dtype=np.bool_))


def from_positions(positions: npt.ArrayLike, n: int) -> Bitmap:
    """Return the bitmap of ``n`` bits with those at ``positions`` set."""
    mask = np.zeros(n, dtype=np.bool_)
    mask[np.asarray(positions, dtype=np.int64)] = True
    return pack(mask)


def positions_of(bitmap: Bitmap, n: int) -> Positions:
    """Return the positions of the set bits, ascending."""
    return np.flatnonzero(unpack(bitmap, n)).astype(np.int64, copy=False)


def invert(bitmap: Bitmap, n: int) -> Bitmap:
    """Return NOT ``bitmap`` within its first ``n`` bits."""
    inverted = np.invert(bitmap)
    if n % 8:
        inverted[-1] &= (1 << (n % 8)) - 1
    return inverted


def count(bitmap: Bitmap) -> int:
    """Return the number of set bits."""
    return int(np.bitwise_count(bitmap).sum(dtype=np.int64))


def contains(bitmap: Bitmap, positions: Positions) -> Mask:
    """Return for each position whether its bit is set."""
    bits: Bitmap = bitmap[positions >> 3] >> (positions & 7).astype(np.uint8)
    return (bits & 1).view(np.bool_)

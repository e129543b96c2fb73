"""Tombstones: which chunks of which segments no longer count, as roaring bitmaps.

A *pack* is the bytes of one such set: the magic ``GTMB`` and a format version, the number of segments, and for each
segment, by ascending number, its number (uint64), the length (uint32) and the bytes of its bitmap in the portable
roaring format. Integers are little-endian. Equal sets have equal bytes.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

from pyroaring import BitMap

from indexer.errors import CorruptFile
from indexer.format.records import FORMAT_VERSION

Tombstones: TypeAlias = dict[int, BitMap]
"""Chunk positions by segment number."""

_MAGIC = b"GTMB"
_HEAD = struct.Struct("<4sHI")
_ITEM = struct.Struct("<QI")


def encode(tombstones: Tombstones) -> bytes:
    """Return the pack of ``tombstones``; segments without any are left out."""
    kept = {number: bitmap for number, bitmap in sorted(tombstones.items()) if bitmap}
    parts = [_HEAD.pack(_MAGIC, FORMAT_VERSION, len(kept))]
    for number, bitmap in kept.items():
        # A set's bytes must not depend on how it came about, so each is laid out anew.
        data = BitMap(bitmap, optimize=True).serialize()
        parts += [_ITEM.pack(number, len(data)), data]
    return b"".join(parts)


def decode(data: bytes) -> Tombstones:
    """Return what :func:`encode` was given; raises :class:`CorruptFile` for anything else."""
    try:
        magic, version, count = _HEAD.unpack_from(data)
        if (magic, version) != (_MAGIC, FORMAT_VERSION):
            raise CorruptFile(f"expected a tombstone pack of format {FORMAT_VERSION}, found {data[:6]!r}")
        place, found = _HEAD.size, Tombstones()
        for _ in range(count):
            number, length = _ITEM.unpack_from(data, place)
            place += _ITEM.size + length
            if place > len(data):
                raise ValueError("it is cut short")
            found[number] = BitMap.deserialize(data[place - length : place])
        if place != len(data):
            raise ValueError(f"{len(data) - place} bytes follow its end")
    except (struct.error, ValueError) as error:
        raise CorruptFile(f"a tombstone pack of {len(data)} bytes cannot be read: {error}") from error
    return found


def merge(*sets: Tombstones) -> Tombstones:
    """Return the union, in bitmaps of its own: changing it changes none of ``sets``."""
    merged = Tombstones()
    for tombstones in sets:
        for number, bitmap in tombstones.items():
            merged[number] = merged[number] | bitmap if number in merged else bitmap.copy()
    return merged

"""Keys: their canonical hash, their form in a URL, and the sorted index that finds a segment's rows by key.

A key's hash is blake2b-128 over its components, each written as ``<type letter><length>:<payload>``. The type letter
keeps int 1, string "1" and decimal 1 apart; the length makes composite keys unambiguous.

===========  ======  ===================================================================
type         letter  payload
===========  ======  ===================================================================
integer      i       decimal digits (all widths alike)
string       s       UTF-8
boolean      b       0 or 1
decimal      m       plain notation without trailing zeros (scales alike)
date         d       days since 1970-01-01
timestamp    z       nanoseconds since 1970-01-01 UTC (units alike); ``n`` without a time zone
time         c       nanoseconds since midnight
binary       x       the bytes
float        f       shortest repr of the double; -0.0 is 0.0, all NaN are one
===========  ======  ===================================================================
"""

from __future__ import annotations

import io
import re
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_from_bytes, unquote, unquote_to_bytes

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.errors import BuildError, CorruptFile

HASH_BYTES = 16
ENTRY = np.dtype([("position", "u4"), ("n_chunks", "u4"), ("version", "i8")])

_WHOLE_NUMBERS = {"tinyint", "smallint", "int", "bigint"}
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def null_keys(table: pa.Table, key: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Tell which rows have a null in any key column, as ``(n,) bool``; such rows have no hash."""
    null = np.zeros(table.num_rows, dtype=bool)
    for name in key:
        null |= table.column(name).is_null().to_numpy(zero_copy_only=False)
    return null


def key_hashes(table: pa.Table, key: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Hash each row's key: ``(n, 16) uint8``.

    Raises :class:`indexer.errors.BuildError` for a null in a key column (set such rows aside by :func:`null_keys`)
    and for a nested key column.
    """
    columns = []
    for name in key:
        column = table.column(name)
        if column.null_count:
            raise BuildError(f"key column {name!r} has {column.null_count} nulls: set those rows aside first")
        columns.append(_encoded(name, column))
    digests = [blake2b(b"".join(parts), digest_size=HASH_BYTES).digest() for parts in zip(*columns, strict=True)]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, HASH_BYTES)


def hash_alike(one: str, other: str) -> bool:
    """Say whether equal values of two types, as Spark writes them, have the same hash.

    >>> hash_alike("int", "bigint"), hash_alike("decimal(9,2)", "decimal(12,4)"), hash_alike("int", "decimal(9,0)")
    (True, True, False)
    """
    both = {one, other}
    return len(both) == 1 or both <= _WHOLE_NUMBERS or all(kind.startswith("decimal(") for kind in both)


def _encoded(name: str, column: pa.ChunkedArray) -> Iterator[bytes]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_date64(column.type):
        column = column.cast(pa.date32())
    kind = column.type
    if _is_string(kind):
        return _framed(b"s", column.cast(pa.large_binary()).to_pylist())
    if _is_binary(kind):
        return _framed(b"x", column.to_pylist())
    letter, payload = _payload(name, kind)
    values = column.cast(_integer_view(kind)).to_pylist() if _is_temporal(kind) else column.to_pylist()
    return _framed(letter, (payload(value).encode() for value in values))


def _framed(letter: bytes, payloads: Iterable[bytes]) -> Iterator[bytes]:
    return (b"%b%d:%b" % (letter, len(payload), payload) for payload in payloads)


def _payload(name: str, kind: pa.DataType) -> tuple[bytes, Callable[[Any], str]]:
    """Return the type letter of ``kind`` and what writes one of its values (temporal ones as integers)."""
    if pa.types.is_integer(kind):
        return b"i", str
    if pa.types.is_boolean(kind):
        return b"b", lambda value: "1" if value else "0"
    if pa.types.is_decimal(kind):
        return b"m", _plain
    if pa.types.is_date(kind):
        return b"d", str
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind):
        letter = b"c" if pa.types.is_time(kind) else b"z" if kind.tz else b"n"
        scale = _NANOSECONDS[kind.unit]
        return letter, lambda value: str(value * scale)
    if pa.types.is_floating(kind):
        return b"f", lambda value: repr(float(value) + 0.0)
    raise BuildError(f"key column {name!r} is {kind}: use integer, string, boolean, decimal, date, timestamp or binary")


def _integer_view(kind: pa.DataType) -> pa.DataType:
    return pa.int32() if kind.bit_width == 32 else pa.int64()


def _plain(value: object) -> str:
    """Write a decimal without exponent, trailing zeros or a negative zero (``Decimal.normalize`` would round)."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _is_temporal(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_time(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_binary_view(kind)
    )


def format_key(values: Sequence[object]) -> str:
    """Write a key for a URL: its components percent-encoded and joined by commas.

    >>> format_key(["a,b", 7, None or ""])
    'a%2Cb,7,'
    """
    return ",".join(_format_one(value) for value in values)


def _format_one(value: object) -> str:
    if isinstance(value, bytes):
        return quote_from_bytes(value, safe="")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return _plain(value)
    if isinstance(value, float):
        return quote(repr(value + 0.0), safe="")
    return quote(value.isoformat() if isinstance(value, date | time) else str(value), safe="")


def parse_key(text: str, fields: Iterable[pa.Field]) -> tuple[object, ...]:
    """Read what :func:`format_key` wrote, as values of the key's ``fields``.

    ``text`` is the raw part of the URL, not yet percent-decoded. Raises ``ValueError`` that says which component is
    wrong and what was expected.
    """
    expected = list(fields)
    parts = text.split(",")
    if len(parts) != len(expected):
        names = ", ".join(field.name for field in expected)
        joined = "; in a URL they are joined by commas, in JSON they are a list" if len(expected) > 1 else ""
        raise ValueError(f"the key has {len(expected)} components ({names}), not {len(parts)}{joined}")
    return tuple(_parse_one(part, field) for part, field in zip(parts, expected, strict=True))


def key_of_json(values: Sequence[object], fields: Iterable[pa.Field]) -> tuple[object, ...]:
    """Read a key's values as JSON has them: text stands for dates, times, decimals and (base64) binary.

    Raises ``ValueError`` as :func:`parse_key` does. What is no text is left for who looks the key up.
    """
    expected = list(fields)
    if len(values) != len(expected):
        names = ", ".join(field.name for field in expected)
        raise ValueError(f"the key has {len(expected)} components ({names}), not {len(values)}")
    return tuple(_from_json(value, field) for value, field in zip(values, expected, strict=True))


def _from_json(value: object, field: pa.Field) -> object:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not isinstance(value, str):
        if not isinstance(value, _python_types(kind)) or (isinstance(value, bool) and not pa.types.is_boolean(kind)):
            raise ValueError(f"key component {field.name!r}: {value!r} is not of type {kind}")
        return value
    try:
        return b64decode(value, validate=True) if _is_binary(kind) else _parser(kind)(value)
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"key component {field.name!r}: {value!r} is not of type {kind}") from error


def _python_types(kind: pa.DataType) -> tuple[type, ...]:
    """Return the types, beside text, of which a value for ``kind`` may be."""
    if pa.types.is_boolean(kind):
        return (bool,)
    if pa.types.is_integer(kind):
        return (int,)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return (int, float, Decimal)
    return (bytes,) if _is_binary(kind) else (date, time)  # a datetime is a date


def _parse_one(part: str, field: pa.Field) -> object:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if _is_binary(kind):
        return unquote_to_bytes(part)
    try:
        return _parser(kind)(unquote(part, errors="strict"))
    except (ValueError, ArithmeticError) as error:
        raise ValueError(f"key component {field.name!r}: {part!r} is not of type {kind}") from error


def _parser(kind: pa.DataType) -> Callable[[str], object]:
    if _is_string(kind):
        return str
    if pa.types.is_integer(kind):
        return _parse_int
    if pa.types.is_boolean(kind):
        return _parse_bool
    if pa.types.is_decimal(kind):
        return Decimal
    if pa.types.is_date(kind):
        return date.fromisoformat
    if pa.types.is_timestamp(kind):
        return datetime.fromisoformat
    if pa.types.is_time(kind):
        return time.fromisoformat
    if pa.types.is_floating(kind):
        return float
    raise ValueError(f"a key of type {kind} has no URL form")


def _parse_int(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,20}", text):
        raise ValueError(text)
    return int(text)


def _parse_bool(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


class KeyIndex:
    """A segment's keys, sorted by hash, as four rows of uint64: hash (high, low), place and version.

    Place is ``n_chunks << 32 | position`` of the row's first chunk. Whole rows of one kind keep a memory-mapped binary
    search on the few pages that it needs. Rows have distinct keys.
    """

    def __init__(self, words: npt.NDArray[np.uint64]) -> None:
        self._words = words

    def __len__(self) -> int:
        return int(self._words.shape[1])

    @classmethod
    def build(
        cls,
        hashes: npt.NDArray[np.uint8],
        positions: npt.NDArray[np.integer],
        n_chunks: npt.NDArray[np.integer],
        versions: npt.NDArray[np.int64],
    ) -> KeyIndex:
        """Sort the rows' keys: ``(n, 16) uint8`` hashes with each row's first chunk, chunk count and version.

        Raises :class:`indexer.errors.BuildError` if two rows have one key.
        """
        high, low = _halves(hashes)
        order = np.lexsort((low, high))
        place = n_chunks.astype(np.uint64) << np.uint64(32) | positions.astype(np.uint64)
        words = np.stack([high[order], low[order], place[order], versions.astype(np.int64).view(np.uint64)[order]])
        twice = np.flatnonzero((words[0, 1:] == words[0, :-1]) & (words[1, 1:] == words[1, :-1]))
        if twice.size:
            first, second = sorted(int(positions[order[at]]) for at in (twice[0], twice[0] + 1))
            raise BuildError(f"{twice.size} keys come twice in one segment, the first at chunks {first} and {second}")
        return cls(words)

    def save(self, path: Path) -> None:
        """Write the index as a plain ``.npy``."""
        np.save(path, self._words)

    @classmethod
    def open(cls, path: Path) -> KeyIndex:
        """Memory-map a saved index. Raises :class:`indexer.errors.CorruptFile` if it isn't one."""
        return cls(_checked_words(path, str(path)))

    @classmethod
    def decode(cls, data: bytes, *, name: str) -> KeyIndex:
        """Return the index whose file, called ``name``, has the bytes ``data``; raises as :meth:`open` does."""
        return cls(_checked_words(io.BytesIO(data), name))

    def lookup(self, hashes: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.void]]:
        """Find ``(m, 16) uint8`` hashes; return the indices of those found and, in that order, their entries.

        Entries are records of :data:`ENTRY`: ``position`` of the row's first chunk, ``n_chunks``, ``version``.
        """
        high, low = _halves(hashes)
        at = np.searchsorted(self._words[0], high)
        found = np.full(len(high), -1, dtype=np.int64)
        open_queries = np.arange(len(high))
        while open_queries.size:  # one turn, and one more for each further key with the same high half
            open_queries = open_queries[at[open_queries] < len(self)]
            open_queries = open_queries[self._words[0][at[open_queries]] == high[open_queries]]
            hit = self._words[1][at[open_queries]] == low[open_queries]
            found[open_queries[hit]] = at[open_queries[hit]]
            open_queries = open_queries[~hit]
            at[open_queries] += 1
        queries = np.flatnonzero(found >= 0)
        return queries, self._entries(found[queries])

    def entries(self) -> npt.NDArray[np.void]:
        """Return all rows' entries, in the order of their hashes."""
        return self._entries(np.arange(len(self)))

    def hashes(self) -> npt.NDArray[np.uint8]:
        """Return all rows' hashes, ascending: ``(n, 16) uint8``."""
        return np.ascontiguousarray(self._words[:2].T).astype(">u8").view(np.uint8).reshape(-1, HASH_BYTES)

    def shares(self, parts: int) -> list[KeyIndex]:
        """Return the keys of each of ``parts`` equal ranges of hashes; nothing is copied."""
        bounds = np.array([2**64 * part // parts for part in range(1, parts)], dtype=np.uint64)
        cuts = [0, *np.searchsorted(self._words[0], bounds).tolist(), len(self)]
        return [KeyIndex(self._words[:, start:stop]) for start, stop in pairwise(cuts)]

    def _entries(self, at: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
        entries = np.empty(len(at), dtype=ENTRY)
        place = self._words[2][at]
        entries["position"] = place & np.uint64(0xFFFFFFFF)
        entries["n_chunks"] = place >> np.uint64(32)
        entries["version"] = self._words[3][at].view(np.int64)
        return entries


def _checked_words(file: Path | io.BytesIO, name: str) -> npt.NDArray[np.uint64]:
    try:
        words = np.load(file, mmap_mode="r" if isinstance(file, Path) else None, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise CorruptFile(f"{name}: not an array file: {error}") from error
    if words.ndim != 2 or words.shape[0] != 4 or words.dtype != np.uint64:
        raise CorruptFile(f"{name}: expected (4, n) uint64, found {words.shape} {words.dtype}")
    return cast("npt.NDArray[np.uint64]", words)


def _halves(hashes: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    words = np.ascontiguousarray(hashes, dtype=np.uint8).reshape(-1, HASH_BYTES).view(">u8").astype(np.uint64)
    return words[:, 0], words[:, 1]


def among(hashes: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Say of each of ``hashes``, ``(n, 16) uint8``, whether it is one of ``others``, ``(m, 16)``: ``(n,) bool``."""
    found = pc.is_in(hash_column(hashes), value_set=hash_column(others))
    return cast("npt.NDArray[np.bool_]", found.to_numpy(zero_copy_only=False))


def hash_column(hashes: npt.NDArray[np.uint8]) -> pa.FixedSizeBinaryArray:
    """Wrap ``(n, 16) uint8`` hashes as an Arrow column of type binary(16)."""
    buffer = pa.py_buffer(np.ascontiguousarray(hashes))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), len(hashes), [None, buffer])


def column_hashes(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return a column of type binary(16) or binary, without nulls, as ``(n, 16) uint8``."""
    array = pc.cast(column, pa.binary(HASH_BYTES)).combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.binary(HASH_BYTES))
    data = array.buffers()[1]
    if data is None:
        return np.empty((0, HASH_BYTES), dtype=np.uint8)
    whole = np.frombuffer(data, dtype=np.uint8).reshape(-1, HASH_BYTES)
    return whole[array.offset : array.offset + len(array)]

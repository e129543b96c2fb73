"""Dead letters: rows that were set aside, with the reason, in files that the catalog's commit names.

==============  ==========  ===============================================================
column          type        what
==============  ==========  ===============================================================
``key``         string      the key as a JSON list
``reason``      string      one of :data:`indexer.netting.REASONS`
``version``     int64       the source's version
``row``         string      the source's columns as a JSON object
``key_hash``    binary(16)  the key's hash; null where the key is
``row_hash``    binary(16)  the content's hash
==============  ==========  ===============================================================

A letter is about the newest state of its row: a later change of the key clears it, or, for a row without a key, the
deletion of that very content, which is how an update of it begins. Of a key that the table has several times one row is
indexed and each of the others has a letter, until a change leaves one (:mod:`indexer.duplicates`).
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.contract import COMMITTED_AT, OP, VERSION
from indexer.errors import CorruptFile
from indexer.format.keys import hash_column
from indexer.format.records import FileRecord
from indexer.format.store import Store
from indexer.letterbox import decode_letters, encode_letters
from indexer.netting import BAD_TEXT, ROW_HASH, NetChanges
from indexer.spec import CollectionSpec

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("reason", pa.string()),
        ("version", pa.int64()),
        ("row", pa.string()),
        ("key_hash", pa.binary(16)),
        ("row_hash", pa.binary(16)),
    ]
)


def letters_of(changes: pa.Table, net: NetChanges, spec: CollectionSpec) -> pa.Table:
    """Return the letters of a batch, in the order of its rows."""
    at = np.array(sorted(net.letters), dtype=np.int64)
    rows = _as_text(changes.take(pa.array(at)).drop_columns([OP, ROW_HASH, BAD_TEXT, COMMITTED_AT])).to_pylist()
    keyed = pa.array(~net.keyed[at])
    hashes = hash_column(net.hashes[at])
    return pa.table(
        {
            "key": [json.dumps([row[name] for name in spec.key], default=str) for row in rows],
            "reason": [net.letters[position] for position in at.tolist()],
            "version": [row.pop(VERSION) for row in rows],
            "row": [json.dumps(row, default=str, allow_nan=True) for row in rows],
            "key_hash": pc.if_else(keyed, pa.nulls(len(at), pa.binary(16)), hashes),
            "row_hash": changes[ROW_HASH].take(pa.array(at)).cast(pa.binary(16)),
        },
        schema=SCHEMA,
    )


def write_letters(letters: pa.Table, store: Store) -> tuple[FileRecord, ...]:
    """Write ``letters`` as one file; none if there are none."""
    if not len(letters):
        return ()
    return (store.put_record(f"letters/{uuid.uuid4().hex}.parquet", encode_letters(letters)),)


def read_letters(files: Sequence[FileRecord], store: Store) -> pa.Table:
    """Return the letters of all ``files``. Raises :class:`indexer.errors.CorruptFile`."""
    tables = [SCHEMA.empty_table()]
    for file in files:
        letters = decode_letters(store.read(file), file.path)
        try:
            tables.append(letters.cast(SCHEMA))
        except ValueError as error:  # pa.ArrowInvalid is one
            raise CorruptFile(f"{file.path}: no letters can be read from it: {error}", path=file.path) from error
    return pa.concat_tables(tables)


def letters_by_key(files: Sequence[FileRecord], store: Store) -> dict[bytes, int]:
    """Return how many letters there are about each key, by its hash. Raises :class:`indexer.errors.CorruptFile`."""
    hashes = read_letters(files, store)["key_hash"].drop_null()
    return dict(Counter(hashes.to_pylist()))


def uncleared(
    files: tuple[FileRecord, ...],
    keys: npt.NDArray[np.uint8],
    freed: Sequence[bytes],
    store: Store,
) -> tuple[tuple[FileRecord, ...], int]:
    """Return the files and the number of letters that stay when ``keys`` changed and ``freed`` contents were deleted.

    ``keys`` are key hashes, ``(n, 16) uint8``; ``freed`` the content hashes of deleted rows without a key. Files are
    written again only if a letter in them is cleared.
    """
    letters = read_letters(files, store)
    cleared = pc.or_kleene(
        pc.fill_null(pc.is_in(letters["key_hash"].cast(pa.binary()), hash_column(keys).cast(pa.binary())), False),
        pc.and_(
            pc.is_null(letters["key_hash"]),
            pc.is_in(letters["row_hash"].cast(pa.binary()), pa.array(freed, pa.binary())),
        ),
    )
    kept = letters.filter(pc.invert(cleared))
    if len(kept) == len(letters):
        return files, len(letters)
    return write_letters(kept, store), len(kept)


def _as_text(table: pa.Table) -> pa.Table:
    """Dates and times as text: Python has none before the year 1 or after 9999, and a letter may be about just that."""
    for at, field in enumerate(table.schema):
        if pa.types.is_temporal(field.type):
            table = table.set_column(at, field.name, table[at].cast(pa.string()))
    return table

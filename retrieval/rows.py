"""Reading rows out of segments: one row by its key, and the fields and passages of hits.

A row's text fields are stored in portions, one per chunk, that may overlap; put together they are the field again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from indexer.format.keys import key_hashes
from indexer.spec import CollectionSpec
from retrieval import bitmap
from retrieval.chunks import COLUMN_PREFIX, START_PREFIX, TEXT_PREFIX, Chunks, Key, keys_of
from retrieval.errors import RequestError
from retrieval.policies import Sight
from retrieval.snapshot import Snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row as it is indexed: its key, all stored columns and text fields, and the source version it is of.

    ``n_chunks`` is None for a caller whose policies mask text, because it tells how long that is.
    """

    key: Key
    fields: dict[str, Any]
    version: int
    committed_at: datetime
    n_chunks: int | None


def get_row(snapshot: Snapshot, key: Sequence[Any], sight: Sight) -> Row | None:
    """Return the row of ``key`` (values in spec order, as :func:`indexer.format.keys.parse_key` gives them), or None.

    A row that ``sight`` does not have is None too, and what it masks is masked. Raises
    :class:`retrieval.errors.RequestError` for a key of the wrong length or type.
    """
    snapshot = snapshot.within(sight)
    found = find_row(snapshot, key, sight)
    return None if found is None else row_at(snapshot.segments[found[0]], snapshot.spec, found[1], sight)


def find_row(snapshot: Snapshot, key: Sequence[Any], sight: Sight, *, where: str = "key") -> tuple[int, int] | None:
    """Return the place of the segment that has the row of ``key``, and its first chunk there; None as above.

    ``where`` is the field that errors name.
    """
    if not snapshot.schema:
        return None
    hashes = key_hashes(_key_table(snapshot, key, where), snapshot.spec.key)
    for place, selection in enumerate(snapshot.passing(None, sight).selections):
        _, entries = selection.segment.files.keys.lookup(hashes)
        positions = entries["position"].astype(np.int64)
        for position in positions[bitmap.contains(selection.bits, positions)].tolist():
            return place, position
    return None


def field_names(spec: CollectionSpec) -> tuple[str, ...]:
    """Return what a response may include: the stored columns, then the text fields."""
    return tuple(dict.fromkeys([*spec.stored_columns, *spec.text.fields]))


def read_fields(
    chunks: Chunks, spec: CollectionSpec, position: int, names: Sequence[str], sight: Sight
) -> dict[str, Any]:
    """Return the named stored columns and whole text fields of the row that chunk ``position`` belongs to.

    What ``sight`` masks is masked.
    """
    stored = spec.stored_columns
    fields = {
        name: chunks.reader(COLUMN_PREFIX + name)(position)
        if name in stored
        else whole_field(chunks, name, chunks.chunks_of_row(position))
        for name in names
    }
    return {name: sight.value(name, value) for name, value in fields.items()} if sight.masks else fields


def passage(chunks: Chunks, spec: CollectionSpec, position: int, hidden: frozenset[str]) -> str:
    """Return the text of one chunk: its portions of the text fields, in spec order, parted by blank lines.

    The ``hidden`` fields are left out.
    """
    shown = (field for field in spec.text.fields if field not in hidden)
    portions = (chunks.reader(TEXT_PREFIX + field)(position) for field in shown)
    return "\n\n".join(portion for portion in portions if portion)


def whole_field(chunks: Chunks, field: str, positions: range) -> str | None:
    """Put a text field together from its portions at ``positions``; None when the row has none."""
    text, start = chunks.reader(TEXT_PREFIX + field), chunks.reader(START_PREFIX + field)
    portions = [(start(position), portion) for position in positions if (portion := text(position)) is not None]
    if not portions:
        return None
    whole = ""
    for offset, portion in sorted(portions):
        whole += portion[len(whole) - offset :]
    return whole


def row_at(chunks: Chunks, spec: CollectionSpec, position: int, sight: Sight) -> Row:
    """Return the row that chunk ``position`` belongs to; what ``sight`` masks is masked."""
    return Row(
        key=keys_of(chunks, spec, [position])[0],
        fields=read_fields(chunks, spec, position, field_names(spec), sight),
        version=chunks.reader("_version")(position),
        committed_at=chunks.reader("_committed_at")(position),
        n_chunks=None if sight.hidden_text else len(chunks.chunks_of_row(position)),
    )


def _key_table(snapshot: Snapshot, key: Sequence[Any], where: str) -> pa.Table:
    names = snapshot.spec.key
    if len(key) != len(names):
        raise RequestError(f"expected {len(names)} values ({', '.join(names)}), got {len(key)}", field=where)
    columns = []
    for name, value in zip(names, key, strict=True):
        kind = snapshot.arrow_schema.field(name).type
        try:
            columns.append(pa.array([value], type=kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError) as error:
            raise RequestError(f"expected {kind} for {name!r}, got {value!r}", field=where) from error
    if any(column.null_count for column in columns):
        raise RequestError("a key has no nulls", field=where)
    return pa.table(columns, names=list(names))

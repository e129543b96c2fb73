"""Reading rows out of segments: rows by their keys, and the fields and passages of hits.

A row's text fields are stored in portions, one per chunk, that may overlap; put together they are the field again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from indexer.format.keys import key_hashes
from indexer.spec import CollectionSpec
from retrieval import bitmap
from retrieval.chunks import COLUMN_PREFIX, START_PREFIX, TEXT_PREFIX, Chunks, Key, keys_of
from retrieval.deadline import check_deadline
from retrieval.errors import RequestError
from retrieval.policies import Sight
from retrieval.snapshot import Snapshot
from retrieval.version import OpenVersion


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row as it is indexed: its key, stored columns and text fields, and the source version it is of.

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
    return get_rows(snapshot, [key], sight, where=["key"])[0]


def get_rows(
    snapshot: Snapshot,
    keys: Sequence[Sequence[Any]],
    sight: Sight,
    *,
    where: Sequence[str],
    names: Sequence[str] | None = None,
    deadline: float | None = None,
) -> list[Row | None]:
    """Return the row of each of ``keys``, or None, as :func:`get_row` does.

    ``where`` has, of each key, the field that errors name; ``names`` are the columns and text fields to read (None:
    all). ``deadline`` is time.monotonic()'s.
    """
    if not snapshot.schema:
        return [None] * len(keys)
    snapshot = snapshot.within(sight)
    found = find_rows(snapshot, hashes_of(snapshot, keys, where), sight)
    rows: list[Row | None] = [None] * len(keys)
    for number, place in found.items():
        check_deadline(deadline, "while the rows were read")
        rows[number] = row_at(snapshot.segments[place.segment], snapshot.spec, place.position, sight, names=names)
    return rows


def hashes_of(version: OpenVersion, keys: Sequence[Sequence[Any]], where: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Hash keys of ``version``, which has segments: ``(n, 16) uint8``.

    Raises RequestError for one of the wrong length or type, naming its field in ``where``.
    """
    names = version.spec.key
    try:
        return key_hashes(_key_table(version, keys, ""), names)
    except RequestError:  # of which one?
        each = [key_hashes(_key_table(version, [key], field), names) for key, field in zip(keys, where, strict=True)]
        return np.concatenate(each)


class RowPlace(NamedTuple):
    """Where a row is: the place of its segment among a snapshot's, its first chunk there, and how many it has."""

    segment: int
    position: int
    n_chunks: int


def find_rows(snapshot: Snapshot, hashes: npt.NDArray[np.uint8], sight: Sight) -> dict[int, RowPlace]:
    """Return where the rows are whose keys have these ``hashes``, by the hash's number, if ``sight`` has them."""
    found: dict[int, RowPlace] = {}
    for place, selection in enumerate(snapshot.passing(None, sight).selections):
        numbers, entries = selection.segment.files.keys.lookup(hashes)
        positions = entries["position"].astype(np.int64)
        seen = bitmap.contains(selection.bits, positions)
        for number, entry in zip(numbers[seen].tolist(), entries[seen].tolist(), strict=True):
            found[number] = RowPlace(place, entry[0], entry[1])
    return found


def find_row(snapshot: Snapshot, key: Sequence[Any], sight: Sight, *, where: str = "key") -> tuple[int, int] | None:
    """Return the place of the segment that has the row of ``key``, and its first chunk there; None as above.

    ``where`` is the field that errors name.
    """
    if not snapshot.schema:
        return None
    found = find_rows(snapshot, hashes_of(snapshot, [key], [where]), sight).get(0)
    return None if found is None else (found.segment, found.position)


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


def passage(chunks: Chunks, spec: CollectionSpec, position: int, hidden: frozenset[str], *, context: int = 0) -> str:
    """Return the text of one chunk: its portions of the text fields, in spec order, parted by blank lines.

    With ``context``, of so many chunks of the row before and after it too. The ``hidden`` fields are left out.
    """
    shown = (field for field in spec.text.fields if field not in hidden)
    if context:
        around = window(chunks.chunks_of_row(position), position, context)
        portions = (whole_field(chunks, field, around) for field in shown)
    else:
        portions = (chunks.reader(TEXT_PREFIX + field)(position) for field in shown)
    return "\n\n".join(portion for portion in portions if portion)


def window(positions: range, position: int, context: int) -> range:
    """Return those of a row's ``positions`` that are at most ``context`` from ``position``.

    >>> window(range(10, 15), 11, 2)
    range(10, 14)
    """
    return range(max(positions.start, position - context), min(positions.stop, position + context + 1))


def whole_field(chunks: Chunks, field: str, positions: range) -> str | None:
    """Put a text field together from its portions at ``positions``, side by side; None where there are none."""
    text, start = chunks.reader(TEXT_PREFIX + field), chunks.reader(START_PREFIX + field)
    portions = sorted((start(position), portion) for position in positions if (portion := text(position)) is not None)
    if not portions:
        return None
    first, whole = int(portions[0][0]), str(portions[0][1])
    for offset, portion in portions[1:]:
        whole += portion[first + len(whole) - offset :]
    return whole


def row_at(
    chunks: Chunks,
    spec: CollectionSpec,
    position: int,
    sight: Sight,
    *,
    names: Sequence[str] | None = None,
    n_chunks: int | None = None,
) -> Row:
    """Return the row that chunk ``position`` belongs to; what ``sight`` masks is masked.

    ``names`` are the columns and text fields to read (None: all), and ``n_chunks`` says how many chunks the row has
    where not all of them are among ``chunks``.
    """
    chunks_here = len(chunks.chunks_of_row(position)) if n_chunks is None else n_chunks
    return Row(
        key=keys_of(chunks, spec, [position])[0],
        fields=read_fields(chunks, spec, position, field_names(spec) if names is None else names, sight),
        version=chunks.reader("_version")(position),
        committed_at=chunks.reader("_committed_at")(position),
        n_chunks=None if sight.hidden_text else chunks_here,
    )


def _key_table(version: OpenVersion, keys: Sequence[Sequence[Any]], where: str) -> pa.Table:
    """Return keys as a table of their columns; raises RequestError, which names the field ``where``."""
    names = version.spec.key
    for key in keys:
        if len(key) != len(names):
            raise RequestError(f"expected {len(names)} values ({', '.join(names)}), got {len(key)}", field=where)
    columns = []
    for at, name in enumerate(names):
        kind, values = version.arrow_schema.field(name).type, [key[at] for key in keys]
        try:
            columns.append(pa.array(values, type=kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, TypeError) as error:
            raise RequestError(f"expected {kind} for {name!r}, got {values[0]!r}", field=where) from error
    if any(column.null_count for column in columns):
        raise RequestError("a key has no nulls", field=where)
    return pa.table(columns, names=list(names))

"""Objects of the log in the store: Parquet, one for each complete journal file.

They are ``_audit/v1/writer=<writer>/<first number>-<last number>.parquet``. The writer's public key is elsewhere, at
``_audit/keys/<writer>.pem``, because engines take every file of a folder for data. ``record`` is the record as it was
hashed; other columns repeat parts of it for SQL, and are checked against it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from api.audit.chain import Entry
from api.audit.files import Place
from api.errors import AuditUnreadable

PREFIX, KEYS = "_audit/v1", "_audit/keys"
_PATH = re.compile(rf"{PREFIX}/writer=([0-9a-f]{{32}})/([0-9]{{20}})-[0-9]+\.parquet")


class Columns(NamedTuple):
    """What SQL can ask for without reading records; ``time`` is in milliseconds."""

    time: int
    phase: str
    request_id: str | None
    actor: str | None
    operation: str | None
    collection: str | None
    status: int | None
    decision: str | None


class Row(NamedTuple):
    """An entry, and the columns beside it; None where it comes from a journal file, which has none."""

    entry: Entry
    columns: Columns | None


SCHEMA = pa.schema(
    [
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("prev", pa.string(), nullable=False),
        pa.field("hash", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("request_id", pa.string()),
        pa.field("actor", pa.string()),
        pa.field("operation", pa.string()),
        pa.field("collection", pa.string()),
        pa.field("status", pa.int64()),
        pa.field("decision", pa.string()),
        pa.field("record", pa.string(), nullable=False),
    ]
)


def object_path(writer: str, first: int, last: int) -> str:
    """Return where the records ``first`` to ``last`` of ``writer`` are."""
    return f"{PREFIX}/writer={writer}/{first:020d}-{last}.parquet"


def key_path(writer: str) -> str:
    """Return where the public key of ``writer`` is."""
    return f"{KEYS}/{writer}.pem"


def place_in_store(path: str) -> Place | None:
    """Return what the object ``path`` holds; None if it is none of the log's."""
    found = _PATH.fullmatch(path)
    return Place(found[1], int(found[2])) if found else None


def columns_of(record: Any) -> Columns:
    """Return the columns of a record, which may be anything that JSON can say; raises ValueError if it is no event."""
    try:
        api, unmapped, time_ms = record.get("api", {}), record["unmapped"], record["time"]
        if not isinstance(time_ms, int):
            raise ValueError("the record has no time")
        return Columns(
            time=time_ms,
            phase=unmapped["phase"],
            request_id=api.get("request", {}).get("uid"),
            actor=record.get("actor", {}).get("user", {}).get("uid"),
            operation=api.get("operation"),
            collection=unmapped.get("collection"),
            status=api.get("response", {}).get("code"),
            decision=unmapped.get("decision"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("the record is no event of this log") from error


def to_parquet(entries: Sequence[Entry]) -> bytes:
    """Return ``entries`` as a Parquet file."""
    columns = [columns_of(orjson.loads(entry.body)) for entry in entries]
    arrays: dict[str, list[Any]] = {
        name: [getattr(entry, name) for entry in entries] for name in ("seq", "prev", "hash")
    }
    arrays |= {name: list(values) for name, values in zip(Columns._fields, zip(*columns, strict=True), strict=True)}
    arrays["record"] = [entry.body.decode() for entry in entries]
    file = io.BytesIO()
    pq.write_table(pa.table(arrays, schema=SCHEMA), file, compression="zstd")
    return file.getvalue()


def from_parquet(data: bytes, name: str) -> list[Row]:
    """Return what :func:`to_parquet` was given, unchecked; raises :class:`api.errors.AuditUnreadable`."""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        if table.schema != SCHEMA:
            raise ValueError("its columns are others")
        table = table.set_column(SCHEMA.get_field_index("time"), "time", table["time"].cast(pa.int64()))
        links = zip(*(table[column].to_pylist() for column in ("seq", "prev", "hash", "record")), strict=True)
        columns = zip(*(table[column].to_pylist() for column in Columns._fields), strict=True)
        return [
            Row(Entry(seq, prev, sha256, record.encode()), Columns(*shown))
            for (seq, prev, sha256, record), shown in zip(links, columns, strict=True)
        ]
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise AuditUnreadable(f"{name}: not a Parquet file of the audit log: {error}") from error

"""Finished queries: the first rows come with the answer, the others from addresses that expire.

The service keeps a result for 24 hours (Snowflake docs, user guide, "Using persisted query results") and signs each
chunk's address for less; asking for the result by query id again gives new addresses of the same chunks.
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from tests.snowflake.emulator.arrow_wire import json_rows, streams
from tests.snowflake.emulator.engine import Answer
from tests.snowflake.emulator.naming import shown

MAX_KEPT_BYTES = 2 << 30
KEY_HEADER = "x-amz-server-side-encryption-customer-key"
ALGORITHM_HEADER = "x-amz-server-side-encryption-customer-algorithm"


@dataclass
class Result:
    """One query's result; ``tokens`` are the address parts that still work."""

    data: dict[str, Any]
    chunks: list[bytes] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    key: str = field(default_factory=lambda: base64.b64encode(secrets.token_bytes(32)).decode())
    tokens: set[str] = field(default_factory=set)

    @property
    def size_bytes(self) -> int:
        """What it occupies."""
        return sum(map(len, self.chunks)) + len(self.data.get("rowsetBase64") or "")


class Results:
    """Results by query id, the oldest forgotten first when they grow too large."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Result] = OrderedDict()
        self._finished: set[str] = set()
        self._lock = threading.Lock()

    def add(self, query_id: str, answer: Answer, rows_per_chunk: int, base: dict[str, Any]) -> None:
        """Keep a statement's result, cut into chunks; the first comes with the answer itself."""
        data = base | {
            "rowtype": [_row_type(column) for column in answer.columns],
            "total": answer.rows.num_rows,
            "returned": answer.rows.num_rows,
            "queryId": query_id,
            "statementTypeId": answer.statement_type,
        }
        if answer.text:
            data |= {"queryResultFormat": "json", "rowset": json_rows(answer.rows, answer.columns)}
            return self._keep(query_id, Result(data))
        (_, first), *others = streams(answer.rows, answer.columns, rows_per_chunk)
        data |= {"queryResultFormat": "arrow", "rowsetBase64": base64.b64encode(first).decode()}
        return self._keep(query_id, Result(data, [chunk for _, chunk in others], [rows for rows, _ in others]))

    def answer(self, query_id: str, address: str) -> dict[str, Any] | None:
        """Return a result's response data with fresh addresses for its chunks, None when it is not kept."""
        with self._lock:
            result = self._kept.get(query_id)
            if result is None:
                return None
            if not result.chunks:
                return result.data
            token = secrets.token_urlsafe(16)
            result.tokens.add(token)
            chunks = [
                {
                    "url": f"{address}/chunks/{query_id}/{place}?X-Amz-Signature={token}",
                    "rowCount": rows,
                    "uncompressedSize": len(chunk),
                    "compressedSize": len(chunk),
                }
                for place, (chunk, rows) in enumerate(zip(result.chunks, result.rows, strict=True))
            ]
            headers = {ALGORITHM_HEADER: "AES256", KEY_HEADER: result.key}
            return result.data | {"chunks": chunks, "qrmk": result.key, "chunkHeaders": headers}

    def chunk(self, query_id: str, place: int, token: str, key: str | None) -> bytes | None:
        """Return a chunk, None when the address has expired or the key is not its own."""
        with self._lock:
            result = self._kept.get(query_id)
            if result is None or token not in result.tokens or key != result.key:
                return None
            return result.chunks[place]

    def expire_addresses(self) -> None:
        """No address given so far works any more; new ones do."""
        with self._lock:
            for result in self._kept.values():
                result.tokens.clear()

    def expire_results(self) -> None:
        """Forget every result, as the service does after a day."""
        with self._lock:
            self._kept.clear()

    def finished(self, query_id: str) -> bool:
        """Say whether a query ran, its result kept or not."""
        with self._lock:
            return query_id in self._finished

    def _keep(self, query_id: str, result: Result) -> None:
        with self._lock:
            self._kept[query_id] = result
            self._finished.add(query_id)
            while len(self._kept) > 1 and sum(r.size_bytes for r in self._kept.values()) > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)


def _row_type(column: Any) -> dict[str, Any]:
    entry: dict[str, Any] = column.row_type()
    return entry | {"name": shown(entry["name"])}

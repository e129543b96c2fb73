"""Answers as ``/openapi.json`` shows them: to the first examples of the bodies in :mod:`api.models.requests`."""

from __future__ import annotations

from typing import Any

SOURCE: dict[str, Any] = {
    "epoch": "0b3f4b8e-9a4e-4f2f-8f4e-3a3d2c1b0a99",
    "version": 42,
    "committed_at": "2026-03-01T12:00:00Z",
}
_STATE: dict[str, Any] = {"masked": [], "version": 43, "source": SOURCE, "age_seconds": 3.207}

_SEARCH: dict[str, Any] = {
    "results": [
        {
            "key": "GHSA-8r8j-xvfj-36f9",
            "score": 0.9127,
            "text": "Zip bomb in ziplib\n\nAn archive is unpacked whole before its size is looked at.",
            "fields": {"id": "GHSA-8r8j-xvfj-36f9", "package": "ziplib", "severity": 7},
        }
    ],
    "next_cursor": None,
    **_STATE,
    "plan": {"mode": "hybrid", "vector": "exact", "chunks": 5120, "passing": 5120},
    "took_ms": {"filter": 0.021, "embed": 8.13, "vector": 1.204, "keyword": 0.911, "fuse": 0.32, "total": 10.6},
}
_SQL: dict[str, Any] = {
    "columns": [
        {"name": "severity", "masked": False, "type": "BIGINT"},
        {"name": "n", "masked": False, "type": "BIGINT"},
    ],
    "rows": [[7, 1204], [9, 311]],
    "next_cursor": None,
    "truncated": False,
    **_STATE,
    "plan": {"rows": 1515, "mode": "filter", "vector": None},
    "took_ms": {"plan": 0.42, "find": 0.3, "group": 1.9, "total": 2.7},
}
_ROWS: dict[str, Any] = {
    "rows": [
        {
            "key": "CVE-2024-3094",
            "fields": {"package": "xz", "severity": 10},
            "source_version": 31,
            "source_committed_at": "2026-02-11T08:30:00Z",
            "chunks": 2,
        }
    ],
    "missing": ["CVE-2021-44228"],
    **_STATE,
}
ANSWERS = {"search": _SEARCH, "sql": _SQL, "get_rows": _ROWS}
"""By the call's ``operationId``."""

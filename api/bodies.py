"""Reading a request's body: its media type and encoding checked, its size bounded."""

from __future__ import annotations

from starlette.requests import ClientDisconnect, Request

from api.problems import BAD_REQUEST, ENCODED, NOT_JSON_TYPE, TOO_LARGE, Problem

DROPPED_RATIO = 16
"""A body over the limit is read on and dropped up to this many times the limit: a client that is still sending when
the connection closes often loses the answer."""


async def read_json_bytes(request: Request, limit_bytes: int) -> bytes:
    """Return the body; raises :class:`Problem` (413 too large, 415 another media type, or compressed)."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise Problem(NOT_JSON_TYPE, f"expected application/json, got {media_type or 'no Content-Type'}")
    encoding = ", ".join(request.headers.getlist("content-encoding"))
    if encoding.strip().lower() not in ("", "identity"):
        raise Problem(ENCODED, f"expected no Content-Encoding, got {encoding}", headers={"Accept-Encoding": "identity"})
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size <= limit_bytes:
                parts.append(part)
            elif size > limit_bytes * DROPPED_RATIO:
                break
    except ClientDisconnect:
        raise Problem(BAD_REQUEST, "the body ended early") from None
    if size > limit_bytes:
        raise Problem(TOO_LARGE, f"the body is larger than {limit_bytes:,} bytes")
    return b"".join(parts)

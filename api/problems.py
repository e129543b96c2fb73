"""Problems: how an error reaches a caller (RFC 9457, ``application/problem+json``).

A problem's ``type`` is a path under ``/problems/`` on this same server, where a sentence says what it means and what
to do. ``code`` is the last part of it, for programs. No problem carries a stack trace, a path or an address.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from api.encoding import encode

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = {"Retry-After": "1"}
"""Of a problem that may well be over in a second."""


class Mistake(TypedDict):
    """One entry of ``errors``: where in the request (``field``), what, and for a filter the place in its text."""

    message: str
    code: NotRequired[str]
    field: NotRequired[str]
    line: NotRequired[int]
    column: NotRequired[int]
    length: NotRequired[int]
    hint: NotRequired[str]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of problem: its HTTP status, its title, and what a caller can do about it."""

    code: str
    status: int
    title: str
    remedy: str


NOT_JSON = Kind(
    code="not-json",
    status=400,
    title="The body is not JSON",
    remedy="Send one JSON object; errors[] gives the line and column where reading stopped.",
)
BAD_REQUEST = Kind(
    code="bad-request",
    status=400,
    title="The request cannot be understood",
    remedy="Check the request against /openapi.json.",
)
UNAUTHENTICATED = Kind(
    code="unauthenticated",
    status=401,
    title="Who is asking is not known",
    remedy="Send 'Authorization: Bearer ...' with an API key (`grebe keys create`) or a token of a configured issuer.",
)
FORBIDDEN = Kind(
    code="forbidden",
    status=403,
    title="That is not allowed",
    remedy="None of the caller's roles allows the action; who runs the server grants it with `grebe roles grant`.",
)
NO_SUCH_ROUTE = Kind(
    code="no-such-route",
    status=404,
    title="There is nothing at this address",
    remedy="See /openapi.json for what there is.",
)
COLLECTION_NOT_FOUND = Kind(
    code="collection-not-found",
    status=404,
    title="There is no such collection",
    remedy="GET /v1/collections lists those that the caller may use. A new one appears within a poll of the catalog.",
)
ROW_NOT_FOUND = Kind(
    code="row-not-found",
    status=404,
    title="There is no such row",
    remedy="The key may be absent, or not yet (or no longer) in this version. A composite key is its values, each "
    "percent-encoded, joined by commas in the order of the spec's key.",
)
METHOD_NOT_ALLOWED = Kind(
    code="method-not-allowed",
    status=405,
    title="This address does not answer that method",
    remedy="The Allow header lists the methods that it answers.",
)
CURSOR_ENDED = Kind(
    code="cursor-ended",
    status=410,
    title="The cursor has ended",
    remedy="Begin anew with the cursor 'start': it has the rows as they are by now. Cursors end "
    "search.cursor_seconds after their first page, and when the collection is built anew or dropped.",
)
TOO_OLD = Kind(
    code="too-old",
    status=412,
    title="The index is not new enough yet",
    remedy="The version or age that was asked for was not reached within the deadline. Wait longer (deadline_ms), ask "
    "for less, or see whether the sync is running: GET /v1/collections/{name}/status.",
)
TOO_LARGE = Kind(
    code="too-large",
    status=413,
    title="The body is too large",
    remedy="Send less, or raise max_body_bytes in the server's settings.",
)
NOT_JSON_TYPE = Kind(
    code="unsupported-media-type",
    status=415,
    title="The body's media type is not JSON",
    remedy="Send 'Content-Type: application/json' (curl: --json). Other types are refused, because a web page of "
    "another site can send them unasked.",
)
ENCODED = Kind(
    code="unsupported-content-encoding",
    status=415,
    title="The body is compressed",
    remedy="Send the body as it is, without Content-Encoding: bodies are small, and are not unpacked.",
)
MISDIRECTED = Kind(
    code="misdirected",
    status=421,
    title="This server does not answer for that host",
    remedy="Use the address that the server printed, or add the name to allowed_hosts in the server's settings.",
)
INVALID = Kind(
    code="invalid-request",
    status=422,
    title="The request has mistakes",
    remedy="errors[] names each field and what is wrong with it.",
)
FILTER = Kind(
    code="invalid-filter",
    status=422,
    title="The filter cannot be used",
    remedy="errors[] gives the line, column and length of the place in the filter's text, and a hint if there is one.",
)
SQL = Kind(
    code="invalid-sql",
    status=422,
    title="The statement cannot be run",
    remedy="errors[] gives the line, column and length of the place in the statement, and a hint if there is one. One "
    "SELECT over one collection is allowed.",
)
QUOTA = Kind(
    code="quota-exceeded",
    status=429,
    title="The caller has asked too often",
    remedy="Each caller has a quota on this server, and this one's is used up. Try again after the seconds in "
    "Retry-After; RateLimit-Remaining in other answers says how much is left.",
)
INTERNAL = Kind(
    code="internal",
    status=500,
    title="The server failed",
    remedy="This is a fault of the server. Its log has the details under the request_id.",
)
OVERLOADED = Kind(
    code="overloaded",
    status=503,
    title="The server is busy",
    remedy="Every search thread is busy and the queue is full. Try again after the seconds in Retry-After.",
)
NOT_READY = Kind(
    code="not-ready",
    status=503,
    title="The collection is not open yet",
    remedy="The server is opening its first version, or could not: GET /v1/collections/{name}/status says which. Try "
    "again after the seconds in Retry-After.",
)
NODES_UNAVAILABLE = Kind(
    code="nodes-unavailable",
    status=503,
    title="A part of the collection cannot be reached",
    remedy="The collection is spread over several servers, and none of those that hold one part of it answers. An "
    "answer without that part would be wrong, so there is none. Try again after the seconds in Retry-After.",
)
AUDIT_UNAVAILABLE = Kind(
    code="audit-unavailable",
    status=503,
    title="The operation cannot be recorded",
    remedy="The server writes every operation into its audit log before it answers, and the log cannot be written. Try "
    "again after the seconds in Retry-After.",
)
IDENTITY_UNAVAILABLE = Kind(
    code="identity-unavailable",
    status=503,
    title="Who may do what cannot be looked up",
    remedy="The server could not read the store's keys and roles for a while, so it lets nobody in. Try again after "
    "the seconds in Retry-After.",
)
MODEL_UNAVAILABLE = Kind(
    code="model-unavailable",
    status=503,
    title="The query cannot be embedded",
    remedy="The collection's model could not be loaded. Send a vector, or use mode 'keyword', until it can.",
)
RERANKER_UNAVAILABLE = Kind(
    code="reranker-unavailable",
    status=503,
    title="The passages cannot be reranked",
    remedy="The collection's reranking model could not be loaded or used. Leave out 'rerank' until it can.",
)
DEADLINE = Kind(
    code="deadline-exceeded",
    status=504,
    title="The deadline passed before the answer was ready",
    remedy="Raise deadline_ms, or ask for less.",
)

KINDS: dict[str, Kind] = {kind.code: kind for kind in list(globals().values()) if isinstance(kind, Kind)}


class Problem(Exception):
    """Raised anywhere in a request to answer with a problem.

    ``detail`` is for the caller: it names no path of the server and no internals. ``extra`` adds members beside the
    standard ones. ``denied`` says that it is for who asks, which the answer may hide and the audit log may not.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        errors: Sequence[Mistake] = (),
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
        denied: bool = False,
    ) -> None:
        super().__init__(detail)
        self.denied = denied
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = headers or {}
        self.extra = extra or {}

    def body(self, request_id: str) -> bytes:
        """Return the JSON of the problem."""
        return encode(
            {
                "type": f"/problems/{self.kind.code}",
                "title": self.kind.title,
                "status": self.kind.status,
                "detail": self.detail,
                "code": self.kind.code,
                "request_id": request_id,
                "errors": self.errors,
                **self.extra,
            }
        )

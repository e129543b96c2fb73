"""What a node answers: which versions it has open, and questions about them. For routers, who know the secret."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable

from fastapi import APIRouter, Request
from fastapi.responses import Response

from api.answers import json_response
from api.bodies import read_json_bytes
from api.cluster.addresses import DEADLINE_HEADER, DEFAULT_DEADLINE_MS, PREFIX
from api.cluster.failures import STATUS, Failure
from api.cluster.versions import HeldVersion, HeldVersions, Served
from api.direct import DirectRoute
from api.problems import INVALID, UNAUTHENTICATED, Problem
from api.service import Service, service_of
from retrieval.distributed.messages import Question, Select, decode_question, encode_answer
from retrieval.distributed.node import answer_question
from retrieval.errors import NodeDiffers
from retrieval.snapshot import Snapshot

ARROW = "application/vnd.apache.arrow.stream"
QUESTION_BYTES_PER_BODY_BYTE = 4
"""A question holds a caller's body, written anew, and what the router adds."""

VERSIONS_BYTES = 8 << 20
_DIGITS = re.compile("[0-9]{1,9}")

router = APIRouter(prefix=PREFIX, route_class=DirectRoute, include_in_schema=False)


@router.post("/versions")
async def versions(request: Request) -> Response:
    """Every version of every collection that can be asked about; those that the router has are kept, or opened anew."""
    service = _for_routers(request)
    body = await read_json_bytes(request, VERSIONS_BYTES)
    try:
        served = Served.model_validate_json(body)
    except ValueError as error:
        raise Problem(INVALID, "the body does not say what the router serves") from error
    for watcher in service.collections.all():
        for version in served.collections.get(watcher.name, ()):
            newest = watcher.view.snapshot
            if newest is not None and version < newest.version:
                watcher.versions.past(version)
            else:  # it may be on its way
                watcher.versions.keep(version)
    held = service.settings.cluster.held
    assert held is not None
    open_here = {
        watcher.name: [HeldVersion.of(snapshot) for snapshot in watcher.versions.all if isinstance(snapshot, Snapshot)]
        for watcher in service.collections.all()
    }
    answer = HeldVersions(share=str(held), collections=open_here)
    return Response(answer.model_dump_json().encode(), media_type="application/json")


@router.post("/ask")
async def ask(request: Request) -> Response:
    """One question about one version."""
    service = _for_routers(request)
    body = await read_json_bytes(request, QUESTION_BYTES_PER_BODY_BYTE * service.settings.max_body_bytes)
    try:
        question = decode_question(body)
    except ValueError as error:
        raise Problem(INVALID, f"this is no question: {str(error).partition(chr(10))[0]}") from error
    seconds = _seconds_left(request)
    try:
        pool = service.pool_of("sql" if isinstance(question.part, Select) else "search")
        answer = await pool.run(_work(service, question, time.monotonic() + seconds), timeout_seconds=seconds)
    except Exception as error:  # whatever it is, the router is told: it may ask another node
        failure = Failure.of(error)
        if failure.kind == "failed":
            service.log.error("question failed", collection=question.asker.collection, exc_info=error)
        return json_response(failure.model_dump(), STATUS[failure.kind])
    return Response(answer, media_type=ARROW)


def _work(service: Service, question: Question, deadline: float) -> Callable[[], bytes]:
    """Return the work of answering; on a search's thread."""

    def work() -> bytes:
        asker = question.asker
        try:
            snapshot = service.collections.find(asker.collection).versions.at(asker.version)
        except Problem:  # the collection is gone, or has not been found yet
            snapshot = None
        if not isinstance(snapshot, Snapshot):
            raise NodeDiffers(f"version {asker.version} is not open on this node")
        with snapshot.pinned():
            return encode_answer(*answer_question(snapshot, question, deadline=deadline))

    return work


def _for_routers(request: Request) -> Service:
    """Return the service; raises the 401 of who does not know the secret."""
    service = service_of(request)
    sent = request.headers.get("authorization", "").encode("latin-1")
    expected = f"Bearer {service.settings.cluster.credential}".encode("ascii")
    if not hmac.compare_digest(sent, expected):
        raise Problem(UNAUTHENTICATED, "this is a node, which answers routers alone", denied=True)
    return service


def _seconds_left(request: Request) -> float:
    sent = request.headers.get(DEADLINE_HEADER, "")
    return min(int(sent) if _DIGITS.fullmatch(sent) else DEFAULT_DEADLINE_MS, DEFAULT_DEADLINE_MS) / 1000

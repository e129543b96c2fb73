"""A server that ``OTEL_*`` tells where to send traces, and a collector that speaks OTLP over HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from benchmarks.replicas import Replica
from benchmarks.replicas import until as wait_until
from tests.api.library import Library, book

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Keeps the spans that it is sent, by name; ``service`` is the resource's name."""

    def __init__(self) -> None:
        spans: list[Any] = []
        services: set[str] = set()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    services.update(
                        a.value.string_value for a in resource.resource.attributes if a.key == "service.name"
                    )
                    spans.extend(span for scope in resource.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.spans, self.services = spans, services
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def attributes(span: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


def test_a_request_and_its_stages_are_spans_of_the_callers_trace_without_what_was_asked(
    tmp_path: Path, library: Library, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.commit(1, [book(number) for number in range(20)])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    replica = Replica(tmp_path / "replica", str(library.root), settings={"drain_seconds": "0"})
    replica.start()
    try:
        wait_until(lambda: replica.ready, "ready")
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        found = replica.client.post(
            "/v1/collections/books/search", json={"query": "a private otter", "filter": "pages < 77"}, headers=headers
        )
        replica.client.post("/v1/sql", json={"sql": "SELECT 'private' FROM books LIMIT 3"}, headers=headers)
        replica.client.post("/v1/sql", json={"sql": "SELECT private FROM books"}, headers=headers)
        replica.client.get("/v1/collections/books/rows/13?api_key=private", headers=headers)
        replica.client.get("/private/path?q=private", headers=headers)
    finally:
        replica.stop()  # ends the batch under way
        replica.close()

    mine = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    assert len(mine) == len([span for span in collector.spans if span.parent_span_id])  # no probe left a span
    searched, selected, refused, row, nowhere = (span for span in mine if span.parent_span_id.hex() == PARENT)
    told = attributes(searched)
    assert searched.name == "POST /v1/collections/{name}/search"
    assert (
        told.items()
        >= {
            "http.route": "/v1/collections/{name}/search",
            "http.response.status_code": 200,
            "grebe.collection": "books",
            "grebe.mode": "hybrid",
            "grebe.results": 8,
            "grebe.request_id": found.headers["X-Request-ID"],
        }.items()
    )
    stages = [span for span in mine if span.parent_span_id == searched.span_id]
    assert [span.name for span in stages] == ["filter", "embed", "vector", "keyword", "fuse"]
    assert all(a.end_time_unix_nano == b.start_time_unix_nano for a, b in pairwise(stages))
    assert searched.start_time_unix_nano <= stages[0].start_time_unix_nano
    assert [span.name for span in mine if span.parent_span_id == selected.span_id] == ["plan", "find", "select"]
    assert attributes(refused)["grebe.code"] == "invalid-sql"
    assert attributes(row).items() >= {"url.path": "/v1/collections/{name}/rows/{key:path}", "url.query": ""}.items()
    assert attributes(nowhere)["url.path"] == "unmatched"
    assert collector.services == {"grebe"}
    assert "private" not in str(collector.spans)
    log = [json.loads(line) for line in (tmp_path / "replica" / "log").read_text().splitlines() if line[:1] == "{"]
    line = next(line for line in log if line.get("request_id") == found.headers["X-Request-ID"])
    assert (line["trace_id"], line["span_id"]) == (TRACE, searched.span_id.hex())


def test_a_collector_that_hangs_holds_up_neither_a_request_nor_the_exit(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.commit(1, [book(1)])
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        replica = Replica(tmp_path / "replica", str(library.root), settings={"drain_seconds": "0"})
        replica.start()
        try:
            wait_until(lambda: replica.ready, "ready")
            assert replica.client.get("/v1/collections").elapsed.total_seconds() < 2
            began = time.monotonic()
        finally:
            replica.stop()
            replica.close()
        assert time.monotonic() - began < 12

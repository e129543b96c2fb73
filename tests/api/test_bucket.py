"""Serving a store in a bucket, over a real S3 protocol."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from api.server import serving
from tests.api.conftest import settings_for, until
from tests.api.library import Library, book

ADDRESS = "s3://shelves/grebe"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    yield f"http://{host}:{port}"
    server.stop()


def test_a_bucket_that_is_not_there_is_not_ready_and_is_served_once_it_is(endpoint: str, tmp_path: Path) -> None:
    with serving(settings_for(tmp_path, store=ADDRESS)) as url, httpx.Client(base_url=url, timeout=60) as client:
        until(lambda: "the store cannot be listed" in client.get("/readyz").json()["reasons"])
        assert client.get("/livez").status_code == 200
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/shelves", method="PUT"), timeout=10).close()
        until(lambda: client.get("/readyz").status_code == 200)
        library = Library(tmp_path, address=ADDRESS)
        library.commit(1, [book(1)])
        until(lambda: client.get("/v1/collections/books/rows/1").status_code == 200)
        library.commit(2, [book(2)])
        body = {"query": "story", "min_version": 2, "deadline_ms": 60_000}
        found = client.post("/v1/collections/books/search", json=body).json()
        assert {hit["key"] for hit in found["results"]} == {1, 2}

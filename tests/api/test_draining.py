"""Connections that are kept: a server that drains sends their clients elsewhere, one that does not cuts nobody off."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx

from api.server import serving
from tests.api.conftest import settings_for
from tests.api.library import Library, book
from tests.api.test_overload import running


def test_while_a_server_drains_every_answer_says_that_its_connection_ends(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])

    async def asked() -> list[tuple[int, str | None]]:
        async with running(tmp_path) as server:
            await server.ready()
            before = await server.search()
            server.service.draining = True
            after = [await server.search(), await server.client.get("/v1/nothing"), await server.client.get("/readyz")]
            return [(answer.status_code, answer.headers.get("connection")) for answer in (before, *after)]

    assert asyncio.run(asked()) == [(200, None), (200, "close"), (404, "close"), (503, "close")]


def test_an_idle_connection_outlasts_the_five_seconds_after_which_uvicorn_closes_one(tmp_path: Path) -> None:
    limits = httpx.Limits(keepalive_expiry=60)
    with serving(settings_for(tmp_path)) as url, httpx.Client(base_url=url, limits=limits, timeout=60) as client:
        stream = client.get("/livez").extensions["network_stream"]
        time.sleep(6)
        assert client.get("/livez").extensions["network_stream"] is stream

"""What a caller sees when the server is busy, slow, starting, stopping or broken."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import Response

from api import embedders
from api.app import create_app
from api.errors import PoolFull
from api.logs import open_log
from api.pool import WorkPool
from api.service import Service
from indexer.catalog import drop
from indexer.embedding import HashEmbedder, Vectors
from retrieval.helpers import Helpers
from tests.api.conftest import LogLines, settings_for
from tests.api.library import Library, book

PATH = "/v1/collections/books/search"
ROW = "/v1/collections/books/rows/1"


class Running:
    """An application in this process, whose parts a test can reach, and a client of it."""

    def __init__(self, app: FastAPI, client: httpx.AsyncClient) -> None:
        self.service: Service = app.state.service
        self.client = client

    async def search(self, **body: Any) -> httpx.Response:
        return await self.client.post(PATH, json={"query": "river", **body})

    async def ready(self) -> None:
        while (await self.client.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def busy(self, pool: WorkPool | None = None) -> AsyncIterator[None]:
        """Keep one thread of ``pool``, by default that of searches, busy for the block."""
        release, begun = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            release.wait(60)

        task = asyncio.create_task((pool or self.service.pool).run(work, timeout_seconds=60))
        while not begun.is_set():
            await asyncio.sleep(0.005)
        try:
            yield
        finally:
            release.set()
            await task


@asynccontextmanager
async def running(root: Path, log: LogLines | None = None, **settings: Any) -> AsyncIterator[Running]:
    app = create_app(settings_for(root, **settings), log=open_log(log or LogLines()))
    app.add_api_route("/v1/boom", boom)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client,
    ):
        yield Running(app, client)


async def boom() -> Response:
    raise RuntimeError("the password is swordfish")


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


def test_questions_that_wait_for_a_thread_are_embedded_together(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.commit(1, [book(1)])
    calls: list[list[str]] = []

    class Recorded(HashEmbedder):
        def queries(self, texts: Sequence[str]) -> Vectors:
            calls.append(list(texts))
            return super().queries(texts)

    monkeypatch.setattr(embedders, "load_embedder", lambda vector: Recorded(32))

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1}) as server:
            await server.ready()
            calls.clear()
            async with server.busy():
                asked = [asyncio.create_task(server.search(query=f"river {number}")) for number in range(5)]
                while server.service.pool.depth < len(asked):
                    await asyncio.sleep(0.005)
            assert [response.status_code for response in await asyncio.gather(*asked)] == [200] * 5

    run(scenario())
    assert calls == [[f"river {number}" for number in range(5)]]


def test_a_question_that_came_to_nothing_is_not_kept(library: Library, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1, "queue": 1}) as server:
            await server.ready()
            batches = await server.service.embedders.of(library.spec.vector, timeout_seconds=60)
            assert (await server.search()).status_code == 200  # nothing is there, so nothing is embedded
            assert (await server.search(filter="nope = 1")).status_code == 200  # nor filtered
            async with server.busy():
                assert (await server.search(deadline_ms=50)).status_code == 504
            assert batches.waiting == 0

    run(scenario())


def test_a_full_queue_is_503_at_once_and_says_when_to_come_back(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1, "queue": 0}) as server:
            await server.ready()
            async with server.busy():
                response = await server.search()
                assert (response.status_code, response.json()["code"]) == (503, "overloaded")
                assert response.headers["retry-after"] == "1"
                assert (await server.client.get("/v1/collections/books/rows/1")).status_code == 503
                assert (await server.client.get("/livez")).status_code == 200
                metrics = (await server.client.get("/metrics")).text
                assert "grebe_search_rejected_total 2.0" in metrics
            assert (await server.search()).status_code == 200

    run(scenario())


def test_waiters_are_bounded_too(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1, "queue": 0}) as server:
            await server.ready()
            waiting = asyncio.create_task(server.search(min_version=9, deadline_ms=2000))
            while not server.service.waiting:
                await asyncio.sleep(0.005)
            assert (await server.search(min_version=9)).status_code == 503
            assert (await waiting).status_code == 412

    run(scenario())


def test_a_search_that_waits_for_a_thread_past_its_deadline_is_504(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1, "queue": 5}) as server:
            await server.ready()
            async with server.busy():
                response = await server.search(deadline_ms=50)
                assert (response.status_code, response.json()["code"]) == (504, "deadline-exceeded")
            assert server.service.pool.depth == 0

    run(scenario())


def test_a_fault_of_the_server_is_500_with_the_trace_in_the_log_alone(tmp_path: Path) -> None:
    log = LogLines()

    async def scenario() -> None:
        async with running(tmp_path, log) as server:
            response = await server.client.get("/v1/boom", headers={"X-Request-ID": "boom-1"})
            assert (response.status_code, response.json()["code"]) == (500, "internal")
            assert response.json()["request_id"] == "boom-1"
            assert "swordfish" not in response.text
            assert "RuntimeError" not in response.text

    run(scenario())
    (line,) = [line for line in log.lines() if line["event"] == "request failed"]
    assert line["request_id"] == "boom-1"
    assert "swordfish" in line["exception"]


def test_a_model_that_cannot_be_loaded_is_503_and_the_keyword_leg_still_answers(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.commit(1, [book(1)])
    state = library.catalog.read()
    vector = state.spec.vector.model_copy(update={"model": "hash:none"})
    spec = state.spec.model_copy(update={"vector": vector})
    segments = tuple(segment.model_copy(update={"fingerprint": spec.fingerprint}) for segment in state.segments)
    update = {"spec": spec, "fingerprint": spec.fingerprint, "segments": segments, "operation": "apply"}
    library.catalog.commit(state, state.model_copy(update=update), batch_end=None)

    async def scenario() -> None:
        async with running(tmp_path) as server:
            await server.ready()
            response = await server.search()
            assert (response.status_code, response.json()["code"]) == (503, "model-unavailable")
            assert (await server.search(mode="keyword")).status_code == 200
            assert (await server.search(vector=[1.0] * 32)).status_code == 200

    run(scenario())


def test_a_pool_counts_nothing_for_which_no_thread_could_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        helpers = Helpers(2)
        pool = WorkPool(threads=1, queue=1, helpers=helpers)
        ran: list[int] = []
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for _ in range(5):
                with pytest.raises(RuntimeError, match="can't start"):
                    await pool.run(lambda: ran.append(1), timeout_seconds=1)
        assert await pool.run(lambda: 7, timeout_seconds=60) == 7
        assert (ran, pool.depth, helpers._busy) == ([], 0, 0)
        pool.close()
        helpers.close()

    run(scenario())


def test_a_pool_runs_what_it_admits_and_drops_what_waited_too_long() -> None:
    async def scenario() -> None:
        pool = WorkPool(threads=1, queue=1)
        release = threading.Event()
        ran: list[str] = []
        first = asyncio.create_task(pool.run(lambda: release.wait(60), timeout_seconds=60))
        await asyncio.sleep(0)
        late = asyncio.create_task(pool.run(lambda: ran.append("late"), timeout_seconds=0.02))
        await asyncio.sleep(0)
        assert pool.depth == 1
        with pytest.raises(PoolFull):
            await pool.run(lambda: ran.append("never"), timeout_seconds=1)
        with pytest.raises(TimeoutError):
            await late
        release.set()
        assert await first
        assert await pool.run(lambda: 7, timeout_seconds=60) == 7
        assert (ran, pool.depth) == ([], 0)
        pool.close()

    run(scenario())


def test_several_searches_in_one_take_a_place_each() -> None:
    async def scenario() -> None:
        pool = WorkPool(threads=1, queue=3)
        release = threading.Event()
        first = asyncio.create_task(pool.run(lambda: release.wait(60), timeout_seconds=60, searches=3))
        await asyncio.sleep(0)
        with pytest.raises(PoolFull):
            await pool.run(lambda: 7, timeout_seconds=1, searches=2)
        last = asyncio.create_task(pool.run(lambda: 7, timeout_seconds=60))
        await asyncio.sleep(0)
        assert pool.depth == 3
        release.set()
        assert (await first, await last) == (True, 7)
        assert await pool.run(lambda: 8, timeout_seconds=60, searches=16) == 8
        assert pool.depth == 0
        pool.close()

    run(scenario())


def test_a_search_whose_collection_is_dropped_while_it_queues_is_404(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1, "queue": 5}) as server:
            await server.ready()
            watcher = server.service.collections.find("books")
            async with server.busy():
                calls = [asyncio.create_task(server.search()), asyncio.create_task(server.client.get(ROW))]
                while server.service.pool.depth < 2:
                    await asyncio.sleep(0.005)
                drop(library.store, "books")
                while watcher.alive:
                    await asyncio.sleep(0.005)
            for response in await asyncio.gather(*calls):
                assert (response.status_code, response.json()["code"]) == (404, "collection-not-found")

    run(scenario())


def test_a_search_that_queues_while_the_server_stops_is_503(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(1)])

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1, "queue": 5}) as server:
            await server.ready()
            watcher = server.service.collections.find("books")
            async with server.busy():
                waiting = asyncio.create_task(server.search())
                while server.service.pool.depth < 1:
                    await asyncio.sleep(0.005)
                watcher.stop()
                while watcher.alive:
                    await asyncio.sleep(0.005)
            response = await waiting
            assert (response.status_code, response.json()["code"]) == (503, "not-ready")

    run(scenario())


@pytest.mark.parametrize("is_synced_meanwhile", [False, True])
def test_what_grew_too_old_in_the_queue_is_waited_for_again_or_412(
    library: Library, tmp_path: Path, is_synced_meanwhile: bool
) -> None:
    library.commit(1, [book(1)], at=datetime.now(UTC) - timedelta(hours=1))

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 1, "queue": 5}) as server:
            await server.ready()
            watcher = server.service.collections.find("books")
            checked_at = datetime.now(UTC)
            library.beat(1, checked_at)
            async with server.busy():
                waiting = asyncio.create_task(server.search(max_staleness_seconds=1.5, deadline_ms=4000))
                while server.service.pool.depth < 1:
                    await asyncio.sleep(0.005)
                while (datetime.now(UTC) - checked_at).total_seconds() < 1.6:
                    await asyncio.sleep(0.005)
            if is_synced_meanwhile:
                library.beat(1, datetime.now(UTC))
            response = await waiting
            assert watcher.alive
            if is_synced_meanwhile:
                assert (response.status_code, response.json()["age_seconds"] <= 1.5) == (200, True)
            else:
                assert (response.status_code, response.json()["code"]) == (412, "too-old")

    run(scenario())


def test_searches_wait_for_no_statement_and_statements_for_no_search(library: Library, tmp_path: Path) -> None:
    library.commit(1, [book(number) for number in range(3)])
    statement = {"sql": "SELECT count(*) FROM books"}

    async def scenario() -> None:
        async with running(tmp_path, search={"threads": 2, "queue": 1}) as server:
            await server.ready()
            async with server.busy(server.service.statements):
                waiting = asyncio.create_task(server.client.post("/v1/sql", json=statement))
                while server.service.statements.depth < 1:
                    await asyncio.sleep(0.005)
                refused = await server.client.post("/v1/sql", json=statement)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert (await server.search()).status_code == 200
                assert "grebe_search_queue_depth 1.0" in (await server.client.get("/metrics")).text
            assert (await waiting).json()["rows"] == [[3]]
            async with server.busy(), server.busy():
                assert (await server.client.post("/v1/sql", json=statement)).json()["rows"] == [[3]]
                assert (await server.search(deadline_ms=50)).status_code == 504

    run(scenario())

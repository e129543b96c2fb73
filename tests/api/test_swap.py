"""Versions come and go while requests do not notice; what cannot be opened leaves the old one in place."""

from __future__ import annotations

import io
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from api.collections import Collections
from api.identity.administration import create_key, grant
from api.identity.control import ControlTable
from api.watcher import Watcher
from indexer import catalog_table
from indexer.build import PartResult
from indexer.catalog import Catalog, CatalogState, drop
from indexer.compact import purge
from indexer.embedding import load_embedder
from indexer.errors import CatalogError
from indexer.format import states
from indexer.format.states import COLUMNS, encode_rows
from indexer.spec import VectorSpec
from tests.api.conftest import LogLines, Serve, until
from tests.api.library import Library, book

PATH = "/v1/collections/books/search"
COMMITS = 20


class Hammer(threading.Thread):
    """Searches without a pause; keeps the statuses and the versions of the answers, in order."""

    def __init__(self, url: httpx.URL) -> None:
        super().__init__(daemon=True)
        self.url = url
        self.statuses: list[int] = []
        self.versions: list[int] = []
        self.torn = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.stopping.is_set():
                response = client.post(PATH, json={"query": "story by the river", "k": 100})
                self.statuses.append(response.status_code)
                if response.status_code == 200:
                    found = response.json()
                    self.versions.append(found["version"])
                    # Each commit adds one book, at the source version one below the catalog's.
                    consistent = len(found["results"]) == found["version"] == found["source"]["version"] + 1
                    self.torn += not consistent


def test_no_request_fails_and_no_answer_is_torn_while_twenty_versions_are_swapped_in(
    library: Library, serve: Serve
) -> None:
    library.commit(0, [book(0)])
    with serve() as client:
        hammers = [Hammer(client.base_url) for _ in range(2)]
        for hammer in hammers:
            hammer.start()
        for version in range(1, COMMITS):
            library.commit(version, [book(version)])
        until(lambda: all(hammer.versions and hammer.versions[-1] == COMMITS for hammer in hammers))
        for hammer in hammers:
            hammer.stopping.set()
            hammer.join()
    for hammer in hammers:
        assert set(hammer.statuses) == {200}
        assert hammer.versions == sorted(hammer.versions)
        assert hammer.torn == 0
    assert len({version for hammer in hammers for version in hammer.versions}) > 2


def test_a_replaced_and_a_deleted_row_are_gone_from_the_next_version(library: Library, serve: Serve) -> None:
    library.commit(1, [book(number) for number in range(4)])
    with serve() as client:
        library.commit(2, [book(1, title="The walrus")], [book(2)])
        response = client.post(PATH, json={"query": "walrus", "mode": "keyword", "min_version": 2, "k": 50})
        assert [hit["key"] for hit in response.json()["results"]] == [1]
        assert client.get("/v1/collections/books/rows/2").status_code == 404
        status = client.get("/v1/collections/books/status").json()
        assert (status["rows"], status["segments"], status["deleted_chunks"]) == (3, 2, 2)


def test_an_altered_segment_is_named_and_the_old_version_keeps_serving(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    log = LogLines()
    spoiled: dict[Path, bytes] = {}

    def spoil(result: PartResult) -> None:
        for file in result.segments[0].files:
            path = library.file(file.path)
            spoiled[path] = path.read_bytes()
            path.write_bytes(spoiled[path][:-1] + b"?")

    with serve(log) as client:
        library.commit(2, [book(2)], before_commit=spoil)
        until(lambda: status(client)["failure"] is not None)
        found = status(client)
        assert (found["state"], found["version"], found["latest_version"]) == ("open", 1, 2)
        assert found["failure"]["version"] == 2
        assert found["failure"]["error"] == (
            "CorruptFile: a file is not what was written; the server's log has the details"
        )
        assert found["failure"]["file"] in {path.relative_to(library.file("")).as_posix() for path in spoiled}
        assert keys(client) == [1]
        assert client.get("/readyz").status_code == 200
        metrics = client.get("/metrics").text
        assert 'grebe_collection_open_failing{collection="books"} 1.0' in metrics
        assert 'grebe_collection_open_failures_total{collection="books"}' in metrics
        for path, data in spoiled.items():
            path.write_bytes(data)
        until(lambda: status(client)["version"] == 2)
        assert status(client)["failure"] is None
        assert keys(client) == [1, 2]
    failures = [line for line in log.lines() if line["event"] == "version cannot be opened"]
    assert {(line["collection"], line["version"]) for line in failures} == {("books", 2)}


def test_a_later_version_is_opened_at_once_after_one_that_could_not_be(library: Library, serve: Serve) -> None:
    first = library.commit(1, [book(1)])

    def lose(result: PartResult) -> None:
        for file in result.segments[0].files:
            library.file(file.path).unlink()

    with serve() as client:
        library.commit(2, [book(2)], before_commit=lose)
        until(lambda: status(client)["failure"] is not None)
        error = status(client)["failure"]["error"]
        assert error == "ObjectNotFound: a file is missing; the server's log has the details"
        lost = library.catalog.read()
        kept = lost.model_copy(update={"segments": first.segments, "operation": "rollback"})
        library.catalog.commit(lost, kept, batch_end=None)
        until(lambda: status(client)["version"] == 3)
        assert (status(client)["failure"], keys(client)) == (None, [1])


def test_a_collection_whose_first_version_cannot_be_opened_is_503_and_others_serve(
    library: Library, serve: Serve, tmp_path: Path
) -> None:
    def truncate(result: PartResult) -> None:
        for file in result.segments[0].files:
            library.file(file.path).write_bytes(b"")

    library.commit(1, [book(1)], before_commit=truncate)
    Library(tmp_path, "others").commit(1, [book(1)])
    with serve() as client:
        response = client.post(PATH, json={"query": "river"})
        assert (response.status_code, response.json()["code"]) == (503, "not-ready")
        assert response.headers["retry-after"] == "1"
        assert client.get("/v1/collections/books").status_code == 503
        assert (status(client)["state"], status(client)["version"]) == ("failed", None)
        assert client.post("/v1/collections/others/search", json={"query": "river"}).status_code == 200


def test_a_new_collection_appears_and_a_dropped_one_is_gone_without_a_restart(serve: Serve, tmp_path: Path) -> None:
    with serve() as client:
        assert client.get("/v1/collections").json() == {"collections": []}
        library = Library(tmp_path)
        library.commit(7, [book(1)])
        until(lambda: client.get("/v1/collections/books").status_code == 200)
        until(lambda: keys(client) == [1])
        drop(library.store, "books")
        until(lambda: client.get("/v1/collections/books").status_code == 404)
        until(lambda: 'collection="books"' not in client.get("/metrics").text)
        Library(tmp_path).commit(1, [book(5)])
        until(lambda: client.get("/v1/collections/books").status_code == 200 and keys(client) == [5])


def test_a_purged_or_dropped_row_leaves_a_servers_cache_though_nothing_newer_comes(
    library: Library, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.cache.EVICTION_EVERY_SECONDS", 0.0)
    cache, text = tmp_path / "cache", "Xq7vT2mKp9ZsLw4RbN8c"
    other = Library(tmp_path, "others")
    library.commit(1, [book(1, body=text), book(2)])
    other.commit(1, [book(1, body=text)])
    with serve() as client:
        until(lambda: len(holding(cache, text)) > 1)
        library.commit(2, deletes=[book(1, body=text)])
        purge(library.catalog, tmp_path / "purging")
        until(lambda: status(client)["version"] == library.catalog.latest())
        drop(other.store, "others")
        until(lambda: client.get("/v1/collections/others").status_code == 404)
        kept = cached(cache)

        def gone_once_unused() -> bool:
            for lease in (cache / "locks").glob("*.lease"):
                with suppress(FileNotFoundError):
                    os.utime(lease, (0, 0))  # unused for long, so far as anybody can tell
            return holding(cache, text) == []

        until(gone_once_unused)
        assert (len(kept), len(cached(cache)), keys(client)) == (3, 1, [2])


def holding(folder: Path, text: str) -> list[Path]:
    """Return the files below ``folder`` in which ``text`` stands."""
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError, IsADirectoryError):  # it is being evicted
            found += [path] if text.encode() in path.read_bytes() else []
    return found


def cached(cache: Path) -> list[str]:
    """Return the segments in a cache."""
    return sorted(path.name for path in (cache / "segments").iterdir() if not path.name.startswith("."))


def test_a_collection_dropped_under_load_answers_200_or_404(library: Library, serve: Serve) -> None:
    library.commit(0, [book(0)])
    with serve() as client:
        hammers = [Hammer(client.base_url) for _ in range(2)]
        for hammer in hammers:
            hammer.start()
        until(lambda: all(hammer.versions for hammer in hammers))
        drop(library.store, "books")
        until(lambda: all(hammer.statuses[-1] == 404 for hammer in hammers))
        for hammer in hammers:
            hammer.stopping.set()
            hammer.join()
    assert {status for hammer in hammers for status in hammer.statuses} == {200, 404}
    assert {version for hammer in hammers for version in hammer.versions} == {1}


def test_a_store_that_is_away_for_a_while_drops_nothing(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    away = library.root.with_name("away")
    log = LogLines()
    with serve(log) as client:
        library.root.rename(away)
        until(lambda: status(client)["failure"] is not None)
        until(lambda: any(line["event"] == "store cannot be listed" for line in log.lines()))
        assert status(client)["failure"]["error"] == (
            "CollectionNotFound: the store is not there; the server's log has the details"
        )
        assert keys(client) == [1]
        away.rename(library.root)
        library.commit(2, [book(2)])
        until(lambda: keys(client) == [1, 2])
        assert status(client)["failure"] is None
        drop(library.store, "books")
        until(lambda: client.get("/v1/collections/books").status_code == 404)


def test_a_watcher_runs_before_it_is_listed(library: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    library.commit(1, [book(1)])
    listed: list[bool] = []
    make, start = Collections.__init__, Watcher.start
    made: list[Collections] = []

    def keep(self: Collections, *args: Any, **named: Any) -> None:
        make(self, *args, **named)
        made.append(self)

    def look(self: Watcher) -> None:
        listed.append(self in made[0].all())
        start(self)

    monkeypatch.setattr(Collections, "__init__", keep)
    monkeypatch.setattr(Watcher, "start", look)
    with serve() as client:
        assert keys(client) == [1]
    assert listed == [False]


def test_a_version_of_a_newer_release_closes_the_collection_once_trust_is_over(
    library: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def newer(state: CatalogState) -> bytes:
        rows = [
            row | ({"record": row["record"].replace("{", '{"invented":1,', 1)} if row["kind"] == "state" else {})  # type: ignore[attr-defined]
            for row in encode_rows(state)
        ]
        written = io.BytesIO()
        pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(written)
        return written.getvalue()

    library.commit(1, [book(1)])
    log = LogLines()
    with serve(log, identity={"trust_seconds": 3.0}) as client:
        with monkeypatch.context() as patched:
            patched.setattr(catalog_table, "encode_table", newer)
            seen = library.catalog.read()
            changed = seen.model_copy(update={"operation": "apply"})
            library.catalog.commit(seen, changed, batch_end=None)
        until(lambda: status(client)["failure"] is not None)
        assert status(client)["failure"]["error"] == (
            "NewerCatalog: a newer release of Grebe wrote the catalog, so this server has to be upgraded; "
            "the server's log has the details"
        )
        assert keys(client) == [1]
        until(lambda: client.post(PATH, json={"query": "river"}).status_code == 503)
        assert status(client)["state"] == "failed"
        assert 'grebe_collection_open_failing{collection="books"} 1.0' in client.get("/metrics").text
        newest = max(library.file("catalog").glob("*.parquet"))
        newest.write_bytes(states.encode_table(changed))
        until(lambda: keys(client) == [1])
        assert status(client)["failure"] is None
    assert [line["collection"] for line in log.lines() if line["event"].startswith("closed")] == ["books"]


def test_a_log_that_cannot_be_read_suspends_what_is_served_once_trust_is_over(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    table = ControlTable(library.store)
    grant(table, "reader", "books", ["search", "monitor"])
    key, _ = create_key(table, "reader", roles=["reader"], claims={})
    with serve(identity={"trust_seconds": 3.0}) as client:
        client.headers["Authorization"] = f"Bearer {key}"
        until(lambda: keys(client) == [1])

        def lose(result: PartResult) -> None:
            for file in result.segments[0].files:
                library.file(file.path).unlink()

        library.commit(2, [book(2)], before_commit=lose)  # version 3, which nobody can open
        until(lambda: status(client)["failure"] is not None)
        torn = library.file("catalog/_delta_log/00000000000000000003.json")
        torn.write_bytes(b'{"commit')
        until(lambda: "catalog" in (status(client)["failure"] or {}).get("error", ""))
        assert keys(client) == [1]
        until(lambda: client.post(PATH, json={"query": "river"}).status_code == 503)
        torn.unlink()
        until(lambda: keys(client) == [1])


def test_without_keys_a_log_that_cannot_be_read_holds_up_nothing_but_versions(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    with serve(identity={"trust_seconds": 2.5}) as client:
        library.file("catalog/_delta_log/00000000000000000002.json").write_bytes(b'{"commit')
        until(lambda: status(client)["failure"] is not None)
        time.sleep(4)
        assert keys(client) == [1]


def test_trust_ends_by_when_the_policies_could_first_not_be_read(
    library: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening a version may take longer than that."""
    library.commit(1, [book(1)])
    with serve(identity={"trust_seconds": 2.5}) as client:
        always = property(lambda self: lambda: True, lambda self, value: None)
        monkeypatch.setattr(Watcher, "_governed", always, raising=False)
        failing: list[int] = []
        opened, latest = Watcher._open, Catalog.latest

        def slow(self: Watcher, *arguments: Any) -> None:
            time.sleep(4)
            opened(self, *arguments)
            failing.append(1)

        def fail_once(self: Catalog) -> int:
            if failing:
                failing.pop()
                raise CatalogError("a hiccup")
            return latest(self)

        monkeypatch.setattr(Watcher, "_open", slow)
        monkeypatch.setattr(Catalog, "latest", fail_once)
        library.commit(2, [book(2)])
        statuses = set()

        def is_swapped() -> bool:
            statuses.add(client.post(PATH, json={"query": "river"}).status_code)
            return keys(client) == [1, 2] and not failing

        until(is_swapped)
        for _ in range(20):
            is_swapped()
    assert statuses == {200}


def test_a_heartbeat_that_cannot_be_read_holds_up_no_version(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    library.file("heartbeat.json").mkdir()
    log = LogLines()
    with serve(log) as client:
        library.commit(2, [book(2)])
        until(lambda: keys(client) == [1, 2])
        assert status(client)["failure"] is None
    assert "heartbeat cannot be read" in {line["event"] for line in log.lines()}


def test_a_version_whose_model_cannot_be_loaded_is_not_served(library: Library, serve: Serve) -> None:
    library.commit(1, [book(1)])
    with serve() as client:
        _change_model(library, "/no/such/model")
        until(lambda: status(client)["failure"] is not None)
        assert status(client)["failure"]["error"] == (
            "EmbeddingError: its model cannot be loaded; the server's log has the details"
        )
        assert client.post(PATH, json={"query": "river"}).json()["version"] == 1
        assert "grebe_models_failing 1.0" in client.get("/metrics").text
        _change_model(library, "hash:16")
        until(lambda: status(client)["version"] == 3)
        assert status(client)["failure"] is None
        assert "grebe_models_failing 0.0" in client.get("/metrics").text


def test_a_model_that_comes_while_a_version_is_opened_is_waited_for_too(
    library: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.commit(1, [book(1)])
    with serve() as client:
        look = Watcher._look

        def slow(self: Watcher, catalog: Catalog) -> None:
            look(self, catalog)
            if catalog.latest() == 2:
                _change_model(library, "/no/such/model")

        monkeypatch.setattr(Watcher, "_look", slow)
        library.commit(2, [book(2)])
        until(lambda: status(client)["latest_version"] == 3 and status(client)["failure"] is not None)
        assert client.post(PATH, json={"query": "river"}).json()["version"] in (1, 2)


def test_the_version_before_is_served_until_the_new_model_is_loaded(
    library: Library, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, loaded = threading.Event(), threading.Event()

    def slow(spec: VectorSpec) -> Any:
        if spec.model == "hash:16":
            asked.set()
            loaded.wait(timeout=30)
        return load_embedder(spec)

    library.commit(1, [book(1)])
    monkeypatch.setattr("api.embedders.load_embedder", slow)
    with serve() as client:
        _change_model(library, "hash:16")
        assert asked.wait(timeout=30)
        found = status(client)
        assert (found["version"], found["latest_version"], found["failure"]) == (1, 2, None)
        assert client.post(PATH, json={"query": "river"}).json()["version"] == 1
        loaded.set()
        until(lambda: client.post(PATH, json={"query": "river"}).json()["version"] == 2)


def _change_model(library: Library, model: str) -> None:
    """Commit a version with another model, and without rows."""
    seen = library.catalog.read()
    spec = library.spec.model_validate(library.spec.model_dump() | {"vector": {"model": model}})
    empty = {"spec": spec, "fingerprint": spec.fingerprint, "segments": (), "live_rows": 0, "dim": None}
    library.catalog.commit(seen, seen.model_copy(update=empty), batch_end=None)


def status(client: httpx.Client) -> Any:
    return client.get("/v1/collections/books/status").json()


def keys(client: httpx.Client) -> list[Any]:
    response = client.post(PATH, json={"filter": "id >= 0", "k": 100})
    return [hit["key"] for hit in response.json().get("results", [])]

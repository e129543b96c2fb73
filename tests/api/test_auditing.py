"""Every operation of a running server is in its audit log: before it runs, and before it is answered."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.audit.disk import LocalDisk
from api.audit.reading import records
from api.audit.verify import verify
from api.errors import SettingsError
from api.identity.administration import create_key, grant, revoke_key
from api.identity.control import ControlTable
from api.identity.identity import POLL_SECONDS
from api.identity.keys import id_of
from api.server import serving
from indexer.format.store import Store
from tests.api.conftest import LogLines, client_of, settings_for, until
from tests.api.library import Library, book

BOOKS = "/v1/collections/books"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    library = Library(tmp_path)
    library.commit(1, [book(number) for number in range(10)])
    Library(tmp_path, "other").commit(1, [book(1)])
    return library.store


@pytest.fixture
def key(store: Store) -> str:
    table = ControlTable(store)
    grant(table, "reader", "books", ["search"])
    return create_key(table, "reading room", roles=["reader"], claims={"team": "blue"})[0]


def audited(root: Path, log: LogLines | None = None, **audit: Any) -> Any:
    return client_of(settings_for(root, audit={"folder": root / "audit"} | audit), log)


def logged(store: Store, folder: Path | None = None) -> list[dict[str, Any]]:
    """The operations' records, oldest first; the log is in order."""
    verdicts = verify(store, folder)
    assert [verdict.problem for verdict in verdicts] == [None] * len(verdicts)
    found = records(store, folder, newest_first=False)
    return [record for record in found if record["unmapped"]["phase"] in ("intent", "outcome")]


def said(record: dict[str, Any]) -> tuple[Any, ...]:
    """Whose record, of what, in which phase, and how it ended."""
    unmapped = record["unmapped"]
    status = record["api"].get("response", {}).get("code")
    return record["metadata"]["uid"].partition("/")[0], unmapped["phase"], status, unmapped.get("decision")


def test_each_operation_leaves_its_intent_and_its_outcome(tmp_path: Path, store: Store, key: str) -> None:
    with audited(tmp_path) as client:

        def ask(request_id: str, method: str, path: str, token: str = key, **more: Any) -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}", "X-Request-ID": request_id}
            answered: httpx.Response = client.request(method, path, headers=headers, **more)
            return answered

        body = {"query": "otters private", "filter": "pages < :most", "params": {"most": 77}, "k": 3, "mode": "keyword"}
        answer = ask("search", "POST", f"{BOOKS}/search", json=body).json()
        ask("list", "GET", "/v1/collections")
        ask("spec", "GET", BOOKS)
        ask("status", "GET", f"{BOOKS}/status")
        ask("row", "GET", f"{BOOKS}/rows/1")
        ask("hidden", "GET", "/v1/collections/other")
        ask("wrong", "POST", f"{BOOKS}/search", json={"k": 0})
        ask("stranger", "GET", BOOKS, token="nobody")
        ask("nowhere", "GET", "/v1/nowhere")
        client.get(BOOKS, headers={"Host": "elsewhere", "X-Request-ID": "elsewhere"})
        grant(ControlTable(store), "reader", "books", ["read"])
        until(lambda: client.get("/readyz").status_code == 200)
        time.sleep(2 * POLL_SECONDS)
        ask("seen", "GET", f"{BOOKS}/rows/1")
        kept = revoke_key(ControlTable(store), id_of(key) or "")
        time.sleep(2 * POLL_SECONDS)
        ask("revoked", "GET", BOOKS)

    found = logged(store)
    assert list(map(said, found)) == [
        ("search", "intent", None, None),
        ("search", "outcome", 200, "allowed"),
        ("list", "intent", None, None),
        ("list", "outcome", 200, "allowed"),
        ("spec", "intent", None, None),
        ("spec", "outcome", 200, "allowed"),
        ("status", "intent", None, None),
        ("status", "outcome", 200, "allowed"),
        ("row", "outcome", 403, "denied"),
        ("hidden", "outcome", 404, "denied"),
        ("wrong", "outcome", 422, "allowed"),
        ("stranger", "outcome", 401, "denied"),
        ("nowhere", "outcome", 404, "undecided"),
        ("elsewhere", "outcome", 421, "denied"),
        ("seen", "intent", None, None),
        ("seen", "outcome", 200, "allowed"),
        ("revoked", "outcome", 401, "denied"),
    ]
    intent, outcome = found[:2]
    assert intent["actor"]["user"]["name"] == "reading room"
    assert intent["actor"]["user"]["groups"] == [{"name": "reader"}]
    assert intent["api"]["operation"] == "POST /v1/collections/{name}/search"
    assert intent["src_endpoint"]["ip"] == "127.0.0.1"
    assert {name: intent["unmapped"][name] for name in ("collection", "mode", "k")} == {
        "collection": "books",
        "mode": "keyword",
        "k": 3,
    }
    assert {"query_hmac", "filter_hmac", "params_hmac"} <= intent["unmapped"].keys()
    assert outcome["unmapped"]["keys"] == [hit["key"] for hit in answer["results"]]
    assert (outcome["unmapped"]["version"], outcome["unmapped"]["masked"]) == (answer["version"], [])
    assert (found[15]["unmapped"]["keys"], found[15]["unmapped"]["masked"]) == ([1], [])
    assert (found[16]["actor"]["user"]["uid"], found[16]["unmapped"]["key_id"]) == ("anonymous", kept.id)
    assert found[8]["unmapped"]["code"] == "forbidden"
    assert found[11]["actor"]["user"]["uid"] == "anonymous"


def test_a_reading_of_rows_is_logged_with_the_keys_of_those_that_were_returned(tmp_path: Path, store: Store) -> None:
    table = ControlTable(store)
    grant(table, "clerk", "books", ["read"])
    token, _ = create_key(table, "clerk", roles=["clerk"], claims={})
    with audited(tmp_path) as client:
        body = {"keys": [4, 99, 2], "include": ["pages"]}
        client.post(f"{BOOKS}/rows", json=body, headers={"Authorization": f"Bearer {token}"}).raise_for_status()

    intent, outcome = logged(store)
    assert intent["api"]["operation"] == "POST /v1/collections/{name}/rows"
    assert {name: intent["unmapped"][name] for name in ("asked_keys", "include", "collection")} == {
        "asked_keys": [4, 99, 2],
        "include": ["pages"],
        "collection": "books",
    }
    assert "keys" not in intent["unmapped"]
    assert {name: outcome["unmapped"][name] for name in ("keys", "masked", "version")} == {
        "keys": [4, 2],
        "masked": [],
        "version": 1,
    }


def test_neither_questions_nor_keys_are_in_the_log(tmp_path: Path, store: Store, key: str) -> None:
    with audited(tmp_path, rotate_seconds=0.05) as client:
        body = {"query": "otters private", "filter": "pages < :most", "params": {"most": 77_777}}
        client.post(f"{BOOKS}/search", json=body, headers={"Authorization": f"Bearer {key}"})
        until(lambda: bool(store.list("_audit")))

    whole = "".join(str(record) for record in logged(store))
    assert [word for word in ("private", "pages <", "77777", key[-43:]) if word in whole] == []


def test_without_a_log_nothing_runs_and_nothing_is_answered(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = False
    flush = os.fsync

    def fsync(handle: int) -> None:
        if broken:
            raise OSError(5, "Input/output error")
        flush(handle)

    monkeypatch.setattr("api.audit.disk.os.fsync", fsync)
    log = LogLines()
    with audited(tmp_path, log) as client:
        assert client.post(f"{BOOKS}/search", json={"query": "otter"}).status_code == 200
        broken = True

        refused = [client.post(f"{BOOKS}/search", json={"query": "otter"}), client.get(f"{BOOKS}/rows/1")]

        assert [(each.status_code, each.json()["code"]) for each in refused] == [(503, "audit-unavailable")] * 2
        assert [each.headers["Retry-After"] for each in refused] == ["1", "1"]
        assert client.get("/readyz").json()["reasons"] == ["the audit log cannot be written"]
        broken = False
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(f"{BOOKS}/search", json={"query": "otter"}).status_code == 200
    reports = [line["error"] for line in log.lines() if line["event"] == "audit"]
    assert [report.partition(" (")[0] for report in reports] == [
        "the audit log cannot be written",
        "the audit log is written again",
    ]
    assert not any(line["event"] == "request failed" for line in log.lines())
    assert len(logged(store)) >= 4


def test_a_disk_that_hangs_holds_one_operation_up_and_the_next_are_refused_at_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, goes_on = False, threading.Event()
    flush = os.fsync

    def fsync(handle: int) -> None:
        if hanging:
            goes_on.wait(60)
        flush(handle)

    monkeypatch.setattr("api.audit.disk.os.fsync", fsync)
    monkeypatch.setattr("api.auditing.WAIT_SECONDS", 1.0)
    with audited(tmp_path) as client:
        hanging = True
        seconds = []
        for _ in range(2):
            began = time.monotonic()
            assert client.post(f"{BOOKS}/search", json={"query": "otter"}).json()["code"] == "audit-unavailable"
            seconds.append(time.monotonic() - began)
        assert client.get("/readyz").json()["reasons"] == ["the audit log takes too long to be written"]
        hanging = False
        goes_on.set()
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(f"{BOOKS}/search", json={"query": "otter"}).status_code == 200
    assert 1.0 <= seconds[0] < 2.0
    assert seconds[1] < 0.5
    phases = [(record["unmapped"]["phase"], said(record)[2]) for record in logged(store)]
    assert phases == [("intent", None), ("outcome", 503), ("intent", None), ("outcome", 200)]


def test_an_answer_whose_outcome_cannot_be_recorded_does_not_leave(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, written = LocalDisk.create, 0

    def create(disk: LocalDisk, path: Path) -> Any:
        file = append(disk, path)
        real = file.append

        def fails_at_the_outcome(data: bytes) -> None:
            nonlocal written
            written += 1
            if b'"phase":"outcome"' in data:
                raise OSError(28, "No space left on device")
            real(data)

        monkeypatch.setattr(file, "append", fails_at_the_outcome)
        return file

    monkeypatch.setattr(LocalDisk, "create", create)
    with audited(tmp_path) as client:
        refused = client.post(f"{BOOKS}/search", json={"query": "otter"})

    assert (refused.status_code, refused.json()["code"]) == (503, "audit-unavailable")
    assert "results" not in refused.json()
    assert written >= 2


def test_two_servers_cannot_share_a_folder(tmp_path: Path, store: Store) -> None:
    with (
        audited(tmp_path),
        pytest.raises(SettingsError, match=r"audit\.folder: .*another process"),
    ):
        serving(settings_for(tmp_path, audit={"folder": tmp_path / "audit"})).__enter__()


def test_a_file_of_a_running_servers_log_cannot_be_taken_away_unseen(tmp_path: Path, store: Store) -> None:
    with audited(tmp_path) as client:
        assert client.get(BOOKS).status_code == 200
        for file in (tmp_path / "audit").glob("*.jsonl"):
            file.unlink()

        refused = client.get(BOOKS)

        assert (refused.status_code, refused.json()["code"]) == (503, "audit-unavailable")
        assert "grebe_audit_failing 1.0" in client.get("/metrics").text


def test_the_address_behind_a_trusted_proxy_is_the_clients(tmp_path: Path, store: Store) -> None:
    for proxies, address in (((), "127.0.0.1"), (("127.0.0.0/8",), "10.1.2.3")):
        folder = tmp_path / address
        with client_of(settings_for(tmp_path, audit={"folder": folder}, trusted_proxies=proxies)) as client:
            client.get(BOOKS, headers={"X-Forwarded-For": "10.1.2.3"})
        newest = next(records(store, folder))
        assert newest["unmapped"]["phase"] == "checkpoint"
        found = [record for record in records(store, folder) if record["class_uid"]]
        assert found[0]["src_endpoint"]["ip"] == address


@pytest.mark.parametrize(
    ("audit", "message"),
    [
        ({"durability": "remote"}, "audit: without a 'folder' there is no audit log"),
        (
            {"folder": "s3://bucket/audit"},
            "'folder' is a folder on a local disk, and 's3:/bucket/audit' is none",
        ),
        ({"folder": "STORE/audit"}, "is inside the store; give a folder of this server's own"),
    ],
)
def test_settings_that_would_give_no_log_are_refused(
    tmp_path: Path, store: Store, audit: dict[str, Any], message: str
) -> None:
    given = {name: str(value).replace("STORE", store.url) for name, value in audit.items()}
    with pytest.raises(SettingsError) as refused:
        serving(settings_for(tmp_path, audit=given)).__enter__()
    assert message in str(refused.value)

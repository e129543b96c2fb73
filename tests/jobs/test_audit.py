"""``grebe audit``: a log is checked and read."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api.audit.log import AuditLog
from api.audit.objects import KEYS, PREFIX
from api.audit.record import Actor, Intent, Outcome, Secret
from api.audit.settings import AuditSettings
from indexer.format.store import Store
from tests.jobs.command import Grebe, grebe_on


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


@pytest.fixture
def grebe(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grebe:
    monkeypatch.setenv("GREBE_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("GREBE_DEBUG", raising=False)
    return grebe_on(capfd)


def write(folder: Path, store: Store, *collections: str, **settings: Any) -> None:
    """Let a server write one search of each collection, and ship it."""

    async def ask(log: AuditLog) -> None:
        for number, collection in enumerate(collections):
            intent = Intent(
                time_ms=1_790_000_000_000 + number,
                request_id=f"r{number}",
                actor=Actor(kind="key", id="key:1", name="bot"),
                client_ip="127.0.0.1",
                activity="read",
                method="POST",
                route="/v1/collections/{name}/search",
                path=f"/v1/collections/{collection}/search",
                collection=collection,
                facts={"query": Secret("otters")},
            )
            await log.intent(intent)
            await log.outcome(
                Outcome(
                    intent=intent,
                    time_ms=intent.time_ms,
                    duration_ms=3,
                    status=200,
                    decision="allowed",
                    facts={"keys": [number, f"CVE-{number}", ["part", number]]},
                )
            )

    log = AuditLog(AuditSettings(folder=folder, **settings), store, lambda sentence: None)
    log.start()
    asyncio.run(ask(log))
    log.stop()


def test_a_log_is_verified_and_the_first_bad_record_named(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    assert "There is no audit log in the store" in grebe("audit", "verify").err
    write(tmp_path / "audit", store, "books", "papers")

    (whole,) = grebe("audit", "verify", "-o", "json").json["writers"]
    assert (whole["records"], whole["unattested"], whole["key"], whole["problem"]) == (6, 0, "the log's own", None)

    (shipped,) = [path for path in store.list(PREFIX) if path.endswith(".parquet")]
    store.put(shipped, store.get(shipped)[:-9])
    said = grebe("audit", "verify")
    assert said.code == 1
    assert "unreadable file" in said.out


def test_only_trusted_keys_count_if_any_are_given(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    write(tmp_path / "audit", store, "books")
    (key,) = store.list(KEYS)
    (tmp_path / "one.pem").write_bytes(store.get(key))
    assert grebe("audit", "verify", "--key", tmp_path / "one.pem").code == 0

    write(tmp_path / "another", store, "books")

    said = grebe("audit", "verify", "--key", tmp_path / "one.pem", "-o", "json")
    assert said.code == 1
    assert sorted(writer["key"] for writer in said.json["writers"]) == ["given", "the log's own"]
    assert [writer["problem"].partition(":")[0] for writer in said.json["writers"] if writer["problem"]] == [
        "unknown key"
    ]
    assert "cannot be read as a public key" in grebe("audit", "verify", "--key", tmp_path / "no.pem").err


def test_a_log_that_lost_its_end_is_found_by_what_is_remembered(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    write(tmp_path / "audit", store, "books", rotate_bytes=1024)
    first = set(store.list(PREFIX))
    write(tmp_path / "audit", store, "papers", rotate_bytes=1024)
    assert grebe("audit", "verify", "--state", state).code == 0

    store.delete(sorted(set(store.list(PREFIX)) - first))

    assert grebe("audit", "verify").code == 0
    said = grebe("audit", "verify", "--state", state, "-o", "json")
    assert said.code == 1
    assert said.json["writers"][0]["problem"].startswith("dropped: record ")
    state.write_text("{")
    assert "cannot be read as what an earlier" in grebe("audit", "verify", "--state", state).err


def test_records_are_listed_newest_first(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    write(tmp_path / "audit", store, "books", "papers")

    found = grebe("audit", "list", "-o", "json").json["records"]
    assert [(record["unmapped"]["collection"], record["unmapped"]["phase"]) for record in found] == [
        ("papers", "outcome"),
        ("papers", "intent"),
        ("books", "outcome"),
        ("books", "intent"),
    ]
    table = grebe("audit", "list", "--collection", "books", "--limit", 1).out
    assert "POST /v1/collections/{name}/search" in table
    assert "allowed" in table
    assert "papers" not in table
    assert "There is no such record" in grebe("audit", "list", "--actor", "key:2").err
    assert "There is no such record" in grebe("audit", "list", "--since", "1m").err
    assert grebe("audit", "list", "--since", "x").code == 2


def test_an_answer_is_found_by_the_id_of_its_request(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    write(tmp_path / "audit", store, "books", "papers")
    newest = grebe("audit", "list", "-o", "json").json["records"][0]
    uid = newest["metadata"]["uid"].partition("/")[0]

    found = grebe("audit", "list", "--request", uid, "-o", "json").json["records"]

    assert found[0] == newest
    assert [record["metadata"]["uid"] for record in found] == [f"{uid}/outcome", f"{uid}/intent"]
    assert "There is no such record" in grebe("audit", "list", "--request", "another").err
    assert grebe("audit", "list", "--request", uid, "--row", "CVE-7", "-o", "json").json == {"records": []}


@pytest.mark.parametrize("key", ["1", "CVE-1", '["part", 1]'])
def test_who_was_given_a_row_is_found_by_its_key(grebe: Grebe, store: Store, tmp_path: Path, key: str) -> None:
    write(tmp_path / "a", store, "books", "films", "books")

    found = grebe("audit", "list", "--row", key, "-o", "json").json["records"]

    assert [(record["unmapped"]["collection"], record["unmapped"]["phase"]) for record in found] == [
        ("films", "outcome"),
        ("films", "intent"),
    ]
    assert grebe("audit", "list", "--row", "CVE-7", "-o", "json").json == {"records": []}


def test_who_asked_a_text_is_found_by_whoever_has_the_servers_key(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    write(tmp_path / "a", store, "books")
    key = tmp_path / "a" / "signing-key.pem"

    found = grebe("audit", "list", "--asked", "otters", "--signing-key", key, "-o", "json").json["records"]

    assert [record["unmapped"]["phase"] for record in found] == ["outcome", "intent"]
    both = ("audit", "list", "--asked", "otters", "--signing-key", key, "-o", "json", "--row")
    assert len(grebe(*both, "0").json["records"]) == 2
    assert grebe(*both, "1").json == {"records": []}
    assert grebe("audit", "list", "--row", "false", "-o", "json").json == {"records": []}  # 0 is no truth value
    assert grebe("audit", "list", "--asked", "owls", "--signing-key", key, "-o", "json").json == {"records": []}
    assert "give --signing-key" in grebe("audit", "list", "--asked", "otters").err


def test_what_is_remembered_is_never_forgotten(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    for collection in ("books", "papers", "letters"):
        write(tmp_path / "audit", store, collection, rotate_bytes=1024)
    assert grebe("audit", "verify", "--state", state).code == 0
    shipped = sorted(store.list(PREFIX))

    for path in reversed(shipped[1:]):
        store.delete([path])
        if grebe("audit", "verify", "--state", state).code:
            break
    else:
        pytest.fail("the log was taken away step by step, unseen")


def test_what_only_a_folder_has_is_not_remembered(grebe: Grebe, store: Store, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    write(tmp_path / "audit", store, "books")
    copied = tmp_path / "copied"
    copied.mkdir()
    for file in (tmp_path / "audit").glob("*.jsonl"):
        (copied / file.name).write_bytes(file.read_bytes())
    store.delete(store.list(PREFIX))

    assert grebe("audit", "verify", "--folder", copied, "--state", state).code == 0

    assert grebe("audit", "verify", "--state", state).code == 0


def test_a_key_without_a_log_and_a_folder_that_is_not_there_are_failures(
    grebe: Grebe, tmp_path: Path, store: Store
) -> None:
    write(tmp_path / "audit", Store.at(str(tmp_path / "other")), "books")
    key = next((tmp_path / "other" / "_audit" / "keys").iterdir())

    assert grebe("audit", "verify", "--key", key).code == 1
    for command in ("verify", "list"):
        said = grebe("audit", command, "--folder", tmp_path / "nowhere")
        assert (said.code, "there is no such folder" in said.err) == (1, True)
    private = grebe("audit", "verify", "--key", tmp_path / "audit" / "signing-key.pem")
    assert (private.code, "is a private key" in private.err) == (1, True)

"""The log as a server has it: from a call to a verdict."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.audit import journal as journals
from api.audit.log import AuditLog
from api.audit.reading import records
from api.audit.settings import AuditSettings
from api.audit.verify import verify
from api.errors import AuditBusy, AuditUnavailable, SettingsError
from indexer.format.store import Store
from tests.api.audit.scene import FOUND, SEARCH, require_sound, signing_key
from tests.api.conftest import until


def opened(tmp_path: Path, store: Store, said: list[str] | None = None, **settings: object) -> AuditLog:
    """A log in a folder under ``tmp_path``, started."""
    given = AuditSettings.model_validate({"folder": tmp_path / "audit", **settings})
    log = AuditLog(given, store, (said if said is not None else []).append)
    log.start()
    return log


def lead(place: Path, target: Path) -> None:
    """Let ``place`` lead to ``target``, from one moment to the next."""
    place.with_name("next").symlink_to(target)
    place.with_name("next").replace(place)


async def one_search(log: AuditLog) -> None:
    await log.intent(SEARCH)
    await log.outcome(FOUND)


@pytest.mark.parametrize("durability", ["local", "remote"])
def test_a_search_leaves_its_intent_and_its_outcome_in_the_store(tmp_path: Path, store: Store, durability: str) -> None:
    log = opened(tmp_path, store, durability=durability)
    assert log.healthy

    asyncio.run(one_search(log))
    log.stop()

    shown = [record for record in records(store, newest_first=False) if record["class_uid"] == 6003]
    assert [record["unmapped"]["phase"] for record in shown] == ["intent", "outcome"]
    assert shown[0]["unmapped"]["query_hmac"] == log.secret_hash("query", "red nests")
    assert "red nests" not in json.dumps(shown)
    assert not log.healthy
    require_sound(tmp_path / "audit", store)
    (verdict,) = verify(store)
    assert (verdict.problem, verdict.unattested) == (None, 0)


def test_with_remote_durability_a_record_is_in_the_store_before_its_caller_goes_on(
    tmp_path: Path, store: Store
) -> None:
    log = opened(tmp_path, store, durability="remote")

    async def scenario() -> None:
        for number in range(1, 4):
            await log.intent(SEARCH)
            shown = [record for record in records(store) if record["class_uid"] == 6003]
            assert len(shown) == number

    asyncio.run(scenario())
    log.stop()


def test_with_remote_durability_a_store_that_is_away_stops_operations_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.02)
    place, said = tmp_path / "store", list[str]()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"a file is no folder")
    lead(place, tmp_path / "folder")
    store = Store.at(str(place))
    log = opened(tmp_path, store, said, durability="remote")
    asyncio.run(log.intent(SEARCH))
    lead(place, tmp_path / "file")

    with pytest.raises(AuditUnavailable, match=r"the audit log cannot be written \(.*/store/_audit/v1/.* could not be"):
        asyncio.run(log.outcome(FOUND))
    assert not log.healthy

    lead(place, tmp_path / "folder")
    until(lambda: log.healthy)
    asyncio.run(log.outcome(FOUND))
    log.stop()

    assert len(said) == 2
    require_sound(tmp_path / "audit", store)
    assert verify(store)[0].problem is None


def test_a_log_verifies_at_any_moment_while_its_server_writes_and_ships(tmp_path: Path, store: Store) -> None:
    log = opened(tmp_path, store, rotate_bytes=4096)

    async def searches() -> None:
        for _ in range(100):
            await one_search(log)

    async def scenario() -> int:
        await one_search(log)
        writing = asyncio.gather(*(searches() for _ in range(4)))
        looks = 0
        while not writing.done() or looks < 3:
            await asyncio.to_thread(require_sound, tmp_path / "audit", store)
            looks += 1
        await writing
        return looks

    assert asyncio.run(scenario()) >= 3
    log.stop()
    (verdict,) = verify(store)
    assert (verdict.problem, verdict.unattested) == (None, 0)


def test_a_restarted_server_goes_on_with_its_chain_and_key(tmp_path: Path, store: Store) -> None:
    for _ in range(3):
        log = opened(tmp_path, store)
        asyncio.run(one_search(log))
        log.stop()

    (verdict,) = verify(store, tmp_path / "audit")
    assert (verdict.problem, verdict.records) == (None, 10)
    assert (tmp_path / "audit" / "signing-key.pem").exists()


def test_a_given_key_is_used(tmp_path: Path, store: Store) -> None:
    pem = tmp_path / "given.pem"
    own = opened(tmp_path, store)
    own.stop()
    pem.write_bytes((tmp_path / "audit" / "signing-key.pem").read_bytes())

    other = opened(tmp_path / "elsewhere", store, signing_key=pem)
    other.stop()

    assert other.secret_hash("query", "nests") == own.secret_hash("query", "nests")
    assert {verdict.public_key for verdict in verify(store)} != {signing_key().public}
    assert not (tmp_path / "elsewhere" / "audit" / "signing-key.pem").exists()


def test_a_second_server_on_the_same_folder_is_refused(tmp_path: Path, store: Store) -> None:
    first = opened(tmp_path, store)

    with pytest.raises(AuditBusy, match="another process writes its audit log here"):
        opened(tmp_path, store)
    first.stop()


def test_a_folder_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path, store: Store) -> None:
    (tmp_path / "audit").write_bytes(b"")

    with pytest.raises(SettingsError, match=r"audit\.folder: .*/audit cannot be made: File exists"):
        opened(tmp_path, store)


def test_without_a_folder_there_is_no_log(store: Store) -> None:
    with pytest.raises(SettingsError, match=r"audit\.folder: give a folder on a local disk"):
        AuditLog(AuditSettings(), store, lambda sentence: None)


@pytest.mark.parametrize(
    "wrong",
    [{"checkpoint_seconds": 61}, {"checkpoint_seconds": 0}, {"durability": "both"}, {"rotate_bytes": 1}, {"rotat": 1}],
)
def test_a_setting_that_breaks_a_promise_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AuditSettings.model_validate(wrong)

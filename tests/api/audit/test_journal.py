"""Many callers' records become durable together, or all of them hear that they are not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from api.audit import journal as journals
from api.audit.files import journal_files
from api.audit.journal import Journal
from api.audit.writer import Limits
from api.errors import AuditBusy, AuditUnavailable
from tests.api.audit.scene import (
    FailingDisk,
    SlowDisk,
    entries_in,
    facts_in,
    journal_in,
    phases_in,
    require_sound,
    search,
    writer_in,
)
from tests.api.conftest import until


async def appended(journal: Journal, count: int) -> list[int | BaseException]:
    """Append ``count`` records at once, and return each one's number or error."""
    return await asyncio.gather(*(journal.append(search(n)) for n in range(1, count + 1)), return_exceptions=True)


async def eventually(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


def test_each_record_gets_its_own_number_in_the_order_of_the_calls(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        numbers = asyncio.run(appended(journal, 100))

    assert numbers == list(range(2, 102))
    assert phases_in(tmp_path) == ["genesis", *["intent"] * 100, "checkpoint"]
    require_sound(tmp_path)


def test_a_record_is_in_the_file_before_its_caller_goes_on(tmp_path: Path) -> None:
    async def scenario(journal: Journal) -> None:
        for number in range(5):
            await journal.append(search(number))
            assert len(entries_in(tmp_path)) == number + 2

    with journal_in(tmp_path) as journal:
        asyncio.run(scenario(journal))


@pytest.mark.parametrize("appenders", [1, 64])
def test_appends_are_quick(tmp_path: Path, appenders: int) -> None:
    """A loose bound: 64 at once share flushes, so that they do far more than one alone."""
    each = 100 if appenders == 1 else 4000 // appenders

    async def one(journal: Journal) -> None:
        for number in range(each):
            await journal.append(search(number))

    async def scenario(journal: Journal) -> float:
        started = time.perf_counter()
        await asyncio.gather(*(one(journal) for _ in range(appenders)))
        return appenders * each / (time.perf_counter() - started)

    with journal_in(tmp_path) as journal:
        per_second = asyncio.run(scenario(journal))

    assert per_second > (1000 if appenders == 64 else 20)


def test_what_is_unsigned_is_signed_in_time_without_another_record(tmp_path: Path) -> None:
    with journal_in(tmp_path, Limits(checkpoint_seconds=0.05, rotate_bytes=1 << 30, rotate_seconds=3600)) as journal:
        asyncio.run(journal.append(search(1)))
        until(lambda: phases_in(tmp_path)[-1] == "checkpoint")

    require_sound(tmp_path)


def test_a_second_journal_in_a_folder_is_refused(tmp_path: Path) -> None:
    with journal_in(tmp_path):
        second = Journal(writer_in(tmp_path), lambda sentence: None)
        with pytest.raises(AuditBusy, match="another process writes its audit log here"):
            second.start()
        assert not second.healthy


def test_while_the_disk_fails_nothing_is_promised_and_then_the_log_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.02)
    disk, said, heard = FailingDisk(), list[str](), list[int | BaseException]()
    journal = Journal(writer_in(tmp_path, disk=disk), said.append)

    async def scenario() -> None:
        await journal.append(search(1))
        disk.failing = True
        heard.extend(await appended(journal, 20))
        with pytest.raises(AuditUnavailable, match=r"cannot be written \(\[Errno 5\] Input/output error\); it is"):
            await journal.append(search(1))
        assert not journal.healthy
        await asyncio.sleep(0.1)
        disk.failing = False
        await eventually(lambda: journal.healthy)
        await journal.append(search(2))

    journal.start()
    asyncio.run(scenario())
    journal.stop()

    assert {type(error) for error in heard} == {AuditUnavailable}
    assert {str(error) for error in heard} == {said[0]}
    assert said[1:] == ["the audit log is written again"]
    assert phases_in(tmp_path) == ["genesis", "intent", "recovered", "intent", "checkpoint"]
    require_sound(tmp_path)


def test_more_than_fits_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MOST_WAITING", 64)

    async def scenario(journal: Journal) -> list[int | BaseException]:
        return await appended(journal, 640)

    slow = SlowDisk()
    with journal_in(tmp_path, disk=slow) as journal:
        outcomes = asyncio.run(scenario(journal))

    refused = [outcome for outcome in outcomes if isinstance(outcome, AuditUnavailable)]
    assert refused
    assert str(refused[0]) == "64 audit records wait for the disk; try again shortly"
    assert len(refused) + phases_in(tmp_path).count("intent") == len(outcomes)


def test_more_bytes_than_fit_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MOST_WAITING_BYTES", 1)

    with journal_in(tmp_path, disk=SlowDisk()) as journal:
        outcomes = asyncio.run(appended(journal, 3))

    assert [str(outcome) for outcome in outcomes[1:]] == ["1 audit records wait for the disk; try again shortly"] * 2


def test_a_caller_who_goes_away_does_not_disturb_the_others(tmp_path: Path) -> None:
    async def scenario(journal: Journal) -> int:
        gone = asyncio.create_task(journal.append(search(1)))
        await asyncio.sleep(0)
        gone.cancel()
        return await journal.append(search(2))

    with journal_in(tmp_path) as journal:
        assert asyncio.run(scenario(journal)) == 3


def test_callers_on_several_event_loops_share_a_journal(tmp_path: Path) -> None:
    async def two_loops(journal: Journal) -> list[list[int | BaseException]]:
        runs: list[Awaitable[list[int | BaseException]]] = [
            asyncio.to_thread(asyncio.run, appended(journal, 50)) for _ in range(2)
        ]
        return await asyncio.gather(*runs)

    with journal_in(tmp_path) as journal:
        found = asyncio.run(two_loops(journal))

    assert sorted(number for numbers in found for number in numbers if isinstance(number, int)) == list(range(2, 102))


def test_a_closed_journal_refuses_and_has_let_go_of_its_folder(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        pass

    with pytest.raises(AuditUnavailable, match="the audit log is closed"):
        asyncio.run(journal.append(search(1)))
    with journal_in(tmp_path):
        pass
    assert len(journal_files(tmp_path)) >= 1


def test_a_record_that_json_cannot_say_is_its_callers_mistake(tmp_path: Path) -> None:
    with journal_in(tmp_path) as journal:
        with pytest.raises(TypeError, match="not JSON serializable"):
            asyncio.run(journal.append({"odd": object()}))
        assert asyncio.run(journal.append(search(1))) == 2
    assert facts_in(tmp_path)[1]["phase"] == "intent"

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from indexer import lease
from indexer.errors import CollectionBusy
from indexer.format.store import Store
from indexer.lease import Holder, leased, require_idle


def holder(**fields: object) -> Holder:
    now = datetime.now(UTC)
    other = Holder(id="x", host="elsewhere", pid=1, since=now, until=now + timedelta(seconds=60))
    return other.model_copy(update=fields)


def here(**fields: object) -> Holder:
    return holder(host=socket.gethostname(), pid_namespace=lease._pid_namespace(), **fields)


def held_by(store: Store, other: Holder, number: int = 1) -> None:
    store.put(f"sync-lease/{number:08d}.json", other.model_dump_json().encode())


def test_a_lease_is_there_for_the_block_and_gone_after_it(store: Store) -> None:
    with leased(store, "books", "stop"):
        assert store.list() == ["sync-lease/00000001.json"]
        assert Holder.model_validate_json(store.get("sync-lease/00000001.json")).pid == os.getpid()

    assert store.list() == []


def test_a_second_one_stops_and_says_who_runs(store: Store) -> None:
    with (
        leased(store, "books", "stop"),
        pytest.raises(CollectionBusy, match=rf"books: another sync has been running since .* \(process {os.getpid()}"),
        leased(store, "books", "stop"),
    ):
        pass


def test_who_runs_can_be_asked_before_anything_is_begun(store: Store) -> None:
    require_idle(store, "books")
    with (
        leased(store, "books", "stop"),
        pytest.raises(CollectionBusy, match=r"books: another sync .*; try again when it has ended"),
    ):
        require_idle(store, "books")

    held_by(store, holder(until=datetime.now(UTC)))
    require_idle(store, "books")


def test_a_second_one_waits_for_the_first_ones_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.02)
    told: list[str] = []
    order: list[str] = []

    def second() -> None:
        with leased(store, "books", "wait", waiting=told.append):
            order.append("second")

    with leased(store, "books", "stop"):
        waiter = threading.Thread(target=second)
        waiter.start()
        time.sleep(0.3)
        order.append("first")
    waiter.join(10)

    assert order == ["first", "second"]
    assert len(told) == 1
    assert "waiting for its end" in told[0]


def test_waiting_can_be_ended(store: Store) -> None:
    with (
        leased(store, "books", "stop"),
        pytest.raises(CollectionBusy, match="stopped while waiting for its end"),
        leased(store, "books", "wait", stop=lambda: True),
    ):
        pass


# Elsewhere a deletion takes as long as it takes here from one renewal to the next, and one under way may cross it.
@pytest.mark.parametrize("store", ["directory", "s3"], indirect=True)
def test_the_lease_of_a_dropped_collection_is_not_written_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.02)
    with leased(store, "books", "stop"):
        store.clear()
        time.sleep(0.3)
        assert store.list() == []


@pytest.mark.parametrize(
    "made",
    [
        lambda: holder(until=datetime.now(UTC) - timedelta(seconds=1)),
        lambda: here(pid=2**22 - 1),
        lambda: here(pid=os.getpid()),
    ],
    ids=["run out", "its process is gone", "its process had the number of this one"],
)
def test_a_lease_that_no_longer_counts_is_taken_over(store: Store, made: Callable[[], Holder]) -> None:
    held_by(store, made(), 7)

    with leased(store, "books", "stop"):
        assert store.list() == ["sync-lease/00000008.json"]


@pytest.mark.parametrize("pid", [os.getpid(), 2**22 - 1], ids=["the number of this one", "a number not in use"])
def test_a_process_of_another_container_on_a_host_of_this_name_is_not_taken_for_gone(store: Store, pid: int) -> None:
    held_by(store, here(pid=pid).model_copy(update={"pid_namespace": "pid:[1]"}))

    with pytest.raises(CollectionBusy, match="another sync has been running"), leased(store, "books", "stop"):
        pass


@pytest.mark.parametrize("renew_seconds", [0.02, 60.0], ids=["renewed", "ended"])
def test_a_lease_that_was_taken_over_leaves_a_later_one_of_its_number_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch, renew_seconds: float
) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", renew_seconds)
    later = holder(id="later")
    with leased(store, "books", "stop"):
        held_by(store, later)  # another took it over, ended, and a third one found no lease
        time.sleep(0.3)
        assert Holder.model_validate_json(store.get("sync-lease/00000001.json")) == later

    assert store.list() == ["sync-lease/00000001.json"]


def test_a_lease_that_cannot_be_read_is_taken_over(store: Store) -> None:
    store.put("sync-lease/00000001.json", b"{")

    with leased(store, "books", "stop"):
        assert store.list() == ["sync-lease/00000002.json"]


def test_of_many_that_want_it_at_once_one_gets_it(store: Store) -> None:
    got, lost = [], []
    together, ended = threading.Barrier(6), threading.Event()

    def attempt(number: int) -> None:
        together.wait()
        try:
            with leased(store, "books", "stop"):
                got.append(number)
                ended.wait(10)
        except CollectionBusy:
            lost.append(number)
            if len(lost) == 5:
                ended.set()

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(got), len(lost)) == (1, 5)


def test_a_lease_is_renewed_while_it_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)

    with leased(store, "books", "stop"):
        first = Holder.model_validate_json(store.get("sync-lease/00000001.json")).until
        deadline = time.monotonic() + 10
        while Holder.model_validate_json(store.get("sync-lease/00000001.json")).until == first:
            assert time.monotonic() < deadline
            time.sleep(0.02)

"""Several collections in one job: what befalls one is its own affair."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyspark.sql import SparkSession

from connectors.errors import ChangesUnavailable, SessionFailed, SourceNotFound
from indexer import lease
from indexer.apply import apply
from indexer.catalog import Catalog
from indexer.errors import CollectionBusy, CollectionNotFound
from indexer.format.store import Store
from indexer.lease import OnBusy, leased
from indexer.rollback import release, rollback
from indexer.spec_file import parse_spec
from indexer.sync import SyncOptions
from jobs import following, pipeline
from jobs.following import Outcome
from jobs.pipeline import run_syncs
from jobs.status import status_of
from tests.served import served_rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with the collections a, b and lost; the last one's table does not exist."""
    store = Store.at(str(tmp_path / "store"))
    for name in ("a", "b", "lost"):
        table = tmp_path / name
        if name != "lost":
            make_table(tmp_path, name)
        apply(
            store,
            parse_spec(
                f"name: {name}\nsource: {{table: {table}}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\n"
                "vector: {model: 'hash:8'}"
            ),
        )
    return store


def make_table(folder: Path, name: str) -> None:
    rows = pa.table({"id": [1, 2], "body": [f"{name} one", f"{name} two"]})
    write_deltalake(str(folder / name), rows, configuration={"delta.enableChangeDataFeed": "true"})


@pytest.fixture
def run(spark: SparkSession, store: Store, tmp_path: Path) -> Callable[..., list[Outcome]]:
    def run(
        *names: str,
        stop: Callable[[], bool] | None = None,
        on_busy: OnBusy = "stop",
        ended: Callable[[Outcome], None] = lambda outcome: None,
        retrying: Callable[[Outcome, float], None] = lambda outcome, seconds: None,
    ) -> list[Outcome]:
        options = SyncOptions() if stop is None else SyncOptions(continuous=True, interval_seconds=0.1, stop=stop)
        return run_syncs(
            store,
            names,
            cache=tmp_path / "cache",
            continuous=options.continuous,
            options_of=lambda name: options,
            on_busy=on_busy,
            ended=ended,
            retrying=retrying,
        )

    return run


def bodies(store: Store, name: str) -> set[str]:
    return {row["body"] for row in served_rows(store, name)[0].values()}


def test_what_has_to_be_loaded_or_built_anew_waits_for_the_others(
    run: Callable[..., list[Outcome]], store: Store
) -> None:
    run("b")
    run("a")
    pending = Catalog.open(store, "a").read().spec
    apply(store, pending, rebuild=True)
    ended: list[str] = []

    outcomes = run("a", "b", ended=lambda outcome: ended.append(outcome.name))

    assert [outcome.name for outcome in outcomes] == ["a", "b"]
    assert ended == ["b", "a"]


def test_one_that_fails_stops_no_other(run: Callable[..., list[Outcome]], store: Store) -> None:
    ended: list[str] = []

    outcomes = run("lost", "nobody", "a", "b", ended=lambda outcome: ended.append(outcome.name))

    assert [outcome.name for outcome in outcomes] == ["lost", "nobody", "a", "b"]
    assert [type(outcome.error) for outcome in outcomes[:2]] == [SourceNotFound, CollectionNotFound]
    assert [outcome.report.commits for outcome in outcomes[2:] if outcome.report] == [1, 1]
    assert ended == ["nobody", "lost", "a", "b"]
    assert (bodies(store, "a"), bodies(store, "b")) == ({"a one", "a two"}, {"b one", "b two"})


def test_how_a_sync_failed_stands_in_its_status_until_one_ends_well(
    run: Callable[..., list[Outcome]], store: Store, tmp_path: Path
) -> None:
    run("a", "lost")
    catalog = Catalog.open(store, "lost")

    (warning,) = status_of(catalog).warnings
    assert re.fullmatch(rf"lost: the last sync failed [\d.]+ s ago: {tmp_path}/lost .* does not exist.*", warning)
    assert status_of(Catalog.open(store, "a")).sync_failure is None
    assert store.child("nobody").list() == []

    make_table(tmp_path, "lost")
    run("lost")

    assert (status_of(catalog).sync_failure, status_of(catalog).warnings) == (None, [])


def test_one_that_another_process_syncs_is_refused_before_spark_starts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "spark_session", lambda *_, **__: pytest.fail("Spark was started"))

    with leased(store.child("a"), "a", "stop"):
        (outcome,) = run_syncs(
            store, ["a"], cache=tmp_path / "cache", continuous=False, options_of=lambda name: SyncOptions()
        )

    assert isinstance(outcome.error, CollectionBusy)
    assert status_of(Catalog.open(store, "a")).sync_failure is None


def test_a_folder_without_a_change_feed_is_told_before_spark_starts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "spark_session", lambda *_, **__: pytest.fail("Spark was started"))
    rows = pa.table({"id": [1], "body": ["lost one"]})
    write_deltalake(str(tmp_path / "lost"), rows)

    (outcome,) = run_syncs(
        store, ["lost"], cache=tmp_path / "cache", continuous=False, options_of=lambda name: SyncOptions()
    )

    assert isinstance(outcome.error, ChangesUnavailable)
    wanted = f"ALTER TABLE delta.`{tmp_path}/lost` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)"
    assert str(outcome.error) == f"{tmp_path}/lost keeps no change feed; turn it on with: {wanted}"
    failure = status_of(Catalog.open(store, "lost")).sync_failure
    assert failure is not None
    assert failure.error == str(outcome.error)


def test_one_that_is_followed_is_told_it_too_and_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_spark(*_: object, **__: object) -> SparkSession:
        raise SessionFailed("there is none here")

    monkeypatch.setattr(pipeline, "spark_session", no_spark)
    write_deltalake(str(tmp_path / "lost"), pa.table({"id": [1], "body": ["lost one"]}))

    with pytest.raises(SessionFailed, match="there is none here"):
        run_syncs(
            store,
            ["lost"],
            cache=tmp_path / "cache",
            continuous=True,
            options_of=lambda name: SyncOptions(continuous=True),
        )

    assert f"lost waits: {tmp_path}/lost keeps no change feed; turn it on with: " in capsys.readouterr().err


def test_followed_side_by_side_one_that_fails_stops_no_other_and_is_tried_again(
    run: Callable[..., list[Outcome]], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RETRY_SECONDS", (0.1, 0.4))
    stopping, failed = threading.Event(), threading.Event()

    def retrying(outcome: Outcome, seconds: float) -> None:
        assert isinstance(outcome.error, SourceNotFound)
        failed.set()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, "a", "lost", "b", stop=stopping.is_set, retrying=retrying)
        try:
            assert failed.wait(60)
            for name in ("b", "a"):
                DeltaTable(str(tmp_path / name)).update(updates={"body": "'changed'"}, predicate="id = 2")
                wait_until(lambda name=name: bodies(store, name) == {f"{name} one", "changed"})  # type: ignore[misc]
            make_table(tmp_path, "lost")
            wait_until(lambda: bodies(store, "lost") == {"lost one", "lost two"})
        finally:
            stopping.set()
        outcomes = running.result(60)

    assert [(outcome.name, outcome.error) for outcome in outcomes] == [("a", None), ("lost", None), ("b", None)]
    assert store.child("a").list("sync-lease") == []


def test_deletes_that_are_held_can_be_approved_while_their_collection_is_followed(
    run: Callable[..., list[Outcome]], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.1)
    rows = pa.table({"id": range(200), "body": [f"row {number}" for number in range(200)]})
    write_deltalake(str(tmp_path / "a"), rows, mode="overwrite")
    stopping = threading.Event()
    catalog = Catalog.open(store, "a")

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, "a", stop=stopping.is_set)
        try:
            wait_until(lambda: catalog.read().live_rows == 200)
            DeltaTable(str(tmp_path / "a")).delete("id > 0")
            wait_until(lambda: catalog.read().held is not None)
            held = catalog.read().held
            assert held is not None
            options = SyncOptions(approve=held.end.version)
            (approved,) = run_syncs(
                store,
                ["a"],
                cache=tmp_path / "cache",
                continuous=False,
                options_of=lambda name: options,
                on_busy="wait",
            )
            assert (approved.error, catalog.read().live_rows) == (None, 1)
            write_deltalake(str(tmp_path / "a"), pa.table({"id": [1], "body": ["back"]}), mode="append")
            wait_until(lambda: catalog.read().live_rows == 2)
        finally:
            stopping.set()
        (outcome,) = running.result(60)

    assert outcome.error is None


def test_a_collection_that_is_held_when_the_job_begins_is_followed_once_it_is_released(
    run: Callable[..., list[Outcome]], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.1)
    run("a")
    catalog = Catalog.open(store, "a")
    loaded = catalog.read().version
    write_deltalake(str(tmp_path / "a"), pa.table({"id": [3], "body": ["a three"]}), mode="append")
    run("a")
    rollback(catalog, loaded)
    stopping, waits = threading.Event(), threading.Event()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run, "a", stop=stopping.is_set, retrying=lambda *_: waits.set())
        try:
            assert waits.wait(60)
            release(catalog)
            wait_until(lambda: bodies(store, "a") == {"a one", "a two", "a three"})
        finally:
            stopping.set()
        (outcome,) = running.result(60)

    assert outcome.error is None


def test_one_that_is_busy_when_a_job_of_several_begins_is_tried_at_its_turn(
    run: Callable[..., list[Outcome]], store: Store
) -> None:
    lease_of_b = ExitStack()
    lease_of_b.enter_context(leased(store.child("b"), "b", "stop"))

    outcomes = run("a", "b", ended=lambda outcome: lease_of_b.close())

    assert [(outcome.name, outcome.error) for outcome in outcomes] == [("a", None), ("b", None)]


def test_a_start_of_spark_that_fails_is_told_by_the_status_of_what_was_to_be_synced(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise SessionFailed("Spark did not start: no room")

    monkeypatch.setattr(pipeline, "spark_session", fails)
    with pytest.raises(SessionFailed):
        run_syncs(store, ["a"], cache=tmp_path, continuous=False, options_of=lambda name: SyncOptions())

    failure = status_of(Catalog.open(store, "a")).sync_failure
    assert failure is not None
    assert failure.error == "Spark did not start: no room"


def test_of_an_error_that_nobody_foresaw_only_the_kind_is_kept(
    run: Callable[..., list[Outcome]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise KeyError("a row's secret")

    monkeypatch.setattr(pipeline, "sync", breaks)
    run("a")

    failure = status_of(Catalog.open(store, "a")).sync_failure
    assert failure is not None
    assert failure.error == "unexpected KeyError"


def test_a_signal_that_reaches_another_thread_is_answered_while_collections_are_followed(
    run: Callable[..., list[Outcome]], store: Store
) -> None:
    stopping = threading.Event()

    def signal_here() -> None:
        wait_until(lambda: Catalog.open(store, "a").read().position is not None)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: stopping.set())
    try:
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(signal_here)
            outcomes = run("a", stop=stopping.is_set)
            sent.result(60)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert [(outcome.name, outcome.error) for outcome in outcomes] == [("a", None)]


def test_one_that_is_waited_for_comes_last(
    run: Callable[..., list[Outcome]], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.05)
    second = threading.Event()
    ended: list[str] = []

    def note(outcome: Outcome) -> None:
        ended.append(outcome.name)
        second.set()

    with ThreadPoolExecutor(1) as pool:
        with leased(store.child("a"), "a", "stop"):
            running = pool.submit(run, "a", "b", on_busy="wait", ended=note)
            assert second.wait(60)
        outcomes = running.result(60)

    assert ended == ["b", "a"]
    assert [(outcome.name, outcome.error) for outcome in outcomes] == [("a", None), ("b", None)]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)

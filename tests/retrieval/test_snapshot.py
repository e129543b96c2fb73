from __future__ import annotations

import fcntl
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from indexer.errors import CorruptFile
from indexer.format.fetch import folder_name
from retrieval.cache import LocalCache
from retrieval.errors import SnapshotClosed
from retrieval.policies import WHOLE
from retrieval.request import SearchRequest
from retrieval.search import search
from retrieval.snapshot import Snapshot, open_snapshot
from tests.retrieval.library import COMMITTED_AT, Doc, Library, unit


def ids(snapshot: Snapshot, **request: object) -> list[int]:
    return [key[0] for key in search(snapshot, SearchRequest(vector=unit(1), **request)).results.keys()]  # type: ignore[arg-type]  # noqa: SIM118


def doc(number: int, colour: str = "red") -> Doc:
    return Doc(id=number, bodies=(f"doc {number}",), vectors=(unit(1, number / 100),), colour=colour)


def cached(library: Library) -> list[str]:
    return sorted(path.name for path in (library.root / "cache" / "segments").iterdir() if path.is_dir())


def test_a_snapshot_says_its_version_and_position(library: Library) -> None:
    library.add(doc(1), doc(2))
    with library.open() as snapshot:
        assert (snapshot.version, snapshot.epoch, snapshot.source_version) == (1, "table", 1)
        assert (snapshot.source_committed_at, snapshot.n_chunks, snapshot.dim) == (COMMITTED_AT, 2, 8)
        assert [str(field.type) for field in snapshot.arrow_schema] == ["int64", "string", "string", "int32"]


def test_the_next_version_opens_beside_the_old_one_and_shares_its_segments(library: Library) -> None:
    library.add(doc(1), doc(2))
    old = library.open()
    library.add(doc(3))
    library.remove(1)
    new = library.open(old)

    assert (ids(old), ids(new)) == ([1, 2], [2, 3])
    assert new.views[0].segment is old.views[0].segment
    old.close()
    assert ids(new) == [2, 3]
    new.close()


def test_nothing_new_gives_the_same_snapshot(library: Library) -> None:
    library.add(doc(1))
    with library.open() as snapshot:
        assert library.open(snapshot) is snapshot


def test_tombstones_reach_cached_filters(library: Library) -> None:
    library.add(doc(1), doc(2), doc(3, "blue"))
    old = library.open()
    assert ids(old, filter="colour = 'red'") == [1, 2]
    library.remove(1)
    new = library.open(old)

    assert (ids(new, filter="colour = 'red'"), ids(old, filter="colour = 'red'")) == ([2], [1, 2])
    old.close()
    new.close()


def test_a_closed_snapshot_serves_those_who_pinned_it_and_no_one_else(library: Library) -> None:
    library.add(doc(1))
    snapshot = library.open()
    with snapshot.pinned():
        snapshot.close()
        assert ids(snapshot) == [1]
        assert library.cache.evict(down_to_bytes=0) == 0
    with pytest.raises(SnapshotClosed, match="version 1 has been closed"), snapshot.pinned():
        pass

    assert library.cache.evict(down_to_bytes=0) > 0
    assert cached(library) == []


def test_eviction_spares_what_any_open_snapshot_leases(library: Library) -> None:
    library.add(doc(1))
    old = library.open()
    library.add(doc(2))
    new = library.open(old)
    old.close()
    other = LocalCache(library.root / "cache")

    assert other.evict(down_to_bytes=0, idle_seconds=0) == 0
    new.close()
    assert other.evict(down_to_bytes=0) > 0


def test_idle_segments_go_even_when_there_is_room(library: Library) -> None:
    library.add(doc(1))
    library.open().close()

    assert library.cache.evict() == 0
    assert library.cache.evict(idle_seconds=-1) > 0


def test_what_a_killed_process_had_fetched_of_a_segment_goes_and_a_fetch_under_way_goes_on(library: Library) -> None:
    segments = library.root / "cache" / "segments"
    parts = [segments / f".{number:010x}-00000000.part" for number in (0xAA << 32, 0xBB << 32)]
    for part in parts:
        part.mkdir()
    with (segments / ".fetch-bb.lock").open("ab") as fetching:
        fcntl.flock(fetching, fcntl.LOCK_EX)
        library.cache.evict()

    assert [part.exists() for part in parts] == [False, True]


def test_results_stay_readable_after_their_snapshot_is_gone(library: Library) -> None:
    library.add(doc(1))
    snapshot = library.open()
    results = search(snapshot, SearchRequest(vector=unit(1))).results
    snapshot.close()
    library.cache.evict(down_to_bytes=0)

    assert results[0].text == "doc 1"


def test_an_altered_segment_is_named_and_the_old_version_keeps_serving(library: Library) -> None:
    library.add(doc(1))
    old = library.open()
    record = library.add(doc(2))
    name = next(file.path for file in record.files if file.path.endswith(".tar"))
    altered = library.root / "store" / "docs" / name
    altered.write_bytes(altered.read_bytes()[:-100] + b"x" * 100)

    with pytest.raises(CorruptFile, match=name):
        library.open(old)

    assert ids(old) == [1]
    assert cached(library) == [folder_name(old.views[0].segment.record)]
    old.close()
    assert library.cache.evict(down_to_bytes=0) > 0


def test_what_a_dead_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "scratch" / "abandoned").mkdir(parents=True)
    living = LocalCache(tmp_path).scratch()

    LocalCache(tmp_path)

    assert [path.name for path in (tmp_path / "scratch").iterdir()] == [living.path.name]
    living.release()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_searches_go_on_while_versions_come_and_go(library: Library) -> None:
    library.add(*(doc(number) for number in range(50)))
    current = [library.open()]
    failures: list[BaseException] = []
    done = threading.Event()

    def keep_searching() -> None:
        while not done.is_set():
            try:
                with current[0].pinned() as snapshot:
                    found = ids(snapshot, filter="colour = 'red'", k=100)
                    assert len(found) == 50 + snapshot.version - 1
            except SnapshotClosed:
                continue
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=keep_searching) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(100, 105):
        library.add(doc(number))
        old, current[0] = current[0], library.open(current[0])
        old.close()
        time.sleep(0.02)
    done.set()
    for thread in threads:
        thread.join()

    assert failures == []
    current[0].close()


def open_files(folder: Path) -> int:
    """Count this process's open files in ``folder``; those of other tests' servers come and go.

    So does meta.json: a thread of tantivy looks into it now and then.
    """
    count = 0
    for handle in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            name = os.readlink(f"/proc/self/fd/{handle}")
            count += name.startswith(str(folder)) and not name.endswith("meta.json")
    return count


def test_dead_segments_leave_no_open_files_in_the_caches(library: Library) -> None:
    library.add(doc(0))
    snapshot = library.open()
    counts = []
    for number in range(1, 61):
        library.add(doc(number))
        library.drop(number)
        old, snapshot = snapshot, library.open(snapshot)
        old.close()
        del old
        for _ in range(3):  # the third finds the block of the second
            assert ids(snapshot, filter="colour = 'red'") == ids(snapshot) == [number]
        counts.append(open_files(library.root))

    assert counts[2:] == [counts[2]] * 58
    assert counts[2] > 0
    caches = snapshot.caches
    assert (len(caches.selections), len(caches.blocks)) == (1, 0)
    snapshot.close()
    assert len(caches.selections) == 0


def test_a_view_that_stays_keeps_its_selections(library: Library) -> None:
    library.add(doc(1), doc(2))
    old = library.open()
    ids(old, filter="colour = 'red'")
    ids(old)
    (kept,) = old.passing(None, WHOLE).selections
    library.add(doc(3))
    new = library.open(old)
    old.close()

    assert len(new.caches.selections) == 1
    assert new.passing(None, WHOLE).selections[0] is kept
    new.close()
    assert len(new.caches.selections) == 0


def test_blocks_go_with_their_view(library: Library) -> None:
    library.add(doc(1), doc(2), doc(3), doc(4, "blue"))
    old = library.open()
    for _ in range(3):
        assert ids(old, filter="colour = 'blue'") == [4]
    assert len(old.caches.blocks) == 1
    library.remove(1)
    new = library.open(old)
    old.close()

    assert len(new.caches.blocks) == 0
    new.close()


def test_processes_that_evict_at_once_do_not_fail_each_other(tmp_path: Path) -> None:
    caches = [LocalCache(tmp_path), LocalCache(tmp_path)]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(30):
            for segment in range(10):
                (tmp_path / "segments" / str(segment)).mkdir()
                for file in range(5):
                    (tmp_path / "segments" / str(segment) / str(file)).write_bytes(b"x")
            list(pool.map(lambda cache: cache.evict(down_to_bytes=0), caches))
            assert list((tmp_path / "segments").iterdir()) == []


def test_an_eviction_that_fails_fails_no_opening(
    library: Library, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: LocalCache) -> int:
        raise PermissionError("the cache is someone else's")

    library.add(doc(1))
    monkeypatch.setattr(LocalCache, "evict", fail)
    with library.open() as snapshot:
        assert ids(snapshot) == [1]
    assert "nothing evicted from the cache" in caplog.text


def test_opening_an_older_version(library: Library) -> None:
    library.add(doc(1))
    library.add(doc(2))
    with open_snapshot(library.catalog, library.cache, version=1) as snapshot:
        assert ids(snapshot) == [1]

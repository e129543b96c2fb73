"""A bucket that answers 500, hangs up or falls silent: a sync succeeds or says what failed, and the next one heals."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from indexer.errors import CatalogError, IndexerError
from indexer.format.store import Store
from indexer.sync import SyncReport
from tests.faults.local_collection import LocalCollection
from tests.faults.local_session import local_tasks
from tests.faulty_proxy import Fault, FaultyProxy, How, faulty_proxy

HOWS: tuple[How, ...] = get_args(How)
FOR_GOOD = 10_000
IMPATIENCE = {"MAX_RETRIES": 1, "STALL_SECONDS": 3, "REQUEST_SECONDS": 3, "LOG_REQUEST_SECONDS": 3}
"""What stands in for the store's own settings while it does wrong; a sound request takes less on a busy machine."""
Request = tuple[str, str]
"""A method, and what the path matches."""
READ: dict[str, Request] = {
    "keys": ("GET", r"/keys\.npy"),
    "segment": ("GET", r"/segment\.tar"),
    "tombstones": ("GET", "/tombstones/"),
    "letters": ("GET", "/letters/"),
    "state": ("GET", r"/catalog/\d+-\w+\.parquet"),
    "log": ("GET", "_delta_log/"),
    "listing": ("GET", "list-type=2"),
    "look-up": ("HEAD", "_delta_log/"),
}
WRITTEN: dict[str, Request] = {
    "keys": ("PUT", r"/keys\.npy"),
    "segment": ("PUT", r"/segment\.tar"),
    "tombstones": ("PUT", "/tombstones/"),
    "deletions": ("PUT", "/deletions/"),
    "letters": ("PUT", "/letters/"),
    "state": ("PUT", r"/catalog/\d+-\w+\.parquet"),
    "log entry": ("PUT", r"_delta_log/\d+\.json"),
    "heartbeat": ("PUT", r"/heartbeat\.json"),
}
OF_A_LOAD: dict[str, Request] = {
    "plan": ("PUT", r"/plan\.json"),
    "part": ("PUT", r"/part-0\.json"),
    "parts read": ("GET", r"/part-0\.json"),
    "log entry": ("PUT", r"_delta_log/\d+\.json"),
    "plan forgotten": ("POST", r"\?delete"),
}
SENTENCE = (
    r"could not be (read|written|listed|looked up|deleted|brought to|committed)|cannot be read|was committed is unknown"
)


class Collection(LocalCollection):
    """A collection in a bucket, synced through a proxy and looked at without it."""

    def __init__(self, url: str, proxy: FaultyProxy, folder: Path) -> None:
        super().__init__(url, folder)
        self.proxy = proxy

    def sync(self, **options: Any) -> SyncReport:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("AWS_ENDPOINT_URL", self.proxy.endpoint)
            return super().sync(**options)


@pytest.fixture
def collection(
    s3_endpoint: str, s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Collection]:
    """An empty collection."""
    local_tasks(monkeypatch)
    with faulty_proxy(s3_endpoint) as proxy:
        yield Collection(s3_store.url, proxy, tmp_path)


def sync_through(collection: Collection, fault: Fault) -> IndexerError | None:
    """Sync while ``fault`` does wrong, as it must; return what it made the sync say, if it did."""
    failed: IndexerError | None = None
    with pytest.MonkeyPatch.context() as impatient:
        for name, value in IMPATIENCE.items():
            impatient.setattr(f"indexer.format.store.{name}", value)
        collection.proxy.fault = fault
        try:
            collection.sync()
        except IndexerError as error:
            failed = error
        collection.proxy.fault = None
    assert fault.met, f"no such request was made; {failed}"
    assert failed is None or re.search(SENTENCE, str(failed))
    return failed


def check_once(collection: Collection, how: How, request: Request, *, forwarded: bool = False) -> None:
    """A fault that passes: the sync gets over it, or says what failed and the next one heals."""
    collection.change()
    if sync_through(collection, Fault(how, *request, forwarded=forwarded)):
        collection.sync()
    assert collection.is_served()


def check_for_good(collection: Collection, how: How, request: Request) -> None:
    """A fault that stays: the sync says so, what is served is a state of the table, and the next sync heals."""
    before = collection.rows
    collection.change()
    assert sync_through(collection, Fault(how, *request, times=FOR_GOOD)) is not None
    assert collection.served() in (before, collection.rows)
    collection.sync()
    assert collection.is_served()


Check = Callable[[Collection, str, How], None]


def check_read(collection: Collection, what: str, how: How) -> None:
    """What cannot be read fails a sync in a sentence, and the next one heals."""
    for _ in range(2):
        collection.change()
        collection.sync()
    check_once(collection, how, READ[what])
    check_for_good(collection, how, READ[what])


def check_written(collection: Collection, what: str, how: How) -> None:
    """What cannot be written, or whose reply is lost, is neither lost nor doubled."""
    for _ in range(2):
        collection.change()
        collection.sync()
    check_once(collection, how, WRITTEN[what])
    check_once(collection, how, WRITTEN[what], forwarded=True)
    check_for_good(collection, how, WRITTEN[what])


def check_load(collection: Collection, what: str, how: How) -> None:
    """A load that the store fails goes on when that is back."""
    check_for_good(collection, how, OF_A_LOAD[what])


CHECKS: list[tuple[Check, str]] = [
    *((check_read, what) for what in READ),
    *((check_written, what) for what in WRITTEN),
    *((check_load, what) for what in OF_A_LOAD),
]
QUICK = [(*check, how) for check, how in zip(CHECKS[::7], itertools.cycle(HOWS[::-1]), strict=False)]


@pytest.mark.parametrize(("check", "what", "how"), QUICK)
def test_a_sync_that_the_store_fails_says_so_and_the_next_one_heals(
    collection: Collection, check: Check, what: str, how: How
) -> None:
    check(collection, what, how)


@pytest.mark.soak
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("check", "what"), CHECKS)
def test_a_sync_that_the_store_fails_in_any_way_says_so_and_the_next_one_heals(
    collection: Collection, check: Check, what: str, how: How
) -> None:
    check(collection, what, how)


def test_a_commit_of_which_nothing_was_heard_any_more_stands(collection: Collection) -> None:
    class GoneWithTheCommit(Fault):
        def befalls(self, method: str, path: str) -> bool:
            super().befalls(method, path)
            return self.met > 0

    collection.change()
    collection.sync()
    collection.change()

    error = sync_through(collection, GoneWithTheCommit("drop", *WRITTEN["log entry"], forwarded=True))

    assert isinstance(error, CatalogError)
    assert "was committed is unknown" in str(error)
    assert collection.is_served()
    assert collection.sync().commits == 0

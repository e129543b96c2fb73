"""Records are shown by time, of all writers, each once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from api.audit.chain import canonical
from api.audit.files import journal_files
from api.audit.reading import Wanted, open_chains, records
from api.audit.shipping import Shipper
from api.errors import AuditUnreadable
from indexer.format.store import Store
from tests.api.audit.scene import TIME_MS, answer, search, signing_key, writer_in


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path: Path, store: Store) -> Path:
    """The journal of a server that has searched 1, 2 and, not shipped yet, 5; another's 3 and 4 are in the store."""
    writers = {}
    for name, key in (("own", signing_key(1)), ("other", signing_key(2))):
        writers[name] = writer_in(tmp_path / name, completed=Shipper(store, key).ship, key=key)
        writers[name].open()
    for number, name in enumerate(("own", "own", "other", "other", "own"), start=1):
        time.sleep(0.002)
        record = search(number) | {"time": time.time_ns() // 1_000_000}
        writers[name].commit([canonical(record)], last=number < 5)
    for writer in writers.values():
        writer.close()
    return tmp_path / "own"


def searches(store: Store, folder: Path, *, newest_first: bool, wanted: Wanted) -> list[str]:
    found = records(store, folder, wanted, newest_first=newest_first)
    return [record["api"]["request"]["uid"] for record in found if record["unmapped"]["phase"] == "intent"]


@pytest.mark.parametrize("newest_first", [True, False])
def test_records_come_by_time_and_each_once(store: Store, folder: Path, newest_first: bool) -> None:
    found = searches(store, folder, newest_first=newest_first, wanted=Wanted(collection="books"))

    expected = ["r-1", "r-2", "r-3", "r-4", "r-5"]
    assert found == (expected[::-1] if newest_first else expected)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(), True),
        (Wanted(since_ms=TIME_MS), True),
        (Wanted(since_ms=TIME_MS + 13), False),
        (Wanted(collection="books"), True),
        (Wanted(collection="book"), False),
        (Wanted(actor="k-7"), True),
        (Wanted(actor="reports"), False),
        (Wanted(operation="POST /v1/collections/{name}/search"), True),
        (Wanted(operation="search"), False),
        (Wanted(collection="books", actor="k-8"), False),
    ],
)
def test_only_what_fits_all_that_is_asked_is_shown(wanted: Wanted, fits: bool) -> None:
    assert wanted.fits(answer()) == fits


def test_a_file_that_cannot_be_read_is_named(store: Store, folder: Path) -> None:
    path = journal_files(folder)[-1]
    path.write_bytes(b"nothing of ours\n")

    with pytest.raises(AuditUnreadable, match=rf"{path}, line 1: the line is not a link of the chain"):
        list(records(store, folder))


def test_a_listing_that_misses_a_file_which_came_meanwhile_shows_no_gap(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [path for path in store.list() if path.endswith(".parquet")]
    own = [path for path in paths if signing_key(1).fingerprint in path]
    assert len(own) == 2
    listings = iter([own[1:], own])
    monkeypatch.setattr(Store, "list", lambda self, prefix: next(listings))

    with open_chains(store, None) as chains:
        assert [[piece.first for piece in chain.stored] for chain in chains.values()] == [[1, 4]]

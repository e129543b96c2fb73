"""Complete files go to the store, and leave this machine when they can be read back there."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from api.audit import shipping
from api.audit.chain import canonical, sealed
from api.audit.files import journal_files, place_of
from api.audit.objects import from_parquet, object_path, to_parquet
from api.audit.shipping import BackgroundShipper, Shipper
from api.audit.signing import read_public
from api.errors import AuditConflict
from indexer.format.store import Store
from tests.api.audit.scene import bodies, entries_in, require_sound, search, signing_key, writer_in
from tests.api.conftest import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A journal folder with three files: the records 1 to 4, 5 to 7 and 8 to 10."""
    folder = tmp_path / "journal"
    writer = writer_in(folder)
    writer.open()
    for _ in range(3):
        writer.commit(bodies(2), last=True)
    writer.close()
    return folder


def test_files_are_in_the_store_and_only_the_newest_stays_here(folder: Path, store: Store, tmp_path: Path) -> None:
    entries, files = entries_in(folder), journal_files(folder)
    shipper = Shipper(store, signing_key())

    for path in files:
        shipper.ship(path)

    writer = place_of(files[0]).writer
    paths = [object_path(writer, 1, 4), object_path(writer, 5, 7), object_path(writer, 8, 10)]
    assert store.list() == [f"_audit/keys/{writer}.pem", *paths]
    assert [row.entry for path in paths for row in from_parquet(store.get(path), path)] == entries
    assert journal_files(folder) == files[2:]
    (tmp_path / "key.pem").write_bytes(store.get(f"_audit/keys/{writer}.pem"))
    assert read_public(tmp_path / "key.pem") == signing_key().public
    require_sound(folder, store)


def test_a_writer_goes_on_from_the_file_that_stayed(folder: Path, store: Store) -> None:
    shipper = Shipper(store, signing_key())
    for path in journal_files(folder):
        shipper.ship(path)
    again = Shipper(store, signing_key())
    writer = writer_in(folder, completed=again.ship)
    writer.open()

    writer.commit(bodies(1), last=True)
    writer.close()

    assert [place_of(path).first for path in journal_files(folder)] == [11]
    require_sound(folder, store)


def test_shipping_again_is_harmless(folder: Path, store: Store) -> None:
    first, *_ = journal_files(folder)
    Shipper(store, signing_key()).ship(first)
    before = store.get(store.list()[0])

    Shipper(store, signing_key()).ship(first)

    assert store.get(store.list()[0]) == before


def test_the_same_records_in_other_bytes_are_fine(folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_ = journal_files(folder)
    Shipper(store, signing_key()).ship(first)

    monkeypatch.setattr(shipping, "to_parquet", lambda entries: to_parquet(entries) + b"another version of the library")
    Shipper(store, signing_key()).ship(first)

    assert first.exists()


def test_other_records_in_the_same_place_are_an_error_and_the_file_stays(folder: Path, store: Store) -> None:
    first, second, _ = journal_files(folder)
    entries = entries_in(folder)
    other = [*entries[:3], *sealed(entries[2], [canonical(search(99))])]
    path = object_path(place_of(first).writer, 1, 4)
    store.put(path, to_parquet(other))
    shipper = Shipper(store, signing_key())

    with pytest.raises(AuditConflict, match=rf"{path} holds other records than {first}: two logs of one writer"):
        shipper.ship(first)

    assert (first.exists(), second.exists()) == (True, True)


def test_a_store_that_is_away_is_said_once_and_the_files_wait(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipping, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(shipping, "LAST_RETRY_SECONDS", 0.02)
    away = tmp_path / "store"
    away.write_bytes(b"a file is no folder")
    said: list[str] = []
    tried = threading.Event()

    def report(sentence: str) -> None:
        said.append(sentence)
        tried.set()

    shipper = BackgroundShipper(Shipper(Store.at(str(away)), signing_key()), report)
    shipper.start()
    files = journal_files(folder)
    for path in files:
        shipper.add(path)
    assert tried.wait(10)
    assert journal_files(folder) == files

    away.unlink()
    until(lambda: len(said) == 2)
    shipper.stop()

    assert said[0].startswith("the audit log cannot be shipped (")
    assert said[1] == "the audit log is shipped again"
    assert journal_files(folder) == files[2:]
    require_sound(folder, Store.at(str(away)))


def test_a_stop_does_not_wait_for_a_store_that_is_away(folder: Path, tmp_path: Path) -> None:
    away = tmp_path / "store"
    away.write_bytes(b"a file is no folder")
    said: list[str] = []
    shipper = BackgroundShipper(Shipper(Store.at(str(away)), signing_key()), said.append)
    shipper.start()
    shipper.add(journal_files(folder)[0])

    shipper.stop()

    assert len(said) == 1
    assert len(journal_files(folder)) == 3

from __future__ import annotations

import json
import random
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from indexer.build import build_part
from indexer.catalog import Catalog
from indexer.compact import purge
from indexer.errors import CatalogError
from indexer.format.fetch import folder_name
from indexer.format.store import Store
from indexer.holders import Holder
from indexer.letterbox import encode_letters
from indexer.receipt import Deletion, Receipt, receipt
from indexer.rollback import rollback
from indexer.spec import CollectionSpec
from indexer.vacuum import vacuum
from tests.indexer.erasing import erase, holding, key_hash
from tests.indexer.parts import TEXTS, changes, delete, job, live_rows, publish, upsert
from tests.indexer.test_vacuum import interrupted_load, load_plan


def folders(found: Receipt) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
    return [(holder.files[0].split("/")[1], holder.versions) for holder in found.holders]


def test_a_row_that_lives_is_said_to_live_and_where(catalog: Catalog, cache: Path) -> None:
    (segment,) = publish(catalog, cache, 1, upsert(1), upsert(2)).segments
    publish(catalog, cache, 2, upsert(3, 2))

    found = receipt(catalog, "1")

    files = tuple(sorted(file.path for file in segment.files))
    assert found == Receipt(
        collection="texts",
        key="1",
        key_hash=key_hash(1).hex(),
        version=2,
        checked_at=found.checked_at,
        verdict="live",
        statement="Row 1 is live in version 2, and no deletion of it is recorded. "
        "Bytes of it lie in one place, which is where it counts, and in no other file.",
        erased=False,
        deletions=(),
        holders=(Holder(kind="segment", files=files, versions=((1, 2),), current=True, source_version=1),),
        made_at={version: catalog.read(version).committed_at for version in (1, 2)},
    )


def test_versions_that_are_named_have_their_dates_while_they_are_kept(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1), upsert(2))
    erase(catalog, cache, 2, 1)
    for version in (3, 4):
        publish(catalog, cache, version, upsert(version, version))
    found = receipt(catalog, "1")
    dates = {version: catalog.read(version).committed_at for version in (1, 2, 3, 4)}
    vacuum(catalog, retain=timedelta(0))
    later = receipt(catalog, "1")

    assert found.deletions == later.deletions == (Deletion(epoch="e", source_version=2, version=2),)
    assert found.made_at == {version: dates[version] for version in (1, 2, 4)}
    assert later.made_at == {4: dates[4], later.version: catalog.read().committed_at}


def test_a_row_that_never_was_is_said_so(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))

    found = receipt(catalog, "77")

    assert (found.verdict, found.erased, found.holders, found.deletions) == ("unknown", True, (), ())
    assert found.statement == (
        "Row 77 is in no version, and no deletion of it is recorded: as far as is known it never was. "
        "No file in the store holds its bytes."
    )


def test_a_deleted_row_is_proved_and_the_files_that_still_hold_it_are_named(catalog: Catalog, cache: Path) -> None:
    (segment,) = publish(catalog, cache, 1, upsert(1), upsert(2)).segments
    state = erase(catalog, cache, 5, 1)

    found = receipt(catalog, "1")

    (deletion,) = found.deletions
    assert (deletion.epoch, deletion.source_version) == ("e", 5)
    assert 1 not in live_rows(catalog, cache)
    assert (found.verdict, found.erased) == ("deleted", False)
    assert folders(found) == [(folder_name(segment), ((1, state.version),))]
    assert found.statement.startswith(
        f"Row 1 was deleted and is not in version {state.version}. The source deleted it at its version 5 (epoch e), "
        f"and version {deletion.version} of the collection was the first without it. Bytes of it that no longer count "
        f"lie in 1 place: `grebe compact {found.collection} --purge`"
    )


def test_a_purge_and_a_vacuum_leave_no_byte_of_a_deleted_row(store: Store, cache: Path) -> None:
    """The whole way of an erasure, with the row's text looked for in the raw bytes of every file."""
    letters = random.Random(20261125).choices(string.ascii_letters + string.digits, k=64)
    canary = "".join(letters)
    catalog = Catalog.create(store, TEXTS)
    publish(catalog, cache, 1, upsert(1, body=canary, title=canary), *(upsert(n) for n in range(2, 9)))
    publish(catalog, cache, 2, upsert(10, 2))
    erase(catalog, cache, 3, 1)
    rows = live_rows(catalog, cache)
    held_at_first = holding(store, canary)

    purge(catalog, cache)
    purged = receipt(catalog, "1")
    vacuum(catalog, retain=timedelta(0))
    found = receipt(catalog, "1")

    assert held_at_first
    assert all(path.endswith("/segment.tar") for path in held_at_first)
    assert [holder.versions for holder in purged.holders] == [((1, purged.version - 1),)]
    assert (found.verdict, found.erased, found.holders) == ("deleted", True, ())
    assert [(deletion.epoch, deletion.source_version) for deletion in found.deletions] == [("e", 3)]
    assert found.statement.endswith("was the first without it. No file in the store holds its bytes.")
    assert holding(store, canary) == []
    assert live_rows(catalog, cache / "anew") == rows


def test_a_row_that_came_back_is_said_to_live_in_spite_of_its_deletion(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))
    publish(catalog, cache, 2, upsert(2, 2))
    erase(catalog, cache, 3, 1)
    state = publish(catalog, cache, 4, upsert(1, 4, body="again"))

    found = receipt(catalog, "1")

    assert (found.verdict, found.erased) == ("inserted again", False)
    assert [deletion.source_version for deletion in found.deletions] == [3]
    assert sorted((holder.current, holder.source_version) for holder in found.holders) == [(False, 1), (True, 4)]
    assert found.statement.startswith(
        f"Row 1 was deleted and inserted again, and is live in version {state.version}. The source deleted it at its "
        "version 3"
    )


def test_a_rollback_that_brings_a_row_back_is_said(catalog: Catalog, cache: Path) -> None:
    old = publish(catalog, cache, 1, upsert(1))
    publish(catalog, cache, 2, upsert(2, 2))
    erase(catalog, cache, 3, 1)
    rollback(catalog, old.version)

    found = receipt(catalog, "1")

    assert (found.verdict, found.deletions) == ("live", ())
    assert found.statement.endswith(
        "The collection is held after a rollback to source version 1: what the source deleted later is deleted here "
        "again once the hold is released."
    )


@pytest.mark.parametrize("hashed", [True, False], ids=["by hash", "by JSON"])
def test_a_dead_letter_holds_its_row(catalog: Catalog, cache: Path, hashed: bool) -> None:
    state = publish(catalog, cache, 1, upsert(1))
    letters = pa.table(
        {"key": [json.dumps([7]), json.dumps([None])], "reason": ["bad"] * 2, "version": [3, 4], "row": ["{}"] * 2}
    )
    if hashed:
        letters = letters.append_column("key_hash", pa.array([key_hash(7), None], pa.binary(16)))
    file = catalog.store.put_record("letters/a.parquet", encode_letters(letters))
    catalog.store.put("letters/litter.parquet", encode_letters(letters))
    catalog.commit(state, state.model_copy(update={"letters": (file,), "letter_count": 2}), batch_end=None)

    found = receipt(catalog, "7")

    assert (found.verdict, found.erased) == ("set aside", False)
    assert found.holders == (
        Holder(kind="letters", files=("letters/a.parquet",), versions=((2, 2),), current=True, source_version=3),
        Holder(kind="letters", files=("letters/litter.parquet",), source_version=3),
    )


def test_what_no_version_names_is_looked_into_too(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))
    (litter,) = build_part(changes(upsert(9, 9)), job(catalog, cache)).segments

    found = receipt(catalog, "9")

    assert (found.verdict, folders(found)) == ("absent", [(folder_name(litter), ())])


def test_an_interrupted_load_is_named_with_what_it_holds(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))
    interrupted_load(catalog, cache, load_plan())

    (holder,) = receipt(catalog, "9").holders

    assert (holder.load, holder.versions, holder.source_version) == ("loads/a1", (), 9)


def test_what_cannot_be_looked_into_counts_as_holding_the_row(tmp_path: Path, cache: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)
    publish(catalog, cache, 1, upsert(1))
    catalog.store.put("segments/0000000001-00000000/segment.tar", b"without its keys")
    catalog.store.put("segments/0000000002-00000000/keys.npy", b"no keys")
    catalog.store.put("letters/a.parquet", b"no letters")
    unfinished = "segments/0000000003-00000000/segment.tar.abc.part"
    (tmp_path / "store" / "texts" / unfinished).parent.mkdir(parents=True)
    (tmp_path / "store" / "texts" / unfinished).write_bytes(b"half")

    found = receipt(catalog, "9")

    assert (found.verdict, found.erased) == ("unknown", False)
    assert [(holder.kind, holder.files[0], holder.certain) for holder in found.holders] == [
        ("segment", "segments/0000000001-00000000/segment.tar", False),
        ("segment", "segments/0000000002-00000000/keys.npy", False),
        ("letters", "letters/a.parquet", False),
        ("unfinished", unfinished, False),
    ]
    assert "4 cannot be looked into, as after an upload that broke off" in found.statement


def test_a_key_of_several_columns_is_written_as_in_a_url(store: Store, cache: Path) -> None:
    spec = CollectionSpec.model_validate(TEXTS.model_dump() | {"key": ["title", "id"]})
    catalog = Catalog.create(store, spec)
    publish(catalog, cache, 1, upsert(1, title="a,b"))

    assert receipt(catalog, "a%2Cb,1").verdict == "live"
    assert receipt(catalog, "b,1").verdict == "unknown"


@pytest.mark.parametrize("key", ["one", "1,2", "99999999999999999999"])
def test_what_is_no_key_is_refused(catalog: Catalog, cache: Path, key: str) -> None:
    publish(catalog, cache, 1, upsert(1))

    with pytest.raises(ValueError, match="key"):
        receipt(catalog, key)


def test_the_types_of_the_key_come_from_the_state_or_from_older_segments(catalog: Catalog, cache: Path) -> None:
    with pytest.raises(CatalogError, match="the types of the key of 'texts' are not known"):
        receipt(catalog, "1")
    publish(catalog, cache, 1, upsert(1))
    state = publish(catalog, cache, 2, delete(1, 2))
    assert (state.segments, receipt(catalog, "2").verdict) == ((), "unknown")

    catalog.commit(state, state.model_copy(update={"types": {"id": "bigint"}}), batch_end=None)
    vacuum(catalog, retain=timedelta(0))
    assert receipt(catalog, "2").verdict == "unknown"


def test_a_receipt_says_when_it_was_asked(catalog: Catalog, cache: Path) -> None:
    publish(catalog, cache, 1, upsert(1))
    began = datetime.now(UTC)

    assert began <= receipt(catalog, "1").checked_at <= datetime.now(UTC)
    assert Deletion(epoch="e", source_version=1, version=2).model_dump() == {
        "epoch": "e",
        "source_version": 1,
        "version": 2,
    }

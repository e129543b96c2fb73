"""``grebe status``: exact counts, what waits for a person, and the rows that were set aside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from indexer.catalog import Catalog, SyncFailure
from indexer.format.store import Store
from indexer.spec import CollectionSpec, IndexSpec
from tests.api.library import Library, book
from tests.indexer.parts import TEXTS, publish, upsert
from tests.jobs.command import Grebe, grebe_on

DAY = 86_400.0


@pytest.fixture
def grebe(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grebe:
    monkeypatch.setenv("GREBE_STORE", str(tmp_path / "store"))
    return grebe_on(capfd)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Four books of which one was replaced, one deleted and one added, read six days ago."""
    library = Library(tmp_path)
    now = datetime.now(UTC)
    library.commit(3, [book(number) for number in range(4)], at=now - timedelta(days=8))
    library.commit(4, [book(1, pages=7), book(9)], [book(0)], at=now - timedelta(days=7))
    library.beat(4, now - timedelta(days=6), retention_seconds=8 * DAY, reads="changes")
    return library


def test_status_counts_the_rows_that_can_be_found(library: Library, grebe: Grebe) -> None:
    found = grebe("status", "books", "-o", "json").json

    assert (found["rows"], found["chunks"], found["segments"]) == (4, 4, 2)
    assert (found["reads"], found["retention_seconds"], found["held"]) == ("changes", 8 * DAY, None)
    assert found["retention_used"] == pytest.approx(0.75, abs=0.001)
    assert found["letters"] == []


def test_the_list_has_one_line_each_and_the_warnings_below(library: Library, tmp_path: Path, grebe: Grebe) -> None:
    Library(tmp_path, "others")
    library.hold("mass_delete", 6, deletes=3, rows=4)

    lines = grebe("status").out.splitlines()

    assert [line.split()[0] for line in lines] == ["collection", "books", "others", "warning:", "warning:"]
    assert lines[1].endswith("changes  6.0 days, held")
    assert lines[2].split()[-3:] == ["-", "not", "loaded"]
    assert "If it is meant: `grebe sync books --approve 6`" in lines[3]
    assert "keeps changes for 8.0 days; run `grebe sync books` within 2.0 days" in lines[4]
    listed = grebe("status", "-o", "json").json["collections"]
    assert [len(each["warnings"]) for each in listed] == [2, 0]
    assert (listed[0]["held"]["kind"], listed[0]["held"]["version"]) == ("mass_delete", 6)


def test_a_sync_that_failed_is_told_until_another_has_looked_at_the_source(library: Library, grebe: Grebe) -> None:
    now = datetime.now(UTC)
    position = library.catalog.read().position
    library.catalog.write_failure(SyncFailure(at=now - timedelta(hours=3), position=position, error="the disk is full"))

    listed = grebe("status").out.splitlines()
    found = grebe("status", "books", "-o", "json").json

    assert listed[1].endswith("6.0 days, failed")
    assert listed[2] == "warning: books: the last sync failed 3.0 h ago: the disk is full"
    assert found["sync_failure"]["error"] == "the disk is full"
    library.beat(4, now - timedelta(hours=2), reads="changes")
    assert grebe("status", "books", "-o", "json").json["sync_failure"] is None


def test_what_is_held_is_told_rather_than_an_older_failure(library: Library, grebe: Grebe) -> None:
    position = library.catalog.read().position
    library.catalog.write_failure(SyncFailure(at=datetime.now(UTC), position=position, error="the disk is full"))
    library.hold("mass_delete", 6, deletes=3, rows=4)

    said = grebe("status").out.splitlines()

    assert said[1].endswith("6.0 days, held")
    assert not any("failed" in line for line in said)


def test_a_sync_that_failed_is_told_no_more_once_another_has_read_on(library: Library, grebe: Grebe) -> None:
    position = library.catalog.read().position
    library.catalog.write_failure(SyncFailure(at=datetime.now(UTC), position=position, error="the disk is full"))

    library.commit(5, [book(3, pages=8)])

    assert grebe("status", "books", "-o", "json").json["sync_failure"] is None


def test_a_table_that_keeps_no_changes_says_that_snapshots_are_compared(library: Library, grebe: Grebe) -> None:
    library.beat(4, datetime.now(UTC), reads="snapshots")

    assert grebe("status", "books").out.splitlines()[1].split()[-3] == "snapshots"
    found = grebe("status", "books", "-o", "json").json
    assert (found["reads"], found["retention_used"], found["warnings"]) == ("snapshots", None, [])


def test_the_first_rows_that_were_set_aside_are_shown_with_their_total_and_what_clears_them(
    tmp_path: Path, grebe: Grebe
) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)
    bad = [upsert(10 + number, 7, bad=True, body="long " * 40, n=number) for number in range(25)]
    publish(catalog, tmp_path / "cache", 7, *bad, upsert(1, 7))

    found = grebe("status", "texts", "-o", "json").json
    said = grebe("status", "texts").out.splitlines()

    assert (found["rows"], found["dead_letters"], len(found["letters"])) == (1, 25, 20)
    first = found["letters"][0]
    assert (first["key"], first["reason"], first["version"]) == ([10], "the text is not valid UTF-8", 7)
    assert first["row"]["body"] == "long " * 40
    assert said[2:5] == [
        "No segment has an index: all are searched exactly.",
        "",
        "Set aside: 25 rows, the first 20 by key here (--letters 25 lists all); "
        "mend or delete them at the source, and `grebe sync texts` clears them.",
    ]
    assert said[6].split()[:2] == ["[10]", "the"]
    assert said[6].endswith(" ...")
    assert len(said) == 26


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_indexes_of_one_collection_are_shown_with_where_and_why_they_were_built(
    tmp_path: Path, grebe: Grebe, kind: str
) -> None:
    spec = TEXTS.model_copy(update={"index": IndexSpec.model_validate({"kind": kind})})
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), spec)
    publish(catalog, tmp_path / "cache", 7, *(upsert(number, 7, body=f"text {number}") for number in range(40)))

    found = grebe("status", "texts", "-o", "json").json["indexes"]
    said = grebe("status", "texts").out.splitlines()

    assert [(index["kind"], index["device"], index["chunks"]) for index in found] == [(kind, "cpu", 40)]
    assert found[0]["recall_at_10"] >= 0.95
    assert said[3].split()[:4] == ["segment", "chunks", "index", "built"]
    assert said[4].endswith(f"the spec asks for {kind}")
    assert grebe("status", "-o", "json").json["collections"][0]["indexes"] == found


def test_how_many_tenants_are_kept_apart_is_told(tmp_path: Path, grebe: Grebe) -> None:
    apart = TEXTS.model_dump() | {"key": ["n", "id"], "isolation": {"tenant": "n"}}
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), CollectionSpec.model_validate(apart))
    publish(catalog, tmp_path / "cache", 1, *(upsert(number, n=number % 3) for number in range(7)))

    assert "Tenants: 3, each in segments of its own." in grebe("status", "texts").out
    assert grebe("status", "texts", "-o", "json").json["tenants"] == 3


def test_a_collection_without_tenants_says_nothing_of_them(library: Library, grebe: Grebe) -> None:
    assert "Tenants" not in grebe("status", "books").out
    assert grebe("status", "books", "-o", "json").json["tenants"] is None

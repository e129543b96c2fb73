from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.build import build_part, cuts, merge_results
from indexer.catalog import Catalog, SourcePosition
from indexer.errors import BuildError
from indexer.format.deletions import find
from indexer.format.fetch import fetch_segment
from indexer.format.keys import key_hashes
from indexer.format.records import Ledger
from indexer.format.segment import read_segment
from indexer.format.store import Store
from indexer.letters import read_letters
from indexer.spec import VectorSpec
from tests.indexer.parts import TEXTS, VECTORS, as_rows, changes, delete, job, live_rows, publish, unit, upsert


@pytest.fixture
def texts(tmp_path: Path) -> Catalog:
    return Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)


def test_a_part_becomes_one_segment_with_its_rows_chunks_together(texts: Catalog, tmp_path: Path) -> None:
    long = " ".join(f"word{i}" for i in range(40))

    result = build_part(changes(upsert(1, n=7), upsert(2, body=long), upsert(3, n=8)), job(texts, tmp_path / "cache"))

    (record,) = result.segments
    chunks = read_segment(fetch_segment(texts.store, record, tmp_path / "cache")).chunks()
    numbers = as_rows(chunks, ["_row", "_chunk"])
    assert numbers == sorted(numbers)
    assert {row for row, _ in numbers} == {0, 1, 2}
    assert (record.n_rows, record.n_chunks, record.dim) == (3, len(numbers), 8)
    assert record.n_chunks > 4
    assert set(as_rows(chunks, ["column.id", "column.n"])) == {(1, 7), (2, 0), (3, 8)}
    assert unit(TEXTS, texts, tmp_path / "cache")


def test_the_ledger_counts_rows_of_the_source(texts: Catalog, tmp_path: Path) -> None:
    rows = changes(upsert(1), upsert(1, 2), delete(2), upsert(None))

    result = build_part(rows, job(texts, tmp_path / "cache"))

    assert result.ledger == Ledger(read=4, upserted=1, deleted=1, set_aside=1, embedded=1)


def test_set_aside_rows_are_kept_whole_with_their_reason(texts: Catalog, tmp_path: Path) -> None:
    result = build_part(changes(upsert(None, 3, body="lost?")), job(texts, tmp_path / "cache"))

    (letters,) = result.letters
    texts.store.fetch(letters, tmp_path / "letters.parquet")
    (letter,) = pq.read_table(tmp_path / "letters.parquet").to_pylist()
    assert (letter["key"], letter["reason"], letter["version"]) == ("[null]", "the key is null", 3)
    assert '"body": "lost?"' in letter["row"]
    assert letter["key_hash"] is None


def test_a_row_that_did_not_change_is_not_written_again(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = publish(texts, cache, 1, upsert(1), upsert(2))

    state = publish(texts, cache, 2, upsert(1, 2), delete(1, 2), upsert(3, 2))

    assert state.ledger == Ledger(read=3, upserted=1, unchanged=1, embedded=1)
    assert before.segments[0] in state.segments
    assert (len(state.segments), state.deleted, state.live_rows) == (2, {}, 3)
    assert live_rows(texts, cache) == {1: "body 1", 2: "body 2", 3: "body 3"}


def test_a_row_that_came_back_after_its_deletion_is_written_again(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 1, upsert(1), upsert(2))
    publish(texts, cache, 2, delete(1, 2))

    state = publish(texts, cache, 3, upsert(1, 3))

    assert (state.ledger.unchanged, state.live_rows) == (0, 2)
    assert live_rows(texts, cache) == {1: "body 1", 2: "body 2"}


def test_an_update_of_columns_alone_embeds_nothing_and_keeps_the_vectors(texts: Catalog, tmp_path: Path) -> None:
    cache, long = tmp_path / "cache", " ".join(f"word{i}" for i in range(40))
    publish(texts, cache, 1, upsert(1, body=long), upsert(2))
    before = vectors_of(texts, cache, 1)

    state = publish(texts, cache, 2, upsert(1, 2, body=long, n=7))

    assert state.ledger == Ledger(read=1, upserted=1)
    assert len(before) > 2
    assert vectors_of(texts, cache, 1) == before


def test_a_changed_chunk_alone_is_embedded_and_a_shorter_text_leaves_no_tail(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    sentences = [f"Sentence number {i} has quite a few words in it for sure." for i in range(8)]
    first = publish(texts, cache, 1, upsert(1, body=" ".join(sentences))).ledger.embedded
    sentences[-1] = "Another ending."

    state = publish(texts, cache, 2, upsert(1, 2, body=" ".join(sentences)))

    assert 0 < state.ledger.embedded < first / 2
    short = publish(texts, cache, 3, upsert(1, 3, body=sentences[0]))
    assert (short.n_chunks, short.live_rows) == (len(vectors_of(texts, cache, 1)), 1)
    assert live_rows(texts, cache) == {1: sentences[0]}


def vectors_of(catalog: Catalog, cache: Path, key: int) -> list[list[float]]:
    """The vectors of a row's live chunks, in order."""
    state = catalog.read()
    dead = catalog.tombstones(state)
    found = []
    for record in state.segments:
        files = read_segment(fetch_segment(catalog.store, record, cache))
        for position, chunk in enumerate(files.chunks().to_pylist()):
            if chunk["column.id"] == key and position not in dead.get(record.number, ()):
                found.append(files.vectors[position].tolist())
    return found


def test_what_the_source_deletes_is_kept_in_the_log_of_deletions(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 1, upsert(1), upsert(2), upsert(3))

    state = publish(texts, cache, 5, delete(1, 4), delete(9, 4), upsert(2, 5, bad=True), delete(3, 5), upsert(3, 5))

    (log,) = state.deletions
    ((epoch, source, version),) = find(
        state.deletions, key_hashes(changes(upsert(1)), ["id"])[0].tobytes(), texts.store
    )
    assert (log.count, epoch, source, version) == (1, "e", 4, state.version)


def test_versions_of_another_epoch_do_not_count(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 50, upsert(1, 50), upsert(2, 50), upsert(3, 50))

    publish(texts, cache, 0, upsert(1, 0), epoch="new")
    state = publish(texts, cache, 2, upsert(1, 2, body="newer"), delete(2, 1), epoch="new")

    assert live_rows(texts, cache) == {1: "newer", 3: "body 3"}
    assert (state.base, state.live_rows) == (SourcePosition(epoch="new", version=0), 2)


def test_a_letter_goes_when_its_row_is_mended_or_deleted(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    bad = (upsert(1, bad=True), upsert(2, bad=True), upsert(None, body="keyless"), upsert(3, bad=True))
    before = publish(texts, cache, 1, *bad)
    untouched = publish(texts, cache, 2, upsert(8, 2))

    state = publish(texts, cache, 3, upsert(1, 3), delete(2, 3), delete(None, 3, body="keyless"), upsert(7, 3))

    assert (before.letter_count, untouched.letters, state.letter_count) == (4, before.letters, 1)
    assert read_letters(state.letters, texts.store)["key"].to_pylist() == ["[3]"]


def test_nothing_to_write_writes_nothing(texts: Catalog, tmp_path: Path) -> None:
    result = build_part(changes(), job(texts, tmp_path / "cache"))

    assert (result.segments, result.letters, texts.store.list("segments")) == ((), (), [])


def test_an_empty_text_is_a_row_without_a_vector(texts: Catalog, tmp_path: Path) -> None:
    result = build_part(
        changes(upsert(1, title="", body=""), upsert(2, title=None, body=None), upsert(3)),
        job(texts, tmp_path / "cache"),
    )

    (record,) = result.segments
    chunks = read_segment(fetch_segment(texts.store, record, tmp_path / "cache")).chunks()
    assert sorted(as_rows(chunks, ["column.id", "_embedded"])) == [(1, False), (2, False), (3, True)]
    assert record.n_embedded == 1


def test_a_missing_vector_is_a_row_without_a_vector(tmp_path: Path) -> None:
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), VECTORS)

    result = build_part(changes(upsert(1, vector=None), upsert(2)), job(catalog, tmp_path / "cache"))

    assert (result.segments[0].n_rows, result.segments[0].n_embedded) == (2, 1)


def test_an_update_replaces_all_chunks_of_the_row(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 1, upsert(1, body=" ".join(f"word{i}" for i in range(40))), upsert(2))

    state = publish(texts, cache, 2, upsert(1, 2, body="short"))

    assert live_rows(texts, cache) == {1: "short", 2: "body 2"}
    assert sorted(segment.n_rows for segment in state.segments) == [1, 2]
    assert list(state.deleted.values()) == [max(segment.n_chunks for segment in state.segments) - 1]


def test_a_delete_removes_only_what_is_older(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 5, upsert(1, 5), upsert(2, 4))

    publish(texts, cache, 6, delete(1, 5), delete(2, 5))

    assert live_rows(texts, cache) == {1: "body 1"}


def test_the_same_batch_again_changes_nothing(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    batch = (upsert(1, 5), upsert(2, 5), delete(3, 5))
    publish(texts, cache, 5, *batch)

    publish(texts, cache, 6, *batch)

    assert live_rows(texts, cache) == {1: "body 1", 2: "body 2"}


def test_an_upsert_older_than_what_is_indexed_is_passed_over(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 5, upsert(1, 5, body="newer"))

    publish(texts, cache, 6, upsert(1, 4, body="older"))

    assert live_rows(texts, cache) == {1: "newer"}


def test_a_row_that_went_bad_is_no_longer_served(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 1, upsert(1), upsert(2))

    state = publish(texts, cache, 2, upsert(1, 2, bad=True))

    assert (live_rows(texts, cache), state.letter_count) == ({2: "body 2"}, 1)


@pytest.mark.parametrize(
    "text", ["🦆" * 300, "مرحبا بالعالم " * 50, "שלום עולם", "a\x00b", "x" * 1_000_000, "e\u0301" * 90]
)
def test_any_text_comes_back_as_it_was(texts: Catalog, tmp_path: Path, text: str) -> None:
    publish(texts, tmp_path / "cache", 1, upsert(1, body=text))

    assert live_rows(texts, tmp_path / "cache") == {1: text}


def test_parts_add_up(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    publish(texts, cache, 1, upsert(1), upsert(2))
    one = build_part(changes(upsert(1, 2, body="again")), job(texts, cache))
    two = build_part(changes(delete(2, 2), upsert(None)), job(texts, cache))

    both = merge_results([one, two])

    assert both.ledger == Ledger(read=3, upserted=1, deleted=1, set_aside=1, embedded=1)
    assert (both.replaced, both.removed) == (1, 1)
    assert {number: list(bits) for number, bits in both.tombstones().items()} == {
        texts.read().segments[0].number: [0, 1]
    }
    assert (both.segments, both.letters, len(both.touched_keys())) == (one.segments, two.letters, 2)


def test_a_letter_tells_of_a_date_that_python_has_no_word_for(texts: Catalog, tmp_path: Path) -> None:
    table = changes(upsert(1))
    table = table.set_column(table.column_names.index("n"), "n", pa.array([5_000_000], pa.int32()).cast(pa.date32()))

    result = build_part(table, job(texts, tmp_path / "cache"))

    assert (result.ledger.set_aside, result.segments) == (1, ())


def test_timestamps_of_any_zone_are_stored_in_utc(texts: Catalog, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    table = changes(upsert(1))
    local = pa.array([0], pa.int64()).cast(pa.timestamp("us", tz="Europe/Berlin"))
    table = table.set_column(table.column_names.index("n"), "n", local)

    (record,) = build_part(table, job(texts, cache)).segments

    chunks = read_segment(fetch_segment(texts.store, record, cache)).chunks()
    assert chunks.schema.field("column.n").type == pa.timestamp("us", tz="UTC")


def test_vectors_of_unknown_width_are_asked_for(tmp_path: Path) -> None:
    spec = VECTORS.model_copy(update={"vector": VectorSpec(column="vector")})
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), spec)

    with pytest.raises(BuildError, match=r"give it as vector\.dim"):
        build_part(changes(upsert(1, vector=None)), job(catalog, tmp_path / "cache"))


def test_a_row_of_more_chunks_than_a_segment_holds_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.build.MAX_CHUNKS_PER_SEGMENT", 3)

    assert cuts(np.array([0, 0, 1, 1, 2], dtype=np.uint32)) == [(0, 2), (2, 5)]
    with pytest.raises(BuildError, match="more than 3 chunks"):
        cuts(np.array([0, 1, 1, 1, 1], dtype=np.uint32))

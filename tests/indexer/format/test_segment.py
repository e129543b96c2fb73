from __future__ import annotations

import io
import tarfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexer.errors import BuildError, CorruptFile, ObjectNotFound, StoreError
from indexer.format import segment as segment_module
from indexer.format.fetch import fetch_keys, fetch_segment, folder_name
from indexer.format.keywords import compose
from indexer.format.records import MAX_CHUNKS_PER_SEGMENT, FileRecord, IndexRecord, SegmentRecord, keyword_row
from indexer.format.segment import new_segment_number, publish_segment, read_segment, write_segment
from indexer.format.store import Store
from tests.indexer.format import golden
from tests.indexer.format.tables import chunk_table, spec_of, unit_vectors, vectors_for

SPEC = spec_of()
NUMBER = 0x12AB


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(str(tmp_path / "store"))


def published(store: Store, n_chunks: int = 20, number: int = NUMBER) -> SegmentRecord:
    chunks = chunk_table(n_chunks)
    return publish_segment(store, chunks, vectors_for(chunks), SPEC, number=number, shard=0)


def everything_below(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")


def test_a_segment_reads_back_as_it_was_written(store: Store, tmp_path: Path) -> None:
    chunks = chunk_table(21)
    vectors = vectors_for(chunks)
    record = publish_segment(store, chunks, vectors, SPEC, number=NUMBER, shard=3)
    files = read_segment(fetch_segment(store, record, tmp_path / "cache"))
    assert files.chunks().select(chunks.column_names) == chunks
    assert np.array_equal(files.vectors, vectors)
    assert files.row_of_chunk.tolist() == chunks.column("_row").to_pylist()
    assert [row.tobytes() for row in files.key_hashes()] == chunks.column("_key").to_pylist()
    assert files.index is None
    assert len(files.keys) == 11
    queries, entries = files.keys.lookup(files.key_hashes()[[20, 0]])
    assert (queries.tolist(), entries.tolist()) == ([0, 1], [(20, 1, 13), (0, 2, 3)])


def test_the_record_says_what_was_written(store: Store) -> None:
    record = published(store, 21)
    assert record.model_copy(update={"files": ()}) == SegmentRecord(
        number=NUMBER,
        shard=0,
        packed=True,
        files=(),
        n_rows=11,
        n_chunks=21,
        n_embedded=18,
        dim=8,
        fingerprint=SPEC.fingerprint,
        index=IndexRecord(kind="exact", reason="18 vectors: too few to train an index"),
        created_at=record.created_at,
    )
    assert [file.path for file in record.files] == [
        f"segments/{folder_name(record)}/{name}" for name in ("keys.npy", "segment.tar")
    ]
    assert folder_name(record).startswith(f"{NUMBER:010x}-")
    assert sorted(store.list("segments")) == sorted(file.path for file in record.files)


def test_a_segment_as_written_is_read_from_its_parquet_file(tmp_path: Path) -> None:
    chunks = chunk_table(10)
    written = write_segment(tmp_path / "s", chunks, vectors_for(chunks), SPEC, number=1, shard=0, dim=8)
    assert read_segment(written.folder).chunks().select(chunks.column_names) == chunks
    assert pq.read_metadata(written.folder / "rows.parquet").row_group(0).column(0).compression == "ZSTD"


def test_a_large_segment_is_not_packed(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "PACKED_BELOW_BYTES", 1000)
    record = published(store)
    names = {Path(file.path).name for file in record.files}
    assert {"rows.parquet", "vectors.npy", "keys.npy", "meta.json"} < names
    assert (record.packed, "segment.tar" in names) == (False, False)
    files = read_segment(fetch_segment(store, record, tmp_path / "cache"))
    assert files.chunks().num_rows == 20
    assert compose([files.keywords], tmp_path / "composed", SPEC).searcher().num_docs == 20


def test_the_keyword_documents_carry_number_and_position(store: Store, tmp_path: Path) -> None:
    files = read_segment(fetch_segment(store, published(store), tmp_path / "cache"))
    index = compose([files.keywords], tmp_path / "composed", SPEC)
    found = index.searcher().search(index.parse_query("*", []), 100).hits
    rows = index.searcher().fast_field_values("row", [address for _, address in found])
    assert sorted(rows) == [keyword_row(NUMBER, position) for position in range(20)]  # type: ignore[type-var]


def test_half_precision_is_stored_where_the_spec_asks_for_it(store: Store, tmp_path: Path) -> None:
    spec = spec_of(vector={"column": "embedding", "dtype": "float16"})
    chunks = chunk_table(10)
    vectors = vectors_for(chunks)
    record = publish_segment(store, chunks, vectors, spec, number=1, shard=0)
    stored = read_segment(fetch_segment(store, record, tmp_path / "cache")).vectors
    assert np.array_equal(stored, vectors.astype(np.float16))
    again = publish_segment(store, chunks, stored, spec, number=2, shard=0)
    assert np.array_equal(read_segment(fetch_segment(store, again, tmp_path / "cache")).vectors, stored)


def test_an_index_leaves_out_chunks_without_a_vector(store: Store, tmp_path: Path) -> None:
    spec = spec_of(vector={"column": "embedding", "dim": 32}, index={"kind": "ivf"})
    chunks = chunk_table(70)
    record = publish_segment(store, chunks, vectors_for(chunks, 32), spec, number=1, shard=0)
    index = read_segment(fetch_segment(store, record, tmp_path / "cache")).index
    assert index is not None
    assert (index.ntotal, record.n_embedded, record.index.kind) == (60, 60, "ivf")


def changed(chunks: pa.Table, name: str, values: Any) -> pa.Table:
    at = chunks.column_names.index(name)
    return chunks.set_column(at, name, pa.array(values, chunks.schema.field(name).type))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.slice(0, 0), f"a segment holds 1 to {MAX_CHUNKS_PER_SEGMENT} chunks, not 0"),
        (lambda t: t.drop_columns(["_hash", "text.body"]), r"lacks columns \['_hash', 'text.body'\] and has \[\]"),
        (lambda t: t.append_column("more", t["_row"]), r"has \['more'\] that don't belong"),
        (lambda t: changed(t, "_row", [1, 1, 2, 2]), "'_row' must count the rows from 0"),
        (lambda t: changed(t, "_row", [0, 0, 2, 2]), "'_row' must count the rows from 0"),
        (lambda t: changed(t, "_chunk", [0, 1, 1, 2]), "'_chunk' must count each row's chunks from 0"),
        (lambda t: changed(t, "_chunk", [0, 0, 0, 1]), "'_chunk' must count each row's chunks from 0"),
        (lambda t: changed(t, "_version", [1, None, 1, 1]), "column '_version' of the chunk table has nulls"),
        (lambda t: changed(t, "_key", [b"a" * 16, b"b" * 16] * 2), "the chunks of one row have different keys"),
        (lambda t: changed(t, "_key", [b"a" * 16] * 4), "1 keys come twice in one segment"),
        (lambda t: t.set_column(0, "_row", pa.array(["x"] * 4)), "has a column of another type than the format's"),
    ],
)
def test_a_table_that_breaks_a_promise_is_refused(
    tmp_path: Path, change: Callable[[pa.Table], pa.Table], message: str
) -> None:
    chunks = change(chunk_table(4))
    with pytest.raises(BuildError, match=message):
        write_segment(tmp_path / "s", chunks, unit_vectors(len(chunks), 8), SPEC, number=1, shard=0, dim=8)
    assert not (tmp_path / "s").exists()


def test_more_chunks_than_a_segment_holds_are_refused(tmp_path: Path) -> None:
    count = MAX_CHUNKS_PER_SEGMENT + 1
    with pytest.raises(BuildError, match=f"not {count}"):
        write_segment(
            tmp_path / "s", pa.table({"_row": np.zeros(count)}), unit_vectors(1, 8), SPEC, number=1, shard=0, dim=8
        )


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (unit_vectors(3, 8), r"expected 4 vectors of 8 float32 or float16, not \(3, 8\) float32"),
        (unit_vectors(4, 7), r"not \(4, 7\) float32"),
        (unit_vectors(4, 8)[0], r"not \(8,\) float32"),
        (unit_vectors(4, 8).astype(np.float64), r"not \(4, 8\) float64"),
        (unit_vectors(4, 8) * [[1], [2], [1], [1]], "float64"),
        ((unit_vectors(4, 8) * np.float32(2)), "the vector of chunk 0 has length 2, not 1"),
        (np.where(np.arange(32).reshape(4, 8) == 17, np.float32("nan"), unit_vectors(4, 8)), "chunk 2 is not finite"),
    ],
)
def test_unusable_vectors_are_refused(tmp_path: Path, vectors: np.ndarray, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        write_segment(tmp_path / "s", chunk_table(4), vectors, SPEC, number=1, shard=0, dim=8)


def test_vectors_of_any_length_do_under_dot(tmp_path: Path) -> None:
    spec = spec_of(vector={"column": "embedding", "metric": "dot"})
    vectors = unit_vectors(4, 8) * np.float32(5)
    write_segment(tmp_path / "s", chunk_table(4), vectors, spec, number=1, shard=0, dim=8)
    assert np.array_equal(read_segment(tmp_path / "s").vectors, vectors)


@pytest.mark.parametrize("number", [-1, 1 << 40])
def test_a_number_of_more_than_forty_bits_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(BuildError, match=f"{number} does not fit"):
        write_segment(tmp_path / "s", chunk_table(4), unit_vectors(4, 8), SPEC, number=number, shard=0, dim=8)


def test_new_numbers_have_forty_bits_and_differ() -> None:
    numbers = {new_segment_number() for _ in range(100)}
    assert len(numbers) == 100
    assert max(numbers) < 1 << 40


def test_a_failing_disk_is_a_build_error(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("in the way")
    with pytest.raises(BuildError, match=r"segment 1 could not be written: .*exists"):
        write_segment(tmp_path / "s", chunk_table(4), unit_vectors(4, 8), SPEC, number=1, shard=0, dim=8)


def test_the_vectors_get_the_keywords_core_when_those_are_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = segment_module
    asked, free, index_words, build = threading.Event(), list[int](), module.write_keywords, module.build_index
    monkeypatch.setattr("indexer.ann.threads.all_threads", lambda: 4)
    monkeypatch.setattr(segment_module, "all_threads", lambda: 4)

    def keywords(*given: Any) -> None:
        assert asked.wait(60)
        index_words(*given)

    def vectors(*given: Any, cores: Callable[[], int], **named: Any) -> Any:
        free.append(cores())
        asked.set()
        while cores() == free[0]:
            time.sleep(0.01)
        free.append(cores())
        return build(*given, **named)

    monkeypatch.setattr(segment_module, "write_keywords", keywords)
    monkeypatch.setattr(segment_module, "build_index", vectors)
    write_segment(tmp_path / "s", chunk_table(4), unit_vectors(4, 8), SPEC, number=1, shard=0, dim=8)
    assert free == [3, 4]


def test_fetching_again_does_not_read_the_store(store: Store, tmp_path: Path) -> None:
    record = published(store)
    folder = fetch_segment(store, record, tmp_path / "cache")
    store.delete(file.path for file in record.files)
    assert fetch_segment(store, record, tmp_path / "cache") == folder


def test_threads_that_fetch_at_once_get_one_whole_folder(store: Store, tmp_path: Path) -> None:
    record = published(store, 200)
    together = threading.Barrier(8)

    def fetch(_: int) -> tuple[Path, int]:
        together.wait()
        folder = fetch_segment(store, record, tmp_path / "cache")
        return folder, read_segment(folder).chunks().num_rows

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(fetch, range(8)))
    assert found == {(tmp_path / "cache" / folder_name(record), 200)}


def _fetch_rows(store: Store, record: SegmentRecord, cache: Path) -> int:
    return int(read_segment(fetch_segment(store, record, cache)).chunks().num_rows)


def test_processes_that_fetch_at_once_get_one_whole_folder(store: Store, tmp_path: Path) -> None:
    record = published(store, 200)
    with get_context("spawn").Pool(2) as pool:
        found = pool.starmap(_fetch_rows, [(store, record, tmp_path / "cache")] * 4)
    assert found == [200] * 4


@pytest.mark.parametrize("name", ["segment.tar", "keys.npy"])
@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:90] + b"!" + data[91:], lambda _: b""])
def test_an_altered_file_is_named_and_never_visible(
    store: Store, tmp_path: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    record = published(store)
    path = next(file.path for file in record.files if file.path.endswith(name))
    store.put(path, damage(store.get(path)))
    with pytest.raises(CorruptFile, match=path):
        fetch_segment(store, record, tmp_path / "cache")
    assert everything_below(tmp_path / "cache") == []


def test_a_missing_file_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    record = published(store)
    store.delete([record.files[1].path])
    with pytest.raises(ObjectNotFound, match=r"segment\.tar"):
        fetch_segment(store, record, tmp_path / "cache")
    assert everything_below(tmp_path / "cache") == []


def test_what_a_killed_process_left_is_swept_away(store: Store, tmp_path: Path) -> None:
    record = published(store)
    leftover = tmp_path / "cache" / f".{folder_name(record)}.part"
    leftover.mkdir(parents=True)
    fetch_segment(store, record, tmp_path / "cache")
    assert not leftover.exists()


def test_a_cache_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    record = published(store)
    (tmp_path / "cache").write_text("a file in the way")
    for fetch in (fetch_segment, fetch_keys):
        with pytest.raises(StoreError, match=r"cache/.* could not be written: File exists"):
            fetch(store, record, tmp_path / "cache")


def archive_of(member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for _ in range(2 if member.name == "rows.parquet" else 1):
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    "member",
    [
        member_of("../escaped"),
        member_of("/tmp/escaped"),
        member_of("keywords/../../escaped"),
        member_of("keywords/deep/er"),
        member_of("stranger.txt"),
        member_of("rows.parquet"),
        member_of("vectors.npy", tarfile.SYMTYPE, "/etc/passwd"),
        member_of("vectors.npy", tarfile.LNKTYPE, "../../escaped"),
        member_of("keywords", tarfile.DIRTYPE),
        member_of("keys.npy", tarfile.FIFOTYPE),
    ],
    ids=lambda member: f"{member.name} {member.type.decode()}",
)
def test_an_archive_with_a_stranger_in_it_is_refused(store: Store, tmp_path: Path, member: tarfile.TarInfo) -> None:
    record = published(store)
    bad = store.put_record(record.files[1].path, archive_of(member))
    with pytest.raises(CorruptFile, match=r"segment\.tar: .* (does not belong in a segment|comes twice)"):
        fetch_segment(store, record.model_copy(update={"files": (record.files[0], bad)}), tmp_path / "cache")
    assert everything_below(tmp_path / "cache") == []
    assert not list(tmp_path.rglob("escaped"))


def test_an_archive_that_is_none_is_corrupt(store: Store, tmp_path: Path) -> None:
    record = published(store)
    bad = store.put_record(record.files[1].path, b"x" * 2000)
    with pytest.raises(CorruptFile, match=r"segment\.tar: not a readable archive"):
        fetch_segment(store, record.model_copy(update={"files": (bad,)}), tmp_path / "cache")


@pytest.mark.parametrize(
    "path", ["../x/rows.parquet", "segments/00000012ab-01234567/../../x", "segments/x/rows.parquet", "rows.parquet"]
)
def test_a_record_that_points_elsewhere_is_refused(store: Store, tmp_path: Path, path: str) -> None:
    record = published(store).model_copy(update={"files": (FileRecord(path=path, size_bytes=0, sha256=""),)})
    with pytest.raises(CorruptFile, match="is not a path of a segment's file"):
        fetch_segment(store, record, tmp_path / "cache")


def test_keys_are_fetched_alone_and_once(store: Store, tmp_path: Path) -> None:
    record = published(store)
    assert len(fetch_keys(store, record, tmp_path / "cache")) == 10
    assert everything_below(tmp_path / "cache") == [f"{folder_name(record)}.keys.npy"]
    store.delete(file.path for file in record.files)
    assert len(fetch_keys(store, record, tmp_path / "cache")) == 10


def test_keys_are_taken_from_a_fetched_segment(store: Store, tmp_path: Path) -> None:
    record = published(store)
    fetch_segment(store, record, tmp_path / "cache")
    store.delete(file.path for file in record.files)
    assert len(fetch_keys(store, record, tmp_path / "cache")) == 10


@pytest.mark.parametrize("name", ["vectors.npy", "rows.arrow", "keys.npy"])
def test_a_file_damaged_in_the_cache_is_named_when_opened(store: Store, tmp_path: Path, name: str) -> None:
    folder = fetch_segment(store, published(store), tmp_path / "cache")
    (folder / name).write_bytes(b"damaged")
    with pytest.raises(CorruptFile, match=name):
        read_segment(folder)


def test_the_golden_segment_of_version_1_still_opens(tmp_path: Path) -> None:
    record = SegmentRecord.model_validate_json((golden.FOLDER / "record.json").read_text())
    files = read_segment(fetch_segment(Store.at(str(golden.FOLDER)), record, tmp_path / "cache"))
    chunks, vectors = golden.golden_chunks(), golden.golden_vectors()
    assert files.chunks().select(chunks.column_names) == chunks
    assert np.array_equal(files.vectors, vectors)
    assert files.keys.lookup(files.key_hashes()[:1])[1].tolist() == [(0, 3, 3)]
    assert files.index is not None
    assert files.index.ntotal == record.n_embedded == 42
    index = compose([files.keywords], tmp_path / "composed", golden.golden_spec())
    found = index.searcher().search(index.parse_query("grebe", ["text_0", "text_1"]), 100).hits
    rows = set(index.searcher().fast_field_values("row", [address for _, address in found]))
    texts = chunks.select(["text.title", "text.body"]).to_pylist()
    expected = [at for at, text in enumerate(texts) if any("grebe" in (part or "") for part in text.values())]
    assert rows == {keyword_row(golden.NUMBER, at) for at in expected}

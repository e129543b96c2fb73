"""Whatever is done to a log, the verdict names the first record that it was done to."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.audit.chain import START, Checkpoint, Entry, canonical, digest, line_of, sealed
from api.audit.files import Place, file_name, journal_files, place_of
from api.audit.objects import object_path, to_parquet
from api.audit.verify import Problem, Verdict, verify
from api.audit.writer import Limits
from indexer.format.store import Store
from tests.api.audit.scene import TIME_MS, bodies, entries_in, signing_key, writer_in

SIGNED_OFTEN = Limits(checkpoint_seconds=1e-9, rotate_bytes=1 << 30, rotate_seconds=3600)
COMMITS = 4
RECORDS = 15
CHECKPOINTS = (8, 15)
"""The log of :func:`written`: genesis, three searches for each commit, and a checkpoint after every second."""

places = st.integers(0, RECORDS - 1)
cuts = st.sets(st.integers(1, RECORDS - 1), max_size=3)
anywhere = settings(max_examples=30, deadline=None, derandomize=True)


@cache
def written() -> tuple[str, tuple[Entry, ...]]:
    """A writer's name and its log, as it was written."""
    with tempfile.TemporaryDirectory() as folder:
        writer = writer_in(Path(folder), SIGNED_OFTEN)
        writer.open()
        for number in range(1, COMMITS + 1):
            writer.commit(bodies(3), last=number == COMMITS)
        writer.close()
        return place_of(journal_files(Path(folder))[0]).writer, tuple(entries_in(Path(folder)))


def verdict_of(entries: Sequence[Entry], cut: set[int] | None = None, known: Sequence[Checkpoint] = ()) -> Verdict:
    """Put ``entries`` into a store, as files that begin at the positions ``cut``, and verify it."""
    writer, _ = written()
    edges = [0, *sorted(one for one in cut or () if one < len(entries)), len(entries)]
    with tempfile.TemporaryDirectory() as folder:
        store = Store.at(folder)
        for begin, end in pairwise(edges):
            store.put(object_path(writer, begin + 1, end), to_parquet(entries[begin:end]))
        (verdict,) = verify(store, known=known)
    return verdict


def altered(entry: Entry) -> Entry:
    record = orjson.loads(entry.body)
    record["time"] += 1
    return entry._replace(body=canonical(record))


def with_another_hash(entry: Entry) -> Entry:
    return entry._replace(hash="0123456789abcdef" * 4)


def with_another_hash_before(entry: Entry) -> Entry:
    return entry._replace(prev="0123456789abcdef" * 4)


def rehashed(entry: Entry) -> Entry:
    return entry._replace(hash=digest(entry.prev, entry.seq, entry.body))


def next_checkpoint(seq: int) -> int:
    return min(one for one in CHECKPOINTS if one >= seq)


def test_the_log_of_these_tests_is_as_they_say() -> None:
    _, entries = written()

    phases = [orjson.loads(entry.body)["unmapped"]["phase"] for entry in entries]
    assert [entry.seq for entry in entries] == list(range(1, RECORDS + 1))
    assert tuple(seq for seq, phase in enumerate(phases, start=1) if phase == "checkpoint") == CHECKPOINTS


@anywhere
@given(cuts)
def test_a_log_that_nobody_touched_verifies(cut: set[int]) -> None:
    writer, entries = written()

    verdict = verdict_of(entries, cut)

    times = [orjson.loads(entry.body)["time"] for entry in entries]
    before_last = entries[-2]
    assert verdict == Verdict(
        writer=writer,
        host=socket.gethostname(),
        records=RECORDS,
        first_time_ms=times[0],
        last_time_ms=times[-1],
        checkpoint=Checkpoint(writer=writer, seq=before_last.seq, hash=before_last.hash, time_ms=times[-1]),
        unattested=0,
        public_key=signing_key().public,
        trusted=False,
        problem=None,
    )


@anywhere
@given(places, cuts, st.sampled_from([altered, with_another_hash, with_another_hash_before]))
def test_an_altered_record_is_named(place: int, cut: set[int], alter: Callable[[Entry], Entry]) -> None:
    entries = list(written()[1])
    entry = entries[place]
    entries[place] = alter(entry)

    problem = verdict_of(entries, cut).problem

    sentence = f"record {entry.seq} is not what its hash was made of"
    assert problem == Problem(entry.seq, "altered", sentence)


@anywhere
@given(places, cuts)
def test_a_record_that_was_altered_together_with_its_hash_is_named(place: int, cut: set[int]) -> None:
    entries = list(written()[1])
    entries[place] = rehashed(altered(entries[place]))
    seq = entries[place].seq

    problem = verdict_of(entries, cut).problem

    assert problem is not None
    assert (problem.seq, problem.kind) == (seq, "forged checkpoint" if seq in CHECKPOINTS else "altered")


@anywhere
@given(places, cuts)
def test_whoever_makes_all_later_hashes_anew_lacks_the_next_signature(place: int, cut: set[int]) -> None:
    entries = list(written()[1])
    head = entries[place - 1] if place else START
    later = [altered(entries[place]).body, *(entry.body for entry in entries[place + 1 :])]
    seq = next_checkpoint(place + 1)

    verdict = verdict_of([*entries[:place], *sealed(head, later)], cut)

    since = max([one + 1 for one in CHECKPOINTS if one < seq], default=1)
    assert verdict.problem == Problem(
        seq,
        "forged checkpoint",
        f"record {seq} does not attest the records {since} to {seq - 1}: it or one of them was made anew",
    )


@anywhere
@given(st.integers(0, RECORDS - 2), st.integers(1, 5), cuts)
def test_the_first_of_dropped_records_is_named(place: int, count: int, cut: set[int]) -> None:
    entries = list(written()[1])
    del entries[place : min(place + count, RECORDS - 1)]

    problem = verdict_of(entries, cut).problem

    found = entries[place].seq
    assert problem == Problem(
        place + 1, "dropped", f"record {place + 1} is missing: record {found} stands in its place"
    )


@anywhere
@given(st.sets(places, min_size=2, max_size=2), cuts)
def test_the_first_of_swapped_records_is_named(pair: set[int], cut: set[int]) -> None:
    entries = list(written()[1])
    first, second = sorted(pair)
    entries[first], entries[second] = entries[second], entries[first]

    problem = verdict_of(entries, cut).problem

    sentence = f"record {first + 1} comes later: record {second + 1} stands in its place"
    assert problem == Problem(first + 1, "reordered", sentence)


@anywhere
@given(places, places, cuts)
def test_a_repeated_record_is_named(place: int, later: int, cut: set[int]) -> None:
    entries = list(written()[1])
    at = max(place, later) + 1
    entries.insert(at, entries[place])

    problem = verdict_of(entries, cut).problem

    sentence = f"record {place + 1} stands once more, after record {at}"
    assert problem == Problem(place + 1, "reordered", sentence)


@anywhere
@given(st.integers(1, RECORDS - 1))
def test_an_end_that_is_cut_off_is_a_shorter_log_unless_a_checkpoint_of_it_is_known(kept: int) -> None:
    writer, entries = written()
    known = Checkpoint(writer=writer, seq=RECORDS - 1, hash=entries[-2].hash, time_ms=TIME_MS)

    shorter = verdict_of(entries[:kept])
    found_out = verdict_of(entries[:kept], known=[known])

    attested = max([one for one in CHECKPOINTS if one <= kept], default=0)
    assert (shorter.problem, shorter.records, shorter.unattested) == (None, kept, kept - attested)
    if kept < known.seq:
        sentence = f"record {kept + 1} is missing: the chain was known up to record {known.seq}"
        assert found_out.problem == Problem(kept + 1, "dropped", sentence)


def test_a_chain_that_is_gone_is_missed_if_a_checkpoint_of_it_is_known(tmp_path: Path) -> None:
    known = Checkpoint(writer="f" * 32, seq=9, hash="0" * 64, time_ms=TIME_MS)

    (verdict,) = verify(Store.at(str(tmp_path)), known=[known])

    assert (verdict.writer, verdict.records) == ("f" * 32, 0)
    assert verdict.problem == Problem(1, "dropped", "record 1 is missing: the chain was known up to record 9")


def test_a_chain_made_anew_with_a_stolen_key_is_another_than_the_known_one() -> None:
    writer, entries = written()
    known = Checkpoint(writer=writer, seq=5, hash="0" * 64, time_ms=TIME_MS)

    verdict = verdict_of(entries, known=[known])

    assert verdict.problem == Problem(5, "altered", "record 5 has another hash than a checkpoint that is known")


def test_a_chain_of_a_key_that_is_not_trusted_is_a_problem(tmp_path: Path) -> None:
    writer, entries = written()
    store = Store.at(str(tmp_path))
    store.put(object_path(writer, 1, RECORDS), to_parquet(entries))

    (good,) = verify(store, trusted=[signing_key(2).public, signing_key(1).public])
    (bad,) = verify(store, trusted=[signing_key(2).public])

    assert (good.problem, good.trusted) == (None, True)
    assert bad.problem == Problem(
        1, "unknown key", f"it is signed by a key that was not given; if it is a server's: _audit/keys/{writer}.pem"
    )


def test_a_chain_under_anothers_name_is_a_problem(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    store.put(object_path("e" * 32, 1, RECORDS), to_parquet(written()[1]))

    (verdict,) = verify(store)

    sentence = f"record 1 is not the beginning of the chain of {'e' * 32}"
    assert verdict.problem == Problem(1, "altered", sentence)


def test_a_column_that_says_something_else_than_its_record_is_named(tmp_path: Path) -> None:
    writer, entries = written()
    table = pq.read_table(pa.BufferReader(to_parquet(entries)))
    collections = ["hidden" if seq == 6 else name for seq, name in enumerate(table["collection"].to_pylist(), start=1)]
    place = table.schema.get_field_index("collection")
    file = pa.BufferOutputStream()
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(collections, pa.string())), file)
    store = Store.at(str(tmp_path))
    store.put(object_path(writer, 1, RECORDS), file.getvalue().to_pybytes())

    (verdict,) = verify(store)

    sentence = "the columns beside record 6 say something else than the record"
    assert verdict.problem == Problem(6, "altered", sentence)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"nonsense" * 100])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    writer, entries = written()
    store = Store.at(str(tmp_path))
    store.put(object_path(writer, 1, 4), to_parquet(entries[:4]))
    store.put(object_path(writer, 5, RECORDS), content)

    problem = verify(store)[0].problem

    assert problem is not None
    assert (problem.seq, problem.kind) == (5, "unreadable file")
    assert problem.sentence.startswith(f"{object_path(writer, 5, RECORDS)}: not a Parquet file of the audit log: ")


def test_a_parquet_file_of_something_else_is_named(tmp_path: Path) -> None:
    writer, _ = written()
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"seq": [1]}), file)
    store = Store.at(str(tmp_path))
    store.put(object_path(writer, 1, 1), file.getvalue().to_pybytes())

    problem = verify(store)[0].problem

    sentence = f"{object_path(writer, 1, 1)}: not a Parquet file of the audit log: its columns are others"
    assert problem == Problem(1, "unreadable file", sentence)


def folder_with(tmp_path: Path, entries: Sequence[Entry]) -> Path:
    """A journal folder with ``entries`` in one file."""
    folder = tmp_path / "journal"
    folder.mkdir()
    (folder / file_name(Place(written()[0], entries[0].seq))).write_bytes(b"".join(map(line_of, entries)))
    return folder


@anywhere
@given(st.integers(0, RECORDS), st.integers(0, RECORDS - 1))
def test_the_folder_goes_on_where_the_store_ends_and_may_repeat_it(stored: int, begin: int) -> None:
    writer, entries = written()
    with tempfile.TemporaryDirectory() as root:
        store = Store.at(f"{root}/store")
        if stored:
            store.put(object_path(writer, 1, stored), to_parquet(entries[:stored]))

        (verdict,) = verify(store, folder_with(Path(root), entries[begin:]))

    if begin <= stored:
        assert (verdict.problem, verdict.records) == (None, RECORDS)
    else:
        sentence = f"record {stored + 1} is missing: record {begin + 1} stands in its place"
        assert verdict.problem == Problem(stored + 1, "dropped", sentence)


def test_a_record_that_is_another_in_the_folder_than_in_the_store_is_named(tmp_path: Path) -> None:
    writer, entries = written()
    store = Store.at(str(tmp_path / "store"))
    store.put(object_path(writer, 1, 8), to_parquet(entries[:8]))
    local = list(entries)
    local[5] = rehashed(altered(local[5]))

    (verdict,) = verify(store, folder_with(tmp_path, local))

    assert verdict.problem == Problem(6, "altered", "record 6 in the folder is another than in the store")


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, written()[1])
    (path,) = journal_files(folder)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"\n", *lines[4:]]))

    (verdict,) = verify(Store.at(str(tmp_path / "store")), folder)

    sentence = f"{path}, line 4: the line is not a link of the chain"
    assert verdict.problem == Problem(4, "unreadable file", sentence)


def test_a_line_that_is_being_written_is_not_counted(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, written()[1])
    (path,) = journal_files(folder)
    path.write_bytes(path.read_bytes()[:-1])

    (verdict,) = verify(Store.at(str(tmp_path / "store")), folder)

    assert (verdict.problem, verdict.records) == (None, RECORDS - 1)


@pytest.mark.parametrize("body", [b"{}", b"{nonsense}", b'{"time":"now","unmapped":{"phase":1}}', b'{"unmapped":7}'])
def test_a_last_record_that_is_no_event_is_named_though_its_hash_is_right(tmp_path: Path, body: bytes) -> None:
    entries = list(written()[1][:5])
    folder = folder_with(tmp_path, [*entries, *sealed(entries[-1], [body])])

    (verdict,) = verify(Store.at(str(tmp_path / "store")), folder)

    assert verdict.problem is not None
    assert (verdict.problem.seq, verdict.problem.kind) == (6, "altered")

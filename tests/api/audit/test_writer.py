"""A writer's files: what they hold, when they end, and how a chain goes on after a crash or a failure."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from api.audit.chain import line_of, sealed
from api.audit.files import journal_files, place_of
from api.audit.writer import Limits
from api.errors import AuditBusy, AuditUnreadable
from tests.api.audit.scene import (
    FailingDisk,
    bodies,
    entries_in,
    facts_in,
    phases_in,
    require_sound,
    signing_key,
    writer_in,
)


def test_a_chain_begins_with_its_writer_and_key_and_ends_signed(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.open()

    first = writer.commit(bodies(2))
    writer.commit([], last=True)
    writer.close()

    (path,) = journal_files(tmp_path)
    genesis = {
        "phase": "genesis",
        "writer": place_of(path).writer,
        "host": socket.gethostname(),
        "public_key": signing_key().public,
    }
    assert first == 2
    assert phases_in(tmp_path) == ["genesis", "intent", "intent", "checkpoint"]
    assert facts_in(tmp_path)[0] == genesis
    require_sound(tmp_path)


def test_a_second_writer_in_a_folder_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    first, second = writer_in(tmp_path), writer_in(tmp_path)
    first.open()

    with pytest.raises(AuditBusy, match=r"another process writes its audit log here; give each server an"):
        second.open()

    first.close()
    second.open()
    second.close()


def test_a_chain_goes_on_where_it_ended(tmp_path: Path) -> None:
    for _ in range(2):
        writer = writer_in(tmp_path)
        writer.open()
        writer.commit(bodies(1))
        writer.commit([], last=True)
        writer.close()

    assert phases_in(tmp_path) == ["genesis", "intent", "checkpoint", "intent", "checkpoint"]
    assert [place_of(path).first for path in journal_files(tmp_path)] == [1, 4]
    require_sound(tmp_path)


def test_the_first_file_of_a_chain_is_complete_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.audit.writer.FIRST_SECONDS", 0.0)
    complete: list[Path] = []
    writer = writer_in(tmp_path, completed=complete.append)
    writer.open()
    for _ in range(4):
        writer.commit(bodies(1))

    assert [place_of(path).first for path in complete] == [1]
    assert writer.due_at is not None
    writer.close()


def test_another_key_begins_another_chain(tmp_path: Path) -> None:
    for key in (signing_key(1), signing_key(2)):
        writer = writer_in(tmp_path, key=key)
        writer.open()
        writer.commit(bodies(1), last=True)
        writer.close()

    writers = [place_of(path).writer for path in journal_files(tmp_path)]
    # In either order: both may have begun within a millisecond.
    assert sorted(writer[-8:] for writer in writers) == sorted(signing_key(n).fingerprint for n in (1, 2))
    require_sound(tmp_path)


@pytest.mark.parametrize("cut_bytes", [1, 100])
def test_a_line_that_was_cut_short_is_cut_off_and_said(tmp_path: Path, cut_bytes: int) -> None:
    writer = writer_in(tmp_path)
    writer.open()
    writer.commit(bodies(2))
    writer.close()
    (path,) = journal_files(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:-cut_bytes])

    again = writer_in(tmp_path)
    again.open()
    again.commit(bodies(1), last=True)
    again.close()

    assert phases_in(tmp_path) == ["genesis", "intent", "recovered", "intent", "checkpoint"]
    assert facts_in(tmp_path)[2] == {"phase": "recovered", "cut_bytes": len(lines[2]) - cut_bytes}
    require_sound(tmp_path)


@pytest.mark.parametrize("left", [b"", b'{"seq":1,"pre', bytes(100_000)])
def test_a_first_line_that_was_cut_short_is_as_if_nothing_was_written(tmp_path: Path, left: bytes) -> None:
    (tmp_path / f"{'0' * 32}-{1:020d}.jsonl").write_bytes(left)

    writer = writer_in(tmp_path)
    writer.open()
    writer.commit([], last=True)
    writer.close()

    (path,) = journal_files(tmp_path)
    assert place_of(path).writer != "0" * 32
    assert phases_in(tmp_path)[0] == "genesis"
    require_sound(tmp_path)


def test_a_file_that_is_none_is_named_and_the_folder_let_go(tmp_path: Path) -> None:
    path = tmp_path / f"{'0' * 24}{signing_key().fingerprint}-{1:020d}.jsonl"
    path.write_bytes(b"nothing of ours\n")

    for _ in range(2):
        with pytest.raises(
            AuditUnreadable, match=r"\.jsonl, line 1: the line is not a link of the chain; keep the folder"
        ):
            writer_in(tmp_path).open()


def test_what_is_unsigned_is_signed_in_time(tmp_path: Path) -> None:
    writer = writer_in(tmp_path, Limits(checkpoint_seconds=0.05, rotate_bytes=1 << 30, rotate_seconds=3600))
    writer.open()
    writer.commit(bodies(1))

    due_at = writer.due_at
    assert due_at is not None
    time.sleep(max(0.0, due_at - time.monotonic()))
    writer.commit([])

    assert phases_in(tmp_path) == ["genesis", "intent", "checkpoint"]
    assert (due_at - time.monotonic()) < 0.05
    assert writer.due_at is not None  # the file's own age
    writer.close()
    require_sound(tmp_path)


def test_a_file_that_is_large_or_old_enough_ends_with_a_checkpoint_and_is_handed_on(tmp_path: Path) -> None:
    handed: list[Path] = []
    limits = Limits(checkpoint_seconds=60, rotate_bytes=3000, rotate_seconds=0.05)
    writer = writer_in(tmp_path, limits, completed=handed.append)
    writer.open()

    writer.commit(bodies(5))
    large = list(handed)
    writer.commit(bodies(1))
    time.sleep(0.06)
    writer.commit([])

    assert (large, handed) == (journal_files(tmp_path)[:1], journal_files(tmp_path))
    assert phases_in(tmp_path) == ["genesis", *["intent"] * 5, "checkpoint", "intent", "checkpoint"]
    assert writer.due_at is None
    writer.close()
    require_sound(tmp_path)


def test_a_file_that_could_not_be_handed_on_comes_again(tmp_path: Path) -> None:
    handed: list[Path] = []

    def once_away(path: Path) -> None:
        handed.append(path)
        if len(handed) == 1:
            raise OSError("away")

    writer = writer_in(tmp_path, Limits(checkpoint_seconds=60, rotate_bytes=1, rotate_seconds=60), completed=once_away)
    writer.open()

    with pytest.raises(OSError, match="away"):
        writer.commit(bodies(1))
    writer.commit([])

    assert handed == journal_files(tmp_path) * 2
    writer.close()


@pytest.mark.parametrize("written_ratio", [0, 0.5, 1])
def test_after_a_failed_write_the_chain_goes_on_from_what_is_durable_in_a_new_file(
    tmp_path: Path, written_ratio: float
) -> None:
    disk = FailingDisk(written_ratio)
    writer = writer_in(tmp_path, disk=disk)
    writer.open()
    writer.commit(bodies(1))

    disk.failing = True
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            writer.commit(bodies(3))
    disk.failing = False
    writer.commit(bodies(1), last=True)
    writer.close()

    assert phases_in(tmp_path) == ["genesis", "intent", "recovered", "intent", "checkpoint"]
    assert (facts_in(tmp_path)[2]["cut_bytes"] > 0) == (written_ratio > 0)
    assert len(journal_files(tmp_path)) == 2
    require_sound(tmp_path)


def test_a_disk_that_fails_from_the_first_does_not_begin_a_chain_twice(tmp_path: Path) -> None:
    disk = FailingDisk()
    disk.failing = True
    writer = writer_in(tmp_path, disk=disk)
    writer.open()
    with pytest.raises(OSError, match="Input/output error"):
        writer.commit(bodies(1))

    disk.failing = False
    writer.commit(bodies(1), last=True)
    writer.close()

    assert phases_in(tmp_path) == ["genesis", "recovered", "intent", "checkpoint"]
    require_sound(tmp_path)


def test_a_whole_line_that_nobody_was_told_of_stays(tmp_path: Path) -> None:
    writer = writer_in(tmp_path)
    writer.open()
    writer.commit(bodies(1))
    writer.close()
    (path,) = journal_files(tmp_path)
    (untold,) = sealed(entries_in(tmp_path)[-1], bodies(1))
    path.write_bytes(path.read_bytes() + line_of(untold))

    again = writer_in(tmp_path)
    again.open()
    again.commit([], last=True)
    again.close()

    assert phases_in(tmp_path) == ["genesis", "intent", "intent", "checkpoint"]
    require_sound(tmp_path)

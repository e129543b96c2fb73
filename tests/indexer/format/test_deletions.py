from __future__ import annotations

import itertools

import numpy as np
import pytest

from indexer.errors import CorruptFile
from indexer.format.deletions import DELETION, appended, decode, encode, find
from indexer.format.states import DeletionLog
from indexer.format.store import Store


def deletions(*keys: int, source: int = 1, catalog: int = 1) -> np.ndarray:
    made = np.zeros(len(keys), dtype=DELETION)
    made["hash"] = np.array(keys, dtype=np.uint8)[:, None]
    made["source"], made["catalog"] = source, catalog
    return made


def key(number: int) -> bytes:
    return bytes([number]) * 16


def test_a_log_is_read_back_as_it_was_written() -> None:
    made = deletions(3, 1, 2)

    assert np.array_equal(decode(encode(made)), made)


@pytest.mark.parametrize("data", [b"", b"not an array", encode(deletions(1))[:-1]])
def test_what_is_no_log_is_said(data: bytes) -> None:
    with pytest.raises(CorruptFile, match=r"a deletion log of .* cannot be read"):
        decode(data)


def test_an_array_of_something_else_is_no_log() -> None:
    with pytest.raises(CorruptFile, match="expected a deletion log, found an array of float64"):
        decode(encode(np.zeros(2)))


def test_each_deletion_of_a_key_is_found_over_all_logs(store: Store) -> None:
    logs = appended((), deletions(1, 2, source=5, catalog=3), epoch="a", store=store)
    logs = appended(logs, deletions(1, source=2, catalog=9), epoch="b", store=store)

    assert find(logs, key(1), store) == [("a", 5, 3), ("b", 2, 9)]
    assert find(logs, key(2), store) == [("a", 5, 3)]
    assert find(logs, key(7), store) == []


def test_two_hundred_commits_leave_few_logs_and_write_little(store: Store) -> None:
    logs: tuple[DeletionLog, ...] = ()
    for number in range(200):
        logs = appended(logs, deletions(number % 250, catalog=number), epoch="a", store=store)

    assert sum(log.count for log in logs) == 200
    assert all(later.count * 2 <= log.count for log, later in itertools.pairwise(logs))
    assert len(logs) <= 8


def test_nothing_deleted_writes_nothing(store: Store) -> None:
    assert appended((), deletions(), epoch="a", store=store) == ()
    assert store.list() == []

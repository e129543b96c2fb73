from __future__ import annotations

import base64
import hashlib
import os
import pickle
import re
import resource
import signal
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from obstore.exceptions import GenericError

from indexer.errors import CorruptFile, ObjectNotFound, StoreError
from indexer.format.records import FileRecord
from indexer.format.store import BLOCK_BYTES, Store, _translated
from tests import azure

DATA = os.urandom(1000)


def record(path: str, data: bytes) -> FileRecord:
    return FileRecord(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@contextmanager
def file_size_limit(size_bytes: int) -> Iterator[None]:
    """Let the system refuse larger files, which reaches the program as a full disk does: a write that fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/a/b", "/a/b"),
        ("file:///a/b%20c", "/a/b c"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket", "s3://bucket"),
        ("abfss://container@account.dfs.core.windows.net/a/", "abfss://container@account.dfs.core.windows.net/a"),
        ("az://container/a/b", "az://container/a/b"),
        ("GS://bucket/a/b/", "gs://bucket/a/b"),
        ("a/b", str(Path.cwd() / "a/b")),
    ],
)
def test_an_address_names_a_directory_or_a_bucket(given: str, expected: str) -> None:
    assert Store.at(given).url == expected


@pytest.mark.parametrize(
    "address",
    ["ftp://host/a", "http://host/a", "s3://", "", "gs://", "az://", "abfss://container/a", "abfss://@account/a"],
)
def test_another_kind_of_address_is_refused(address: str) -> None:
    with pytest.raises(StoreError, match="is no store: give a directory, s3://bucket/prefix, abfss://container@acc"):
        Store.at(address)


def test_what_is_put_is_got(store: Store) -> None:
    store.put("a/one", b"1")
    store.put("a/one", b"11")

    assert (store.get("a/one"), store.exists("a/one"), store.exists("a"), store.exists("a/two")) == (
        b"11",
        True,
        False,
        False,
    )


def test_of_many_who_put_a_new_object_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.put_new("a/one", str(number).encode()), range(8)))

    assert (sum(won), store.get("a/one")) == (1, str(won.index(True)).encode())
    assert not store.put_new("a/one", b"late")


def test_a_store_that_nothing_was_written_to_is_empty(store: Store) -> None:
    assert (store.list(), store.list("a"), store.folders(), store.exists("a")) == ([], [], [], False)


def test_a_listing_is_sorted_and_of_one_folder(store: Store) -> None:
    for path in ("b/2", "b/1", "b/c/3", "bb/4", "5"):
        store.put(path, b"")

    assert (store.list("b"), store.list(), store.folders()) == (
        ["b/1", "b/2", "b/c/3"],
        ["5", "b/1", "b/2", "b/c/3", "bb/4"],
        ["b", "bb"],
    )


def test_a_listing_tells_the_size_and_the_time_of_each_object(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # a bucket tells whole seconds
    store.put("a", b"123")

    (entry,) = store.entries()

    assert (entry.path, entry.size_bytes) == ("a", 3)
    assert before <= entry.modified_at <= datetime.now(UTC)


def test_what_killed_writers_left_is_listed_apart(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    store.put("a/b/1", b"1")
    (tmp_path / "a" / "b" / "2.abc.part").write_bytes(b"half")

    assert store.list("a") == ["a/b/1"]
    assert [(entry.path, entry.size_bytes) for entry in store.leftovers("a")] == [("a/b/2.abc.part", 4)]
    assert list(store.leftovers("c")) == []


def test_a_bucket_shows_nothing_of_broken_uploads(s3_store: Store) -> None:
    s3_store.put("a/1", b"1")

    assert list(s3_store.leftovers()) == []


def test_only_empty_folders_are_pruned(store: Store) -> None:
    for path in ("a/b/1", "a/c/2", "d/3"):
        store.put(path, b"")
    store.delete(["a/b/1"])

    for folder in ("a", "d", "nothing"):
        store.prune(folder)

    assert (store.list(), store.child("a").folders()) == (["a/c/2", "d/3"], ["c"])


def test_a_child_sees_its_own_folder_alone(store: Store) -> None:
    store.put("a/b/1", b"1")

    assert (store.child("a").list(), store.child("a").child("b").get("1")) == (["b/1"], b"1")


def test_a_missing_object_is_named(store: Store) -> None:
    with pytest.raises(ObjectNotFound, match=re.escape(f"{store.url}/a/b does not exist")):
        store.get("a/b")


def test_deleting_is_repeatable(store: Store) -> None:
    store.put("a", b"")
    store.put("b", b"")

    store.delete(["a"])
    store.delete(["a"])
    store.delete([])

    assert store.list() == ["b"]


def test_what_is_gone_keeps_nothing_else_from_being_deleted(store: Store) -> None:
    for path in ("a", "b/1", "c"):
        store.put(path, b"")

    store.delete(["none", "a", "b/none", "b/1"])

    assert store.list() == ["c"]


def test_clearing_leaves_the_neighbours(store: Store) -> None:
    store.put("a/1", b"")
    store.put("ab/1", b"")

    store.child("a").clear()
    store.child("a").clear()

    assert (store.list(), store.folders()) == (["ab/1"], ["ab"])


def test_a_store_travels_by_its_address(store: Store) -> None:
    store.put("a", DATA)

    travelled = pickle.loads(pickle.dumps(store))

    assert (travelled, travelled.get("a")) == (store, DATA)


@pytest.mark.parametrize("path", ["", "/a", "a/", "../a", "a/../b", "a//b", "."])
def test_a_path_that_leaves_the_store_is_refused(store: Store, path: str) -> None:
    with pytest.raises(StoreError, match="is no path in a store"):
        store.put(path, b"")


@pytest.mark.parametrize("size_bytes", [0, 1000, BLOCK_BYTES + 1])
def test_a_file_comes_back_as_it_went(store: Store, tmp_path: Path, size_bytes: int) -> None:
    data = os.urandom(size_bytes)
    (tmp_path / "original").write_bytes(data)

    put = store.put_file("s/file", tmp_path / "original")
    store.fetch(put, tmp_path / "cache" / "file")

    assert (put, (tmp_path / "cache" / "file").read_bytes()) == (record("s/file", data), data)
    assert os.listdir(tmp_path / "cache") == ["file"]


def test_a_file_that_is_not_there_to_be_put_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match=re.escape(f"{tmp_path / 'none'} does not exist")):
        store.put_file("a", tmp_path / "none")


@pytest.mark.parametrize("found", [DATA[:-1], DATA + b"x", bytes([DATA[0] ^ 1]) + DATA[1:], b""])
def test_an_altered_file_is_named_by_its_checksum_and_not_kept(store: Store, tmp_path: Path, found: bytes) -> None:
    expected = record("s/file", DATA)
    store.put("s/file", found)
    message = (
        f"{re.escape(store.url)}/s/file is not what was written: expected 1000 bytes with SHA-256 {expected.sha256}, "
        f"found {len(found)} bytes with SHA-256 {hashlib.sha256(found).hexdigest()}"
    )

    with pytest.raises(CorruptFile, match=message):
        store.fetch(expected, tmp_path / "cache" / "file")
    with pytest.raises(CorruptFile, match=message):
        store.read(expected)

    assert os.listdir(tmp_path / "cache") == []


def test_a_missing_file_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound, match="s/file does not exist"):
        store.fetch(record("s/file", DATA), tmp_path / "cache" / "file")

    assert os.listdir(tmp_path / "cache") == []


def test_many_fetch_the_same_file_at_once(store: Store, tmp_path: Path) -> None:
    store.put("s/file", DATA)
    threads = [
        threading.Thread(target=store.fetch, args=(record("s/file", DATA), tmp_path / "cache" / "file"))
        for _ in range(8)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert os.listdir(tmp_path / "cache") == ["file"]
    assert (tmp_path / "cache" / "file").read_bytes() == DATA


def test_a_full_disk_while_fetching_is_said_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    store.put("s/file", DATA)

    with file_size_limit(100), pytest.raises(StoreError, match=r"could not be brought to .*: File too large; nothing"):
        store.fetch(record("s/file", DATA), tmp_path / "cache" / "file")

    assert os.listdir(tmp_path / "cache") == []


def test_a_full_disk_while_writing_keeps_the_old_object(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path / "store"))
    store.put("a", b"old")

    with file_size_limit(100), pytest.raises(StoreError, match="/a could not be written: File too large; nothing"):
        store.put("a", DATA)

    assert (store.get("a"), os.listdir(tmp_path / "store")) == (b"old", ["a"])


def test_a_write_that_was_cut_short_is_not_listed(tmp_path: Path) -> None:
    store = Store.at(str(tmp_path))
    (tmp_path / "a.0123.part").write_bytes(b"half")

    assert store.list() == []


@pytest.mark.parametrize(("scheme", "server"), [("s3", "s3"), ("az", "azure"), ("gs", "google")])
def test_a_bucket_that_does_not_exist_is_an_error(request: pytest.FixtureRequest, scheme: str, server: str) -> None:
    request.getfixturevalue(f"{server}_endpoint")
    missing = Store.at(f"{scheme}://no-such-bucket")

    with pytest.raises(StoreError, match=f"{scheme}://no-such-bucket/a could not be written: there is no such bucket"):
        missing.put("a", b"")
    with pytest.raises(StoreError, match=f"{scheme}://no-such-bucket could not be listed: there is no such bucket"):
        missing.list()
    if scheme == "s3":  # the others say the same of an object that is gone
        with pytest.raises(StoreError, match="there is no such bucket"):
            missing.delete(["a", "b"])


def test_a_container_is_the_same_by_either_of_its_names(azure_store: Store) -> None:
    azure_store.put("a", DATA)
    container, prefix = azure_store.url.removeprefix("az://").split("/")

    named = Store.at(f"abfss://{container}@{azure.ACCOUNT}.dfs.core.windows.net/{prefix}")

    assert (named.get("a"), named.list()) == (DATA, ["a"])


def test_who_may_not_is_told_so_and_no_secret(azure_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = base64.b64encode(b"no key of the emulator's").decode()
    monkeypatch.delenv("AZURE_STORAGE_USE_EMULATOR")
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{azure_endpoint}/{azure.ACCOUNT}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", azure.ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", secret)
    refused = Store.at("az://grebe")

    for asked in (lambda: refused.put("a", b""), lambda: refused.list(), lambda: refused.delete(["a"])):
        with pytest.raises(
            StoreError, match=r"access was denied\. Check the AZURE_\* credentials and the role"
        ) as denied:
            asked()
        assert secret not in "".join(traceback.format_exception(denied.value))
    assert secret not in repr(refused)


@pytest.mark.parametrize(
    ("address", "missing"),
    [
        ("az://container/a", "Account must be specified.*AZURE_STORAGE_ACCOUNT_NAME, unless the address names it"),
        ("abfss://container@account.example.com/a", "AZURE_STORAGE_ACCOUNT_NAME, unless the address names it"),
        ("gs://bucket/a", "Unable to open service account file.*GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE"),
    ],
)
def test_what_the_environment_lacks_is_named(address: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", "/nowhere.json")

    with pytest.raises(StoreError, match=f"{re.escape(address)} cannot be reached as it is set up: .*{missing}"):
        Store.at(address).get("b")


def test_a_directory_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StoreError, match="could not be written: File exists"):
        Store.at(str(tmp_path / "file")).put("a", b"")


@pytest.mark.parametrize(
    ("address", "asked", "told"),
    [
        ("s3://b", "PUT http://169.254.169.254/latest/api/token", "no AWS credentials were found. Set AWS_ACCESS"),
        (
            "az://b",
            "GET http://169.254.169.254/metadata/identity/oauth2/token",
            "no Azure credentials were found. Set AZ",
        ),
        (
            "gs://b",
            "GET http://metadata.google.internal/computeMetadata/v1",
            "no Google credentials were found. Set GO",
        ),
    ],
)
def test_a_bucket_without_credentials_is_told_so(address: str, asked: str, told: str) -> None:
    with (
        pytest.raises(StoreError, match=re.escape(f"{address} could not be listed: {told}")),
        _translated(address, "listed"),
    ):
        raise GenericError(f"Error performing {asked}: 403 Forbidden")

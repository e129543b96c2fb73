"""``grebe sync`` of several collections: the summary, the sentences and the exit code."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pyspark.sql import SparkSession

from jobs.commands.sync import _stop_on_signals
from tests.jobs.command import Grebe, grebe_on


@pytest.fixture
def grebe(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grebe:
    monkeypatch.setenv("GREBE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("GREBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GREBE_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    return grebe_on(capfd)


def declare(grebe: Grebe, folder: Path, name: str, rows: int) -> None:
    """Apply a collection over a table of so many rows; with none there is no table."""
    if rows:
        table = pa.table({"id": range(rows), "body": [f"row {number}" for number in range(rows)]})
        write_deltalake(str(folder / name), table, configuration={"delta.enableChangeDataFeed": "true"})
    spec = folder / f"{name}.yaml"
    spec.write_text(
        f"name: {name}\nsource: {{table: {folder / name}}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\n"
        "vector: {model: 'hash:8'}"
    )
    assert grebe("apply", "-f", spec).code == 0


def test_all_collections_in_one_job_and_the_summary_says_which_failed(
    grebe: Grebe, tmp_path: Path, spark: SparkSession
) -> None:
    for name, rows in (("birds", 3), ("lost", 0), ("trees", 2)):
        declare(grebe, tmp_path, name, rows)

    said = grebe("sync", "--all", "-o", "json")

    assert said.code == 1
    assert said.json["failed"] == ["lost"]
    found = [(one["collection"], one["outcome"], one["upserted"]) for one in said.json["collections"]]
    assert found == [("birds", "synced", 3), ("lost", "failed", None), ("trees", "synced", 2)]
    begun = [f"Loading {name} from {tmp_path / name} ..." for name in ("birds", "lost", "trees")]
    assert [line for line in said.err.splitlines() if line.startswith("Loading")] == begun
    assert "trees: embedding: 0 of 2 chunks" in said.err.splitlines()
    (line,) = [line for line in said.err.splitlines() if line.startswith("error")]
    assert line == f"error: lost: {said.json['collections'][1]['error']}"
    assert str(tmp_path / "lost") in line

    said = grebe("sync", "birds", "trees")

    assert (said.code, said.err) == (0, "")
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["collection", "outcome"],
        ["birds", "synced"],
        ["trees", "synced"],
    ]


def test_a_collection_that_waits_for_a_person_is_held_and_one_that_cannot_be_followed_is_not_loaded(
    grebe: Grebe, tmp_path: Path, spark: SparkSession
) -> None:
    declare(grebe, tmp_path, "birds", 3)
    declare(grebe, tmp_path, "mute", 0)
    write_deltalake(str(tmp_path / "mute"), pa.table({"id": [1], "body": ["row 1"]}))
    assert grebe("sync", "birds").code == 0
    loaded = grebe("status", "birds", "-o", "json").json["version"]
    write_deltalake(str(tmp_path / "birds"), pa.table({"id": [9], "body": ["row 9"]}), mode="append")
    assert grebe("sync", "birds").code == 0
    assert grebe("rollback", "birds", loaded, "--yes").code == 0

    said = grebe("sync", "birds", "mute", "-o", "json")

    assert said.code == 1
    assert [one["outcome"] for one in said.json["collections"]] == ["held", "failed"]
    assert "keeps no change feed; turn it on with: ALTER TABLE" in said.json["collections"][1]["error"]
    assert grebe("status", "mute", "-o", "json").json["version"] == 0


def test_a_single_collection_that_fails_is_an_object_too(grebe: Grebe) -> None:
    said = grebe("sync", "nobody", "-o", "json")

    assert (said.code, said.json["collection"], said.json["outcome"]) == (1, "nobody", "failed")
    assert said.err.strip() == f"error: {said.json['error']}"


def test_a_schedule_may_begin_before_there_is_a_collection(grebe: Grebe) -> None:
    said = grebe("sync", "--all")

    assert (said.code, said.out) == (0, "")
    assert "has no collection: make one with grebe apply" in said.err
    assert "error" not in said.err

    said = grebe("sync", "--all", "-o", "json")

    assert (said.code, said.json) == (0, {"collections": [], "failed": []})


def test_a_store_without_collections_is_an_error_where_they_are_to_be_followed(grebe: Grebe) -> None:
    said = grebe("sync", "--all", "--continuous")

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: ")
    assert "has no collection: make one with grebe apply" in said.err


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--all", "birds"),
        ("--all", "--compare"),
        ("birds", "trees", "--approve", "3"),
        ("birds", "trees", "--release"),
        ("birds", "--on-busy", "kill"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_exit_code_2(grebe: Grebe, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    declare(grebe, tmp_path, "birds", 0)
    said = grebe("sync", *arguments)
    assert (said.code, said.out) == (2, "")


def test_a_continuous_sync_off_the_main_thread_leaves_signals_to_its_caller() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(_stop_on_signals).result()
    assert (stopping.is_set(), signal.getsignal(signal.SIGTERM)) == (False, before)

from __future__ import annotations

import re
from pathlib import Path

import pytest

from indexer.apply import apply
from indexer.author import author
from indexer.catalog import Catalog
from indexer.format.store import Store
from indexer.spec import PolicySpec
from tests.indexer.erasing import erase, holding
from tests.indexer.parts import TEXTS, delete, publish, upsert
from tests.jobs.command import Grebe, grebe_on

CANARY = "Xq7vT2mKp9ZsLw4RbN8cJd6HyGf3AeUo"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """Rows 1 to 4; row 1 deleted at the source's version 3."""
    catalog = Catalog.create(Store.at(str(tmp_path / "store")), TEXTS)
    cache = tmp_path / "cache"
    publish(catalog, cache, 1, upsert(1, body=CANARY, title=CANARY), upsert(2))
    publish(catalog, cache, 2, upsert(3, 2), upsert(4, 2))
    erase(catalog, cache, 3, 1)
    return catalog


@pytest.fixture
def grebe(
    catalog: Catalog, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Grebe:
    monkeypatch.setenv("GREBE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("GREBE_CACHE", str(tmp_path / "commands"))
    monkeypatch.delenv("GREBE_DEBUG", raising=False)

    return grebe_on(capfd)


def test_history_lists_the_kept_versions_newest_first(grebe: Grebe, catalog: Catalog) -> None:
    newest = catalog.read()

    found = grebe("history", "texts", "--output", "json").json

    versions = [each["version"] for each in found["versions"]]
    assert (found["collection"], versions) == ("texts", list(range(newest.version, -1, -1)))
    assert found["versions"][-2] == {
        "version": 1,
        "when": catalog.read(1).committed_at.isoformat().replace("+00:00", "Z"),
        "operation": "sync",
        "epoch": "e",
        "source": 1,
        "read": 2,
        "upserted": 2,
        "deleted": 0,
        "unchanged": 0,
        "set_aside": 0,
        "segments": 1,
        "chunks": catalog.read(1).n_chunks,
        "held": None,
        "by": author(),
        "changed": {},
    }
    table = grebe("history", "texts", "--limit", 2).out.splitlines()
    assert table[0].split() == [
        *("version", "when", "operation", "source", "read", "upserted", "deleted", "unchanged"),
        *("set", "aside", "segments", "chunks", "by", "changed"),
    ]
    assert [int(line.split()[0]) for line in table[1:]] == versions[:2]


def test_history_shows_what_became_of_the_spec(grebe: Grebe, catalog: Catalog, tmp_path: Path) -> None:
    store, newest = Store.at(str(tmp_path / "store")), catalog.latest()
    for least in (5, 9):
        policy = PolicySpec(role="reader", rows=f"id < {least}")
        apply(store, catalog.read().spec.model_copy(update={"policies": (policy,)}))

    shown = grebe("history", "texts", "--limit", 2, "--changes").out

    assert shown.partition("\n\n")[2].splitlines() == [
        f"version {newest + 2}, by {author()}:",
        " policies:",
        " - role: reader",
        "-  rows: id < 5",
        "+  rows: id < 9",
        "   dialect: databricks",
        "   masks: {}",
        "",
        f"version {newest + 1}, by {author()}:",
        "-policies: []",
        "+policies:",
        "+- role: reader",
        "+  rows: id < 5",
        "+  dialect: databricks",
        "+  masks: {}",
    ]


def test_an_erasure_from_the_deletion_to_the_receipt(grebe: Grebe, catalog: Catalog, tmp_path: Path) -> None:
    before = grebe("receipt", "texts", 1, "-o", "json").json
    compacted = grebe("compact", "texts", "--purge", "-o", "json").json
    dry = grebe("vacuum", "texts", "--retain", 0, "--dry-run", "-o", "json").json
    held = holding(catalog.store, CANARY)
    wet = grebe("vacuum", "texts", "--retain", 0, "--yes", "-o", "json").json
    after = grebe("receipt", "texts", 1, "-o", "json").json

    assert (before["verdict"], before["erased"], len(before["holders"])) == ("deleted", False, 1)
    assert (compacted["merges"], compacted["tombstoned_before"] > 0, compacted["tombstoned"]) == (1, True, 0)
    assert (len(held), dry["dry_run"], wet["dry_run"], dry["removed"]) == (1, True, False, wet["removed"])
    assert wet["removed"]["segments"]["files"] == 2
    assert wet["total"]["files"] == sum(kind["files"] for kind in wet["removed"].values())
    assert holding(catalog.store, CANARY) == []
    assert (after["verdict"], after["erased"], after["holders"]) == ("deleted", True, [])
    assert (after["deletions"], after["key_hash"]) == (before["deletions"], before["key_hash"])


@pytest.mark.parametrize("whose", ["texts", "--all"])
def test_a_purge_says_whether_anything_was_there_to_be_purged(grebe: Grebe, catalog: Catalog, whose: str) -> None:
    first, second = grebe("compact", whose, "--purge"), grebe("compact", whose, "--purge")

    then = f"Next: grebe vacuum {whose} --retain 0 --dry-run"
    assert f"Older versions still hold what was purged. {then}" in " ".join(first.err.split())
    assert f"Nothing was there to be purged, but older versions may hold what was before. {then}" in " ".join(
        second.err.split()
    )


def test_a_receipt_is_a_sentence_and_tables(grebe: Grebe) -> None:
    said = grebe("receipt", "texts", 1)

    assert said.code == 0
    first, *tables = said.out.splitlines()
    assert first.startswith("Row 1 was deleted and is not in version")
    text = "\n".join(tables)
    assert "first version without it" in text
    assert "a row that no longer counts" in text
    assert "segments/" in text
    assert re.search(r"^ *\d+ +20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC$", text, re.MULTILINE)


def test_a_key_of_the_wrong_type_is_a_sentence_with_a_hint(grebe: Grebe) -> None:
    said = grebe("receipt", "texts", "one")

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: key component 'id': 'one' is not of type int64; write it as in the URL of a row")


def test_compaction_says_what_there_was_and_is(grebe: Grebe, catalog: Catalog, tmp_path: Path) -> None:
    for version in range(4, 8):
        publish(catalog, tmp_path / "cache", version, upsert(version + 10, version))

    said = grebe("compact", "texts")

    assert said.code == 0
    _, before, after = (line.split() for line in said.out.splitlines())
    assert (before[:2], after[:2]) == (["before", "6"], ["after", "1"])


def test_all_collections_are_purged_and_vacuumed_and_one_that_fails_stops_no_other(
    grebe: Grebe, catalog: Catalog, tmp_path: Path
) -> None:
    root, cache = Store.at(str(tmp_path / "store")), tmp_path / "cache"
    for name in ("alpha", "zeta"):
        other = Catalog.create(root, TEXTS.model_copy(update={"name": name}))
        publish(other, cache, 1, upsert(1, body=CANARY), upsert(2))
        erase(other, cache, 2, 1)
        if name == "alpha":
            for file in other.read().segments[0].files:
                (tmp_path / "store" / name / file.path).write_bytes(b"")

    compacted = grebe("compact", "--all", "--purge", "-o", "json")
    vacuumed = grebe("vacuum", "--all", "--retain", 0, "--yes", "-o", "json")

    assert (compacted.code, compacted.json["failed"]) == (1, ["alpha"])
    found = [(one["collection"], one["outcome"], one.get("tombstoned")) for one in compacted.json["collections"]]
    assert found == [("alpha", "failed", None), ("texts", "done", 0), ("zeta", "done", 0)]
    assert f"error: alpha: {compacted.json['collections'][0]['error']}" in compacted.err
    assert (vacuumed.code, vacuumed.json["failed"], len(vacuumed.json["collections"])) == (0, [], 3)
    assert holding(root, CANARY) == []
    assert [path for path in (tmp_path / "commands").rglob("*") if path.is_file()] == []


def test_all_collections_are_shown_as_a_table(grebe: Grebe, catalog: Catalog) -> None:
    compacted, vacuumed = grebe("compact", "--all"), grebe("vacuum", "--all", "--dry-run")

    assert (compacted.code, vacuumed.code) == (0, 0)
    assert [line.split()[:2] for line in compacted.out.splitlines()] == [["collection", "outcome"], ["texts", "done"]]
    assert [line.split()[:2] for line in vacuumed.out.splitlines()] == [["collection", "outcome"], ["texts", "done"]]


@pytest.mark.parametrize("command", [("compact",), ("vacuum", "--yes")], ids=" ".join)
def test_a_store_without_collections_is_no_failure(grebe: Grebe, command: tuple[str, ...], tmp_path: Path) -> None:
    said = grebe(*command, "--all", "--store", tmp_path / "empty", "-o", "json")

    assert (said.code, said.json) == (0, {"collections": [], "failed": []})
    assert "has no collection" in said.err


def test_a_vacuum_and_a_rollback_ask_first(grebe: Grebe, catalog: Catalog) -> None:
    before = catalog.store.list()

    assert grebe("vacuum", "texts", "--retain", 0).code == 1
    assert grebe("vacuum", "--all", "--retain", 0).code == 1
    assert grebe("rollback", "texts", 1).code == 1

    assert catalog.store.list() == before


def test_a_vacuum_shows_what_went_by_kind(grebe: Grebe, catalog: Catalog, tmp_path: Path) -> None:
    publish(catalog, tmp_path / "cache", 4, delete(2, 4))

    said = grebe("vacuum", "texts", "--retain", 0, "--yes")

    assert said.code == 0
    kinds = [line.split()[0] for line in said.out.splitlines()]
    assert kinds == ["kind", "segments", "tombstones", "letters", "deletions", "loads", "catalog", "total"]
    assert "versions" in said.err


def test_a_rollback_holds_the_collection_at_the_older_version(grebe: Grebe, catalog: Catalog) -> None:
    newest = catalog.read().version

    said = grebe("rollback", "texts", 2, "--yes", "-o", "json").json

    assert (said["rolled_back_to"], said["version"], said["source"], said["held"]) == (2, newest + 1, 2, "rollback")
    assert grebe("receipt", "texts", 1, "-o", "json").json["verdict"] == "live"


@pytest.mark.parametrize("sure", [("--yes",), ()], ids=["unasked", "before anybody is asked"])
def test_a_rollback_to_what_is_not_kept_is_a_sentence(grebe: Grebe, sure: tuple[str, ...]) -> None:
    said = grebe("rollback", "texts", 99, *sure)

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: version 99 of 'texts' is not kept")


@pytest.mark.parametrize(
    "arguments",
    [
        ("vacuum", "texts", "--retain", "-1"),
        ("vacuum", "texts", "--retain", "1e9"),
        ("vacuum",),
        ("vacuum", "texts", "--all"),
        ("compact",),
        ("compact", "texts", "--all"),
        ("history", "texts", "--limit", "0"),
        ("rollback", "texts", "-3"),
        ("rollback", "texts"),
        ("receipt", "texts"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_exit_code_2(grebe: Grebe, arguments: tuple[str, ...]) -> None:
    said = grebe(*arguments)

    assert (said.code, said.out) == (2, "")

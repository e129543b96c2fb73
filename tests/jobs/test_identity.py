"""``grebe keys``, ``grebe roles``, and searching as a caller would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.identity.control import ControlTable
from api.identity.keys import is_key
from indexer.apply import apply
from indexer.spec import CollectionSpec
from tests.api.library import Library, book
from tests.jobs.command import Grebe, grebe_on

POLICIES: list[dict[str, Any]] = [{"role": "short", "rows": "pages < :most", "masks": {"shelf": "hash"}}]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Ten books under a policy."""
    library = Library(tmp_path)
    library.commit(1, [book(number) for number in range(10)])
    apply(library.store, CollectionSpec.model_validate(library.spec.model_dump() | {"policies": POLICIES}))
    return library


@pytest.fixture
def grebe(
    library: Library, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Grebe:
    monkeypatch.setenv("GREBE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("GREBE_CACHE", str(tmp_path / "commands"))
    monkeypatch.delenv("GREBE_DEBUG", raising=False)
    return grebe_on(capfd)


def test_a_key_is_printed_once_and_listed_without_its_secret(grebe: Grebe, library: Library) -> None:
    made = grebe("keys", "create", "support bot", "--role", "short", "--claim", "most=30", "--expires", "90d")

    key = made.out.strip()
    assert is_key(key)
    assert "is not shown again" in made.err
    assert "Role 'short' may do nothing yet: grebe roles grant short COLLECTION search" in made.err
    listed = grebe("keys", "list")
    assert re.search(r"support bot +short +most=30 +works", listed.out)
    (shown,) = grebe("keys", "list", "-o", "json").json["keys"]
    assert (shown["name"], shown["claims"], shown["state"]) == ("support bot", {"most": 30}, "works")
    assert key[-43:] not in listed.out + str(shown)
    control = ControlTable(library.store).read()
    assert control is not None
    assert shown["id"] in control.keys


def test_a_revoked_key_is_shown_as_such(grebe: Grebe) -> None:
    id_ = grebe("keys", "create", "bot", "-r", "short", "-o", "json").json["id"]

    assert f"Revoked {id_} (bot)." in grebe("keys", "revoke", id_).err

    assert [key["state"] for key in grebe("keys", "list", "-o", "json").json["keys"]] == ["revoked"]
    unknown = grebe("keys", "revoke", "nobody")
    assert (unknown.code, "there is no key with the id 'nobody'" in unknown.err) == (1, True)


def test_roles_are_granted_listed_and_withdrawn(grebe: Grebe) -> None:
    assert "There is no role in" in grebe("roles", "list").err
    assert grebe("roles", "grant", "short", "books", "search", "read").out == "short: search, read on books\n"
    grebe("roles", "grant", "watch", "*", "monitor")

    assert grebe("roles", "list", "-o", "json").json["roles"] == [
        {"role": "short", "collection": "books", "actions": ["search", "read"]},
        {"role": "watch", "collection": "*", "actions": ["monitor"]},
    ]
    assert "short: search on books" in grebe("roles", "withdraw", "short", "books", "read").err
    assert "short: nothing left" in grebe("roles", "withdraw", "short").err
    assert re.search(r"watch +\* +monitor", grebe("roles", "list").out)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("keys", "create", "bot"), 2, "Missing option '--role'"),
        (
            ("keys", "create", "bot", "-r", "short", "--expires", "soon"),
            2,
            "give a number and m, h or d",
        ),
        (("keys", "create", "bot", "-r", "short", "--claim", "team"), 2, "'team' is not NAME=VALUE"),
        (("keys", "create", "bot", "-r", "two words"), 1, "roles.0: use a letter or digit"),
        (("roles", "grant", "short", "books"), 2, "Missing argument"),
        (
            ("roles", "grant", "short", "books", "write"),
            2,
            "'write' is not one of",
        ),
        (("roles", "withdraw", "short"), 1, "role 'short' has no grant"),
        (("search", "books", "otter", "--claim", "most=3"), 2, "give --role too"),
    ],
)
def test_a_wrong_use_is_told(grebe: Grebe, arguments: tuple[str, ...], code: int, message: str) -> None:
    said = grebe(*arguments)

    assert said.code == code
    assert message in " ".join(said.err.replace("│", " ").split())


def test_a_search_sees_everything_or_what_a_role_sees(grebe: Grebe) -> None:
    def keys(*arguments: object) -> list[int]:
        found = grebe("search", "books", "river", "-k", 100, "-o", "json", *arguments).json
        return sorted(hit["key"] for hit in found["results"])

    assert keys() == list(range(10))
    assert keys("--role", "short", "--claim", "most=30") == [0, 1, 2]
    assert keys("--role", "other") == []


def test_a_search_reranks_decays_and_diversifies_what_a_role_sees(grebe: Grebe, library: Library) -> None:
    spec = library.catalog.read().spec.model_dump() | {"rerank": {"model": "words:overlap"}}
    apply(library.store, CollectionSpec.model_validate(spec))
    asked = ("--rerank", 10, "--decay", "pages=5,origin=20,kind=gauss", "--diversify", 0.2, "--explain")

    said = grebe("search", "books", "story 1", *asked, "--role", "short", "--claim", "most=30")

    assert said.code == 0
    lines = [line.split(":")[0].strip() for line in said.out.splitlines()]
    assert [lines.count(stage) for stage in ("rerank", "decay", "diversify")] == [3, 3, 3]
    assert "there is no field 'page' (did you mean pages?)" in grebe("search", "books", "x", "--decay", "page=5").err


def test_a_search_as_a_role_tells_why_it_finds_nothing(grebe: Grebe) -> None:
    said = grebe("search", "books", "river", "--role", "short")

    assert "nothing was found" in said.out
    assert "Role 'short' sees no row: the caller has no claim most" in said.err
    assert (
        "Role 'shirt' sees no row: no policy is for it; there are some for short"
        in grebe("search", "books", "", "--filter", "TRUE", "--role", "shirt").err
    )


def test_values_are_hashed_as_the_server_does(grebe: Grebe, library: Library) -> None:
    grebe("keys", "create", "bot", "-r", "short")

    found = grebe("search", "books", "river", "--role", "short", "--claim", "most=30", "-o", "json").json

    assert found["masked"] == ["shelf"]
    assert {len(hit["fields"]["shelf"]) for hit in found["results"]} == {64}


def test_a_policy_that_can_never_be_used_is_refused_on_apply(grebe: Grebe, library: Library, tmp_path: Path) -> None:
    spec = library.spec.model_dump(mode="json") | {"policies": [{"role": "short", "rows": "team = :team"}]}
    file = tmp_path / "books.yaml"
    file.write_text(yaml.safe_dump(spec))

    said = grebe("apply", "-f", file)

    assert said.code == 1
    assert "policies.0.rows: there is no column 'team'" in said.err
    assert library.catalog.read().spec.policies[0].rows == "pages < :most"


def test_a_policy_that_waits_for_a_rebuild_is_told(grebe: Grebe, library: Library, tmp_path: Path) -> None:
    changed = {"columns": ["shelf", "pages", "title"], "policies": [{"role": "short", "rows": "title = :t"}]}
    file = tmp_path / "books.yaml"
    file.write_text(yaml.safe_dump(library.spec.model_dump(mode="json") | changed))

    said = grebe("apply", "-f", file, "--rebuild")

    assert said.code == 0
    assert (
        "until the rebuild these policies let no row through: policies.0.rows: title is a text field, which is searched"
        in said.err
    )


def test_policies_are_not_removed_unasked(grebe: Grebe, library: Library, tmp_path: Path) -> None:
    file = tmp_path / "books.yaml"
    file.write_text(yaml.safe_dump(library.spec.model_dump(mode="json") | {"policies": []}, sort_keys=False))

    refused = grebe("apply", "-f", file)
    assert refused.code == 1
    assert library.catalog.read().spec.policies
    removed = grebe("apply", "-f", file, "--yes")

    assert "books: changed. It is in force." in removed.out
    assert library.catalog.read().spec.policies == ()


def test_columns_are_not_removed_unasked(grebe: Grebe, library: Library, tmp_path: Path) -> None:
    file = tmp_path / "books.yaml"
    changed = {"columns": ["pages"], "policies": [{"role": "short", "rows": "pages < :most"}]}
    file.write_text(yaml.safe_dump(library.spec.model_dump(mode="json") | changed, sort_keys=False))

    refused = grebe("apply", "-f", file)
    assert (refused.code, "Remove shelf from 'books'?" in refused.err) == (1, True)
    assert library.catalog.read().spec.columns == ("shelf", "pages")
    removed = grebe("apply", "-f", file, "--yes")

    assert "books: changed. It is in force." in removed.out
    assert "Warning: shelf can then no longer be filtered by, and only --rebuild brings that back." in removed.err
    assert library.catalog.read().spec.columns == ("pages",)
    assert "shelf" not in grebe("apply", "-f", file).err


def test_of_columns_that_go_with_a_rebuild_nobody_is_asked(grebe: Grebe, library: Library, tmp_path: Path) -> None:
    file = tmp_path / "books.yaml"
    changed = {"columns": ["pages"], "policies": [{"role": "short", "rows": "pages < :most"}], "shards": 2}
    file.write_text(yaml.safe_dump(library.spec.model_dump(mode="json") | changed, sort_keys=False))

    refused = grebe("apply", "-f", file)
    assert ("run the same command with --rebuild" in refused.err, "shelf" in refused.err) == (True, False)
    assert "books: rebuild pending" in grebe("apply", "-f", file, "--rebuild").out
    again = grebe("apply", "-f", file)

    assert (again.code, "shelf" in again.err) == (0, False)
    assert "books: unchanged. Its rebuild is pending. Next: grebe sync books" in again.out


def test_the_first_policies_are_told_to_whom_they_hide_all_rows(grebe: Grebe, library: Library, tmp_path: Path) -> None:
    file = tmp_path / "books.yaml"
    spec = library.spec.model_dump(mode="json")
    file.write_text(yaml.safe_dump(spec | {"policies": []}, sort_keys=False))
    opened = grebe("apply", "-f", file, "--yes")
    assert "Warning: without policies, whoever may search 'books' sees all of it." in opened.err
    grebe("roles", "grant", "reader", "*", "search")
    grebe("roles", "grant", "others", "other", "search")
    grebe("keys", "create", "both", "--role", "reader", "--role", "others")
    file.write_text(yaml.safe_dump(spec | {"policies": POLICIES}, sort_keys=False))

    assert "role 'reader' has no policy, and sees no row from now on" in grebe("apply", "-f", file).err


def test_a_predicate_is_held_against_the_types_of_the_table(grebe: Grebe, library: Library, tmp_path: Path) -> None:
    state = library.catalog.read()
    typed = state.model_copy(
        update={"types": {"id": "bigint", "shelf": "string", "pages": "int"}, "operation": "apply"}
    )
    library.catalog.commit(state, typed, batch_end=None)
    file = tmp_path / "books.yaml"
    file.write_text(
        yaml.safe_dump(library.spec.model_dump(mode="json") | {"policies": [{"role": "short", "rows": "shelf = 5"}]})
    )

    said = grebe("apply", "-f", file)

    assert said.code == 1
    assert "books.yaml: policies.0.rows: shelf is a STRING and 5 is a BIGINT: they can't be compared" in said.err


def test_a_grant_on_a_collection_that_is_not_there_is_told(grebe: Grebe) -> None:
    assert "there is no collection 'boks'" in grebe("roles", "grant", "short", "boks", "search").err
    assert "Warning" not in grebe("roles", "grant", "short", "bo*", "search").err


def test_a_name_that_is_given_twice_is_refused(grebe: Grebe) -> None:
    said = grebe("keys", "create", "bot", "-r", "short", "--claim", "a=1", "--claim", "a=2")

    assert said.code == 2
    assert "'a' is given twice" in said.err


def test_a_drop_says_which_roles_would_be_let_into_a_new_collection_of_that_name(
    grebe: Grebe, library: Library, tmp_path: Path
) -> None:
    for role, name in (("short", "books"), ("long", "books"), ("wide", "b*"), ("other", "others")):
        grebe("roles", "grant", role, name, "search")

    asked = grebe("drop", "books")
    said = grebe("drop", "books", "--yes")

    assert (asked.code, said.code) == (1, 0)
    assert asked.err.startswith("Warning: long, short may go on using what is called 'books'")
    commands = said.err.splitlines()[0].partition("To end that: ")[2].split(" && ")
    assert commands == ["grebe roles withdraw long books", "grebe roles withdraw short books"]
    for command in commands:
        assert grebe(*command.split()[1:]).code == 0
    Library(tmp_path).commit(1, [book(1)])
    assert grebe("drop", "books", "--yes").err == "Dropped books.\n"

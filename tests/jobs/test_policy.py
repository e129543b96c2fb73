"""``grebe policy``: what each role sees, and what a draft would change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.library import Library, book
from tests.jobs.command import Grebe, grebe_on

POLICIES: list[dict[str, Any]] = [
    {"role": "clerk", "rows": "shelf = :shelf AND pages < 60"},
    {"role": "reader", "rows": "pages < 40", "masks": {"shelf": "hash", "body": "redact"}},
    {"role": "owner"},
]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Books 0 to 9, of which 3 was replaced and 4 is gone, under ``POLICIES``."""
    library = Library(tmp_path, policies=POLICIES)
    library.commit(1, [book(number) for number in range(10)])
    library.commit(2, [book(3, pages=31)], [book(4)])
    return library


@pytest.fixture
def grebe(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Grebe:
    monkeypatch.setenv("GREBE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("GREBE_CACHE", str(tmp_path / "cache"))
    return grebe_on(capfd)


def draft_of(library: Library, folder: Path, policies: list[dict[str, Any]], **parts: Any) -> Path:
    path = folder / "draft.yaml"
    path.write_text(json.dumps(library.spec.model_dump(mode="json") | {"policies": policies} | parts))
    return path


def test_each_role_is_told_what_it_sees_or_why_nothing(library: Library, grebe: Grebe) -> None:
    roles = {each["role"]: each for each in grebe("policy", "books", "-o", "json").json["roles"]}

    assert {name: (each["of"], each["now"]["rows"]) for name, each in roles.items()} == {
        "clerk": (9, 0),
        "reader": (9, 4),
        "owner": (9, 9),
    }
    assert roles["reader"]["now"]["masked"] == ["body", "shelf"]
    assert roles["clerk"]["now"]["troubles"] == ["the caller has no claim shelf"]
    shown = grebe("policy", "books", "--claim", "shelf=plain").out.splitlines()
    assert shown[0].split()[:4] == ["role", "rows", "of", "masked"]
    assert [line.split()[:3] for line in shown[1:]] == [["clerk", "2", "9"], ["reader", "4", "9"], ["owner", "9", "9"]]


def test_roles_that_may_read_rows_and_have_no_policy_are_told_that_they_see_none(
    library: Library, grebe: Grebe
) -> None:
    for role, actions in (("guest", ["search"]), ("reader", ["sql"]), ("boss", ["admin"]), ("watch", ["monitor"])):
        assert grebe("roles", "grant", role, "*", *actions).code == 0
    assert grebe("roles", "grant", "other", "others", "search").code == 0

    found = grebe("policy", "books", "-o", "json").json["roles"]

    assert [each["role"] for each in found] == ["clerk", "reader", "owner", "boss", "guest"]
    assert [each["now"]["rows"] for each in found[3:]] == [0, 0]
    assert found[-1]["now"]["troubles"] == ["no policy is for it; there are some for clerk, reader, owner"]


def test_roles_together_are_one_caller(library: Library, grebe: Grebe) -> None:
    asked = ("policy", "books", "-r", "clerk", "-r", "reader", "-c", "shelf=a/b, c", "-o", "json")

    (both,) = grebe(*asked).json["roles"]

    assert (both["role"], both["now"]["rows"], both["now"]["masked"]) == ("clerk, reader", 5, [])
    (nobody,) = grebe("policy", "books", "-r", "guest", "-o", "json").json["roles"]
    assert (nobody["now"]["rows"], nobody["now"]["troubles"]) == (
        0,
        ["no policy is for it; there are some for clerk, reader, owner"],
    )


def test_a_draft_names_the_rows_that_it_shows_and_hides(library: Library, grebe: Grebe, tmp_path: Path) -> None:
    draft = draft_of(
        library,
        tmp_path,
        [
            {"role": "clerk", "rows": "shelf = :shelf AND pages BETWEEN 20 AND 80"},
            {"role": "reader", "rows": "pages < 40"},
            {"role": "guest", "rows": "pages = 0"},
        ],
    )

    found = grebe("policy", "books", "-f", draft, "-c", "shelf=plain", "-o", "json").json["roles"]

    told = {each["role"]: (each["shown"], each["hidden"], each["then"]["masked"]) for each in found}
    assert told == {
        "clerk": (["6", "8"], ["0"], []),
        "reader": ([], [], []),
        "owner": ([], [str(number) for number in (0, 1, 2, 3, 5, 6, 7, 8, 9)], []),
        "guest": (["0"], [], []),
    }
    lines = grebe("policy", "books", "-f", draft, "-c", "shelf=plain", "--keys", 2).out.splitlines()
    assert lines[1].split() == ["clerk", "2", "3", "2", "1"]
    assert "clerk would see: 6, 8" in lines
    assert "owner would no longer see: 0, 1 and 7 more" in lines
    assert library.catalog.read().spec.policies[0].rows == POLICIES[0]["rows"]


def test_what_cannot_be_a_draft_is_refused(library: Library, grebe: Grebe, tmp_path: Path) -> None:
    wrong = draft_of(library, tmp_path, [{"role": "clerk", "rows": "nowhere = 1"}])
    assert "there is no column 'nowhere'" in grebe("policy", "books", "-f", wrong).err
    other = draft_of(library, tmp_path, [], name="others")
    assert grebe("policy", "books", "-f", other).err.strip().endswith("is the spec of 'others', not of 'books'")
    assert grebe("policy", "nobooks").code == 1


def test_tenants_that_a_role_reaches_are_counted(tmp_path: Path, grebe: Grebe) -> None:
    unmasked = [{**policy, "masks": {}} for policy in POLICIES]
    library = Library(tmp_path, composite=True, isolation={"tenant": "shelf"}, policies=unmasked)
    library.commit(1, [book(number) for number in range(6)])

    roles = grebe("policy", "books", "-c", "shelf=plain", "-o", "json").json["roles"]

    assert [(each["role"], each["now"]["tenants"]) for each in roles] == [("clerk", 1), ("reader", 2), ("owner", 2)]


def test_without_policies_there_is_nothing_to_show(tmp_path: Path, grebe: Grebe) -> None:
    library = Library(tmp_path)
    library.commit(1, [book(1)])
    said = grebe("policy", "books")
    assert (said.out, said.code) == ("", 0)
    assert "'books' has no policies: whoever may search it sees all of it." in said.err

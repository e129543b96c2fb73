from __future__ import annotations

import pytest

from retrieval.errors import RequestError
from retrieval.policies import WHOLE
from retrieval.rows import Row, get_row
from tests.retrieval.library import COMMITTED_AT, Doc, Library, spec_of, unit


def test_a_row_is_found_by_key_with_its_whole_text(library: Library) -> None:
    library.add(Doc(id=1, bodies=("other",)))
    library.add(Doc(id=7, title="Otters", bodies=("in the ", "river"), vectors=(unit(1), None), colour=None, size=3))
    with library.open() as snapshot:
        row = get_row(snapshot, (7,), WHOLE)

    assert row == Row(
        key=(7,),
        fields={"id": 7, "lang": "en", "colour": None, "size": 3, "title": "Otters", "body": "in the river"},
        version=7,
        committed_at=COMMITTED_AT,
        n_chunks=2,
    )


def test_a_row_written_again_is_found_once_and_a_deleted_one_not(library: Library) -> None:
    library.add(Doc(id=1, bodies=("old",)), Doc(id=2, bodies=("gone",)))
    library.remove(1, 2)
    library.add(Doc(id=1, bodies=("new",)))
    with library.open() as snapshot:
        row = get_row(snapshot, (1,), WHOLE)
        assert row is not None
        assert row.fields["body"] == "new"
        assert get_row(snapshot, (2,), WHOLE) is None
        assert get_row(snapshot, (3,), WHOLE) is None


def test_a_composite_key_is_given_in_spec_order(tmp_path: pytest.TempPathFactory) -> None:
    library = Library(tmp_path, spec_of(key=["lang", "id"]))  # type: ignore[arg-type]
    library.add(Doc(id=1, lang="en", bodies=("one",)), Doc(id=1, lang="de", bodies=("eins",)))
    with library.open() as snapshot:
        row = get_row(snapshot, ("de", 1), WHOLE)
        assert row is not None
        assert (row.key, row.fields["body"]) == (("de", 1), "eins")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (("one",), "key: expected int64 for 'id', got 'one'"),
        ((1, 2), r"key: expected 1 values \(id\), got 2"),
        ((None,), "key: a key has no nulls"),
        ((2**70,), "key: expected int64 for 'id'"),
    ],
)
def test_a_wrong_key_says_what_was_expected(library: Library, key: tuple[object, ...], message: str) -> None:
    library.add(Doc(id=1))
    with library.open() as snapshot, pytest.raises(RequestError, match=message):
        get_row(snapshot, key, WHOLE)

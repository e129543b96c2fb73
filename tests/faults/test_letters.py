"""Rows that were set aside: counted, kept whole, and cleared by mending them at the source."""

from __future__ import annotations

from indexer.letters import read_letters
from tests.scene import Scene


def letters(scene: Scene) -> list[tuple[str, str]]:
    table = read_letters(scene.state.letters, scene.catalog.store)
    assert len(table) == scene.state.letter_count
    return sorted(zip(table["key"].to_pylist(), table["reason"].to_pylist(), strict=True))


def test_mending_rows_at_the_source_clears_their_letters(scene: Scene) -> None:
    scene.load("(1, 'one', 0), (2, cast(X'ff' AS STRING), 0), (NULL, 'keyless', 0), (NULL, 'lost', 0)")
    assert letters(scene) == [
        ("[2]", "the text is not valid UTF-8"),
        ("[null]", "the key is null"),
        ("[null]", "the key is null"),
    ]
    scene.sql("UPDATE {t} SET body = 'two' WHERE id = 2")
    scene.sql("UPDATE {t} SET id = 3 WHERE body = 'keyless'")

    scene.sync()

    assert letters(scene) == [("[null]", "the key is null")]
    scene.sql("DELETE FROM {t} WHERE id IS NULL")
    scene.sync()
    assert (letters(scene), scene.state.letters) == ([], ())
    assert scene.is_served()


def test_a_row_that_goes_bad_again_has_one_letter(scene: Scene) -> None:
    scene.load("(1, cast(X'ff' AS STRING), 0)")
    scene.sql("UPDATE {t} SET n = 1")

    scene.sync()

    assert letters(scene) == [("[1]", "the text is not valid UTF-8")]

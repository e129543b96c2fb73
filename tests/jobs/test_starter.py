from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from indexer.errors import SpecError
from indexer.spec import CollectionSpec
from indexer.spec_file import parse_spec
from jobs.errors import CommandError
from jobs.sample import sample_of
from jobs.starter import Column, facts_of, key_trouble, starter_spec


def starter_of(folder: Path, rows: list[dict[str, Any]] | pa.Table) -> CollectionSpec:
    write_deltalake(str(folder), pa.Table.from_pylist(rows) if isinstance(rows, list) else rows)
    columns = facts_of(str(folder)).columns
    sample = sample_of(str(folder), [column.name for column in columns if column.type == "string"])
    return parse_spec(starter_spec("t", str(folder), columns, sample))


def test_a_table_decides_key_fields_and_columns(tmp_path: Path) -> None:
    row = {"package": "p", "summary": "s", "details": "d", "id": 7, "fixed": ["1"], "no": True}
    write_deltalake(str(tmp_path), pa.Table.from_pylist([row]))
    spec = parse_spec(starter_spec("advisories", str(tmp_path), facts_of(str(tmp_path)).columns))
    assert (spec.source.table, spec.key, spec.text.fields, spec.columns) == (
        str(tmp_path),
        ("id",),
        {"summary": 2.0, "details": 1.0},
        ("package", "fixed", "no"),
    )


def test_without_a_table_the_file_is_a_valid_example() -> None:
    spec = parse_spec(starter_spec("docs", None))
    assert (spec.key, spec.text.fields) == (("id",), {"title": 2.0, "body": 1.0})


def test_strings_are_the_text_when_none_is_named_like_prose() -> None:
    spec = parse_spec(starter_spec("t", "/t", [Column(name="a_id", type="long"), Column(name="x y", type="string")]))
    assert (spec.key, spec.text.fields) == (("a_id",), {"x y": 1.0})


def test_rows_decide_which_strings_are_prose_and_which_are_columns(tmp_path: Path) -> None:
    rows = [
        {
            "id": number,
            "status": ("open", "closed")[number % 2],
            "category": ("Arts, crafts and sewing", "Home and garden tools")[number % 2],
            "sku": f"A-{number}",
            "message": ("OK", "FAILED")[number % 2],
            "title": f"Reeds {number}" if number else None,
            "review": f"It came after {number} days, and it works as it should.",
            "web": f"https://example.org/a/very/long/path/to/the/thing/{number}",
        }
        for number in range(40)
    ]
    spec = starter_of(tmp_path, rows)
    assert (spec.text.fields, spec.text.language) == ({"title": 2.0, "review": 1.0}, "english")
    assert spec.columns == ("status", "category", "sku", "message", "web")


def test_of_short_strings_those_with_the_most_words_are_the_text(tmp_path: Path) -> None:
    rows = [{"id": number, "code": f"A{number}", "tea": f"green {number}", "kind": "a b c"} for number in range(30)]
    spec = starter_of(tmp_path, rows)
    assert (spec.text.fields, spec.columns) == ({"tea": 1.0}, ("code", "kind"))


@pytest.mark.parametrize(
    ("body", "language"),
    [
        ("猫は魚を食べる。犬は骨が好きだ。", "cjk"),
        ("한국어 문장은 띄어쓰기를 한다.", "cjk"),
        ("The word 猫 means cat in Japanese", "english"),
        (" ".join(["A text of many words"] * 9) + "猫は魚", "english"),
    ],
)
def test_texts_that_are_mostly_of_cjk_are_indexed_as_such(tmp_path: Path, body: str, language: str) -> None:
    spec = starter_of(tmp_path, [{"id": 1, "code": "完了", "body": body}])
    assert (spec.text.fields, spec.text.language, spec.columns) == ({"body": 1.0}, language, ("code",))


def test_one_text_in_ten_is_enough_for_cjk_and_subjects_are_texts(tmp_path: Path) -> None:
    english = [
        {"id": number, "subject": f"Printer {number}", "body": "It prints nothing at all."} for number in range(9)
    ]
    japanese = {"id": 9, "subject": "印刷", "body": "プリンターが動かない。"}
    spec = starter_of(tmp_path, [*english, japanese])
    assert (spec.text.fields, spec.text.language) == ({"subject": 2.0, "body": 1.0}, "cjk")
    (tmp_path / "fewer").mkdir()
    assert starter_of(tmp_path / "fewer", [*english, *english[:2], japanese]).text.language == "english"


def test_a_folder_is_not_looked_at_where_delta_rs_would_read_another(tmp_path: Path) -> None:
    rows = pa.table({"id": [1], "body": ["A text of some words."]})
    write_deltalake(str(tmp_path / "a b"), rows)
    (tmp_path / "a b").rename(tmp_path / "a%20b")
    write_deltalake(str(tmp_path / "a b"), rows.append_column("other", pa.array(["x"])))
    with pytest.raises(CommandError, match="a % in it, which only Spark takes as it is"):
        facts_of(str(tmp_path / "a%20b"))
    assert sample_of(str(tmp_path / "a%20b"), ["body"]) == {}


@pytest.mark.parametrize("name", ["👩\u200d💻 text", "本文", 'a "b"\\', "line\u2028", "\x7f"])
def test_a_name_of_any_characters_is_written_so_that_it_is_read_again(tmp_path: Path, name: str) -> None:
    spec = starter_of(tmp_path, [{"id": 1, name: "A text of some words."}])
    assert spec.text.fields == {name: 1.0}


def test_without_rows_names_decide(tmp_path: Path) -> None:
    table = pa.table(
        {"id": pa.array([], pa.int64()), "body": pa.array([], pa.string()), "x": pa.array([], pa.string())}
    )
    assert starter_of(tmp_path, table).text.fields == {"body": 1.0}
    (tmp_path / "other").mkdir()
    assert starter_of(tmp_path / "other", table.drop_columns(["body"])).text.fields == {"x": 1.0}


def test_a_table_without_text_is_refused() -> None:
    with pytest.raises(CommandError, match="no text column beside its key 'id'"):
        starter_spec("t", "/t", [Column(name="id", type="long")])


def test_a_folder_that_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read as a Delta table"):
        facts_of(str(tmp_path / "absent"))


def test_a_table_none_of_whose_columns_can_be_used_is_refused_and_not_made_up() -> None:
    columns = [Column(name="payload", type="struct"), Column(name="meta", type="map")]
    with pytest.raises(CommandError, match="no column whose type can identify a row"):
        starter_spec("t", "/t", columns)
    with pytest.raises(CommandError, match="no column whose type can identify a row"):
        starter_spec("t", "/t", [Column(name="score", type="double")])


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(SpecError, match="lower-case"):
        starter_spec("Bad Name", None)


def test_a_folder_that_is_no_table_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(CommandError, match=r"plain: is a folder and no Delta table: it has no _delta_log$"):
        facts_of(str(tmp_path / "plain"))


def test_a_column_of_vectors_is_named_where_vectors_come_from_and_is_no_filter(tmp_path: Path) -> None:
    kind = pa.list_(pa.float32())
    write_deltalake(
        str(tmp_path), pa.table({"id": [1], "body": ["b"], "emb": pa.array([[0.5]], kind), "tags": [["a"]]})
    )
    text = starter_spec("t", str(tmp_path), facts_of(str(tmp_path)).columns)
    assert "the table's own vectors (column: emb)" in text
    assert parse_spec(text).columns == ("tags",)


def test_columns_that_no_filter_can_read_are_left_out_and_named(tmp_path: Path) -> None:
    table = pa.table(
        {
            "places": [{"x": 1}],
            "labels": pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string())),
            "several": [[{"x": 1}]],
            "share": [0.5],
            "number": [7],
            "body": ["b"],
            "_version": [3],
            "seen": pa.array([0], pa.timestamp("us", "UTC")),
        }
    )
    write_deltalake(str(tmp_path), table)
    text = starter_spec("t", str(tmp_path), facts_of(str(tmp_path)).columns)
    spec = parse_spec(text)
    assert (spec.key, spec.columns) == (("number",), ("share", "seen"))
    assert (
        "# Left out: no filter can read these types (flatten what is needed upstream), or Grebe uses the name:\n"
        "#   places: struct\n#   labels: map<string,string>\n#   several: array<struct>\n#   _version: long\n"
    ) in text


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["a", "b", "c"], None),
        (["a", "b", None], "of 3 rows 1 has none; put another column, or further ones, into `key`"),
        (["a", "a", "a"], "of 3 rows 2 repeat another's; put another"),
        (["a", "a", None], "of 3 rows 1 has none and 1 repeats another's; put another"),
    ],
)
def test_a_key_that_does_not_identify_rows_is_told(tmp_path: Path, keys: list[str | None], told: str | None) -> None:
    write_deltalake(str(tmp_path), pa.table({'the "key"': pa.array(keys, pa.string())}))
    trouble = key_trouble(str(tmp_path), 'the "key"')
    assert (trouble is None) == (told is None)
    assert (told or "") in (trouble or "")


def test_keys_that_cannot_be_read_are_no_reason_to_write_no_spec(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"id": [1]}))
    for file in tmp_path.glob("*.parquet"):
        file.unlink()
    assert "whether 'id' identifies its rows could not be looked at: " in (key_trouble(str(tmp_path), "id") or "")

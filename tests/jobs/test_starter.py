from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from connectors.errors import SchemaMismatch
from indexer.errors import SpecError
from indexer.spec import parse_spec
from jobs.errors import CommandError
from jobs.starter import Column, facts_of, look_at_model, look_at_table, starter_spec


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


def test_a_table_without_text_is_refused() -> None:
    with pytest.raises(CommandError, match="no text column beside its key 'id'"):
        starter_spec("t", "/t", [Column(name="id", type="long")])


def test_a_folder_that_is_no_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="cannot be read as a Delta table"):
        facts_of(str(tmp_path / "absent"))


def test_a_bad_name_is_refused() -> None:
    with pytest.raises(SpecError, match="lower-case"):
        starter_spec("Bad Name", None)


SPEC = (
    "name: birds\nsource: {{table: {table}}}\nkey: [id]\ncolumns: [{column}]\ntext: {{fields: {{body: 1}}}}\n"
    "vector: {{column: v, dim: 3}}"
)


def a_table(folder: Path, *, feed: bool) -> str:
    rows = pa.table({"id": [1], "body": ["a grebe"], "year": [2000], "v": [[0.0, 1.0, 0.0]]})
    write_deltalake(str(folder), rows, configuration={"delta.enableChangeDataFeed": str(feed).lower()})
    return str(folder)


def test_a_table_that_fits_needs_no_warning(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t", feed=True)
    assert look_at_table(parse_spec(SPEC.format(table=table, column="year"))) is None
    assert facts_of(table).change_feed


def test_a_column_that_the_table_lacks_is_named(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t", feed=True)
    with pytest.raises(SchemaMismatch, match=r"no column 'yaer' \(did you mean 'year'\?\)"):
        look_at_table(parse_spec(SPEC.format(table=table, column="yaer")))


def test_a_change_feed_that_is_off_comes_with_the_statement_that_turns_it_on(tmp_path: Path) -> None:
    table = a_table(tmp_path / "t", feed=False)
    warning = look_at_table(parse_spec(SPEC.format(table=table, column="year")))
    assert warning is not None
    assert f"ALTER TABLE delta.`{table}` SET TBLPROPERTIES (delta.enableChangeDataFeed = true)" in warning


@pytest.mark.parametrize(
    ("table", "warned"), [("absent", True), ("/absent/t", True), ("main.birds.seen", False), ("s3://b/t", False)]
)
def test_a_folder_that_is_not_here_is_a_warning_and_no_error(table: str, warned: bool) -> None:
    assert (look_at_table(parse_spec(SPEC.format(table=table, column="year"))) is not None) == warned


def test_a_folder_that_is_no_table_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(CommandError, match=r"plain: is a folder and no Delta table: it has no _delta_log$"):
        facts_of(str(tmp_path / "plain"))


def test_a_models_folder_that_is_not_there_is_named_and_a_hubs_name_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there = {str(tmp_path), "organisation/model"}
    for model in (*there, f"{tmp_path}/file", f"{tmp_path}/none", "./none"):
        spec = parse_spec(
            f"name: birds\nsource: {{table: t}}\nkey: [id]\ntext: {{fields: {{body: 1}}}}\nvector: {{model: '{model}'}}"
        )
        assert (look_at_model(spec) is None) == (model in there)

from __future__ import annotations

from pathlib import Path

import pytest

from indexer.errors import SpecError
from indexer.spec_file import load_spec, parse_spec
from tests.indexer.spec_texts import FULL, SMALL


def complaints(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse_spec(text, origin="c.yaml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("line", "replacement", "complaint"),
    [
        ("shards: 2", "shard: 2", "c.yaml:18: shard: unknown key; did you mean 'shards'?"),
        (
            "  language: english",
            "  langage: english",
            "c.yaml:8: text.langage: unknown key; did you mean 'language'?",
        ),
        (
            "  chunk: {max_tokens: 256, overlap_tokens: 32}",
            "  chunk: {size: 256}",
            "c.yaml:9: text.chunk.size: unknown key; known are max_tokens, overlap_tokens, per_field",
        ),
        (
            '    rows: "team = :team"',
            "    row: x",
            "c.yaml:15: policies.0.row: unknown key; did you mean 'rows'?",
        ),
        (
            "    masks: {details: redact, severity: hash}",
            "    masks: {details: hide}",
            "c.yaml:16: policies.0.masks.details: should be 'redact' or 'hash', and 'hide' came",
        ),
        ("key: [id]", "key: id", "c.yaml:5: key: expected a list, as in [id, part], and 'id' came"),
        (
            "key: [id]",
            "key: []",
            "c.yaml:5: key: must not be empty",
        ),
        ("key: [id]", "key: [id, id]", "c.yaml:5: key: names id twice"),
        ("key: [id]", "key: [7]", "c.yaml:5: key.0: expected text, and 7 came; quote it if it is meant as text"),
        ("shards: 2", "shards: 0", "c.yaml:18: shards: should be greater than or equal to 1, and 0 came"),
        (
            "columns: [package, severity]",
            "columns: [package, severity, package]",
            "c.yaml:12: columns: names package twice",
        ),
        (
            "  fields: {summary: 2.0, details: 1.0}",
            "  fields: {summary: 2.0, details: 0}",
            "c.yaml:7: text.fields.details: should be greater than 0, and 0 came",
        ),
        (
            "  fields: {summary: 2.0, details: 1.0}",
            "  fields: [summary]",
            "c.yaml:7: text.fields: expected a mapping of names to values, and ['summary'] came",
        ),
        (
            "  fields: {summary: 2.0, details: 1.0}",
            "  fields: {summary: .inf}",
            "c.yaml:7: text.fields.summary: should be a finite number, and inf came",
        ),
        (
            "name: advisories",
            "name: My advisories",
            "c.yaml:1: name: use a lower-case letter, then up to 62 letters, digits, '_' or '-'",
        ),
        (
            "name: advisories",
            "name: 2024-02-03",
            "c.yaml:1: name: expected text, and datetime.date(2024, 2, 3) came; quote it if it is meant as text",
        ),
        (
            "  chunk: {max_tokens: 256, overlap_tokens: 32}",
            "  chunk: {max_tokens: 32, overlap_tokens: 20}",
            "c.yaml:9: text.chunk: overlap_tokens must be at most half of max_tokens",
        ),
        (
            "  model: sentence-transformers/all-MiniLM-L6-v2",
            "  dtype: float16",
            "c.yaml:10: vector: give 'model' (a hub name or folder) or 'column' (the source's own vectors)",
        ),
        (
            "  model: sentence-transformers/all-MiniLM-L6-v2",
            "  column: v\n  dim: 0",
            "c.yaml:12: vector.dim: should be greater than or equal to 1, and 0 came",
        ),
        ("  kind: delta", "  kind: csv", "c.yaml:3: source.kind: should be 'delta' or 'snowflake', and 'csv' came"),
        ("  table: data/advisories", "", "c.yaml:2: source.table: is required"),
        ("shards: 2", "shards: 2\nshards: 3", "c.yaml:19: shards: is given twice; keep one"),
        (
            "  - role: analyst",
            "  - role: ''",
            "c.yaml:14: policies.0.role: must not be empty",
        ),
        (
            "    masks: {details: redact, severity: hash}",
            "    masks:\n      severity: hash\n      id: hash",
            "c.yaml:16: policies.0.masks: 'id' is of the key, by which rows are named in every answer, and cannot be "
            "masked; hash it at the source, or leave rows out by 'rows'",
        ),
        (
            "index: {kind: auto",
            "  - role: analyst\nindex: {kind: auto",
            "c.yaml:13: policies: there are two for the role 'analyst'; make them one",
        ),
        (
            "shards: 2",
            "fusion:\n  weights: {vector: 0, keyword: 0}",
            "c.yaml:19: fusion.weights: at least one weight must be above 0",
        ),
    ],
)
def test_a_mistake_is_named_by_file_line_and_field(line: str, replacement: str, complaint: str) -> None:
    assert line in FULL
    assert complaints(FULL.replace(line, replacement, 1)) == [complaint]


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = FULL.replace("shards: 2", "shards: none").replace("name: advisories", "nam: advisories")
    assert complaints(text.replace("max_tokens: 256", "max_tokens: 1")) == [
        "c.yaml:1: nam: unknown key; did you mean 'name'?",
        "c.yaml:1: name: is required",
        "c.yaml:9: text.chunk.max_tokens: should be greater than or equal to 16, and 1 came",
        "c.yaml:18: shards: should be a valid integer, unable to parse string as an integer, and 'none' came",
    ]


def test_a_repeated_key_is_found_at_any_depth() -> None:
    text = SMALL.replace("{fields: {body: 1}}", "{fields: {body: 1, body: 2}}")
    assert complaints(text) == ["c.yaml:4: text.fields.body: is given twice; keep one"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "just words", "- a\n- b\n", "null"])
def test_a_file_without_a_mapping_says_what_belongs_there(text: str) -> None:
    assert complaints(text) == ["c.yaml:1: expected a mapping with 'name', 'source', 'key', 'text' and 'vector'"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("name: [a\nkey: b\n", r"^c\.yaml:2: not YAML: "),
        ("name: a\n\tkey: b\n", r"^c\.yaml:2: not YAML: "),
        ("name: a\n--- \nname: b\n", r"^c\.yaml:2: not YAML: "),
        ("name: a\x00\n", r"^c\.yaml:1: not YAML: "),
        ("name: 2024-13-45\n", r"^c\.yaml:1: cannot be read as YAML: month must be in 1\.\.12"),
        ("name: !!python/object:os.system x\n", r"^c\.yaml:1: not YAML: could not determine a constructor"),
        ("name: &a [*a]\n", r"^c\.yaml:1: an alias contains itself"),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(text: str, match: str) -> None:
    with pytest.raises(SpecError, match=match):
        parse_spec(text, origin="c.yaml")


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.encode())
    assert load_spec(path) == parse_spec(SMALL)


def test_a_mistake_in_a_file_names_that_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(SMALL.replace("key: [id]", "key: id"))
    with pytest.raises(SpecError, match=rf"^{path}:3: key: expected a list"):
        load_spec(path)


def test_a_file_that_is_not_utf_8_says_where(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(SpecError, match=rf"^{path}: is not UTF-8 at byte 9; save it as UTF-8$"):
        load_spec(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml: cannot be read: No such file or directory$"):
        load_spec(tmp_path / "nowhere.yaml")


def test_a_misspelt_key_of_the_reranking_model_is_told() -> None:
    given = FULL.replace("shards: 2", "rerank: {name: x}")

    assert complaints(given) == [
        "c.yaml:18: rerank.model: is required",
        "c.yaml:18: rerank.name: unknown key; known are model, revision",
    ]


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{table: x, connection: prod}", "'connection' is for kind: snowflake, and this source is of kind: delta"),
        ("{table: x, paths: {a: 'b:c'}}", "'paths' is for kind: snowflake, and this source is of kind: delta"),
        ("{kind: snowflake, table: NOTES}", "table: expected DB.SCHEMA.TABLE, any part of it in double quotes"),
        ("{kind: snowflake, table: A.B.C, paths: {a: b}}", "paths: a: expected column:path or column:path::TYPE"),
        ("{kind: snowflake, table: A.B.C, conection: x}", "unknown key; did you mean 'connection'?"),
        ("{kind: iceberg, table: A.B.C}", "should be 'delta' or 'snowflake'"),
    ],
)
def test_a_source_has_the_options_of_its_kind(source: str, complaint: str) -> None:
    (line,) = complaints(SMALL.replace("{table: data/notes}", source))

    assert complaint in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "policies:\n  - role: member\n    rows:\n    #  team = :team\n",
            ["c.yaml:8: policies.0.rows: is empty"],
        ),
        ("isolation:\n", ["c.yaml:6: isolation: is empty; give it a value or leave it out"]),
        ("policies:\ncolumns:\n", ["c.yaml:6: policies: is empty", "c.yaml:7: columns: is empty"]),
        ("isolation: {tenant: idd}\n", ["c.yaml:6: isolation.tenant: 'idd' must be in 'key', or one"]),
    ],
)
def test_a_key_without_a_value_opens_nothing(text: str, told: list[str]) -> None:
    lines = complaints(SMALL + text)
    assert [line.startswith(start) for line, start in zip(lines, told, strict=True)] == [True] * len(told), lines


def test_a_tenant_that_is_misspelt_is_asked_about() -> None:
    (line,) = complaints(SMALL.replace("[id]", "[team, id]") + "isolation: {tenant: taem}\n")
    assert line.endswith("did you mean 'team'?")


def test_an_explicit_null_is_what_was_left_out() -> None:
    assert parse_spec(SMALL + "rerank: null\nfusion: ~\n") == parse_spec(SMALL)

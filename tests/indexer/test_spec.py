from __future__ import annotations

import re
from typing import Any

import pytest

from indexer.errors import SpecError
from indexer.spec import ChunkSpec, CollectionSpec, PolicySpec, SourceSpec, TextSpec, VectorSpec
from indexer.spec_file import parse_spec
from tests.indexer.spec_texts import FULL, SMALL


def changed(**parts: Any) -> CollectionSpec:
    return CollectionSpec.model_validate(parse_spec(FULL).model_dump() | parts)


def test_every_part_of_the_yaml_arrives() -> None:
    assert parse_spec(FULL) == CollectionSpec(
        name="advisories",
        source=SourceSpec(kind="delta", table="data/advisories"),
        key=("id",),
        text=TextSpec(fields={"summary": 2.0, "details": 1.0}, language="english", chunk=ChunkSpec()),
        vector=VectorSpec(model="sentence-transformers/all-MiniLM-L6-v2"),
        columns=("package", "severity"),
        policies=(PolicySpec(role="analyst", rows="team = :team", masks={"details": "redact", "severity": "hash"}),),
        shards=2,
    )


def test_what_is_left_out_has_the_designs_defaults() -> None:
    spec = parse_spec(SMALL)
    assert (spec.text.chunk.max_tokens, spec.text.chunk.overlap_tokens, spec.text.language) == (256, 32, "english")
    assert (spec.vector.dtype, spec.vector.metric, spec.index.kind, spec.shards) == ("float32", "cosine", "auto", 1)


def test_json_and_back_is_the_same_spec() -> None:
    spec = parse_spec(FULL)
    assert CollectionSpec.model_validate_json(spec.model_dump_json()) == spec


def test_stored_columns_are_the_key_then_the_others_each_once() -> None:
    spec = changed(key=("id", "part"), columns=("package", "id", "severity"))
    assert spec.stored_columns == ("id", "part", "package", "severity")


def test_source_columns_hold_a_text_field_that_is_also_a_column_once() -> None:
    spec = changed(columns=("summary", "severity"), vector={"column": "embedding", "dim": 3})
    assert spec.source_columns == ("id", "summary", "severity", "details", "embedding")


@pytest.mark.parametrize(
    "parts",
    [
        {"key": ("id", "part")},
        {"text": {"fields": {"details": 2.0, "summary": 1.0}}},
        {"text": {"fields": {"summary": 2.0, "details": 1.0}, "language": "german"}},
        {"text": {"fields": {"summary": 2.0, "details": 1.0}, "chunk": {"max_tokens": 128}}},
        {"text": {"fields": {"summary": 2.0, "details": 1.0}, "chunk": {"overlap_tokens": 16}}},
        {"vector": {"model": "hash:8"}},
        {"vector": {"model": "sentence-transformers/all-MiniLM-L6-v2", "revision": "abc"}},
        {"vector": {"model": "sentence-transformers/all-MiniLM-L6-v2", "query_prompt": "q: "}},
        {"vector": {"model": "sentence-transformers/all-MiniLM-L6-v2", "document_prompt": "d: "}},
        {"vector": {"model": "sentence-transformers/all-MiniLM-L6-v2", "metric": "dot"}},
        {"vector": {"model": "sentence-transformers/all-MiniLM-L6-v2", "dtype": "float16"}},
        {"vector": {"column": "embedding"}},
        {"shards": 3},
    ],
)
def test_what_decides_vectors_and_terms_changes_the_fingerprint(parts: dict[str, Any]) -> None:
    assert changed(**parts).fingerprint != parse_spec(FULL).fingerprint


@pytest.mark.parametrize(
    "parts",
    [
        {"name": "other"},
        {"source": {"table": "elsewhere"}},
        {"text": {"fields": {"summary": 5.0, "details": 0.5}}},
        {"columns": ("severity", "published")},
        {"policies": ()},
        {"fusion": {"kind": "rrf"}},
        {"index": {"kind": "exact", "device": "cpu", "min_recall": 0.5}},
        {"sync": {"max_delete_ratio": 1.0}},
    ],
)
def test_what_decides_neither_leaves_the_fingerprint(parts: dict[str, Any]) -> None:
    assert changed(**parts).fingerprint == parse_spec(FULL).fingerprint


def test_vectors_that_say_what_masked_text_does_are_masked_with_it() -> None:
    given: dict[str, Any] = {"vector": {"column": "v"}, "columns": ["v"]}
    with pytest.raises(ValueError, match="'v' is in 'columns' and says what the masked text does"):
        changed(**given, policies=[{"role": "a", "masks": {"details": "redact"}}])

    assert changed(**given, policies=[{"role": "a", "masks": {"details": "redact", "v": "redact"}}])
    assert changed(**given, policies=[{"role": "a"}])


def test_policies_that_do_not_fit_what_is_indexed_are_told_in_our_words() -> None:
    serving = changed(vector={"column": "v"}, columns=["v"], policies=())
    newer = changed(columns=["v"], policies=[{"role": "a", "masks": {"details": "redact"}}])
    with pytest.raises(ValueError, match=r"^policies\.0\.masks: 'v' is in 'columns' and says what"):
        serving.under(newer)


def test_cutting_each_field_apart_needs_a_rebuild_and_not_cutting_so_none() -> None:
    apart = changed(text={"fields": {"summary": 2.0, "details": 1.0}, "chunk": {"per_field": True}})
    together = changed(text={"fields": {"summary": 2.0, "details": 1.0}, "chunk": {"per_field": False}})

    assert apart.fingerprint != parse_spec(FULL).fingerprint == together.fingerprint


def test_folding_accents_needs_a_rebuild_and_is_written_only_where_it_is_asked_for() -> None:
    folded = changed(text={"fields": {"summary": 2.0, "details": 1.0}, "fold_accents": True})
    plain = changed(text={"fields": {"summary": 2.0, "details": 1.0}, "fold_accents": False})

    assert folded.fingerprint != parse_spec(FULL).fingerprint == plain.fingerprint
    assert folded.model_dump()["text"]["fold_accents"] is True
    assert "fold_accents" not in plain.model_dump()["text"]


def test_a_reranking_model_is_written_only_where_there_is_one_and_needs_no_rebuild() -> None:
    plain, reranked = parse_spec(FULL), changed(rerank={"model": "models/cross-encoder"})

    assert not {"rerank", "fusion"} & plain.model_dump().keys()
    assert "rerank" not in plain.model_dump() | plain.model_dump(mode="json", exclude={"source"})
    assert reranked.model_dump()["rerank"] == {"model": "models/cross-encoder", "revision": None}
    assert CollectionSpec.model_validate_json(reranked.model_dump_json()) == reranked
    assert reranked.fingerprint == plain.fingerprint


def test_the_tables_own_vectors_cannot_be_cut_by_field() -> None:
    with pytest.raises(ValueError, match=r"text\.chunk\.per_field: the table's own vectors are one for each row"):
        changed(text={"fields": {"details": 1.0}, "chunk": {"per_field": True}}, vector={"column": "v"}, policies=())


@pytest.mark.parametrize(
    ("policies", "complaint"),
    [
        ([{"role": "a", "masks": {"id": "hash"}}], "'id' is of the key, by which rows are named in every answer"),
        (
            [{"role": "a", "masks": {"colour": "hash"}}],
            "policies.0.masks: 'colour' is neither in 'columns' nor a text",
        ),
        ([{"role": "a"}, {"role": "b"}, {"role": "a"}], "there are two for the role 'a'; make them one"),
        ([{"role": "a", "rows": ""}], "should have at least 1 character"),
        ([{"role": "support "}], "use a letter or digit, then up to 127 letters"),
    ],
)
def test_policies_that_cannot_be_kept_are_refused(policies: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        changed(policies=policies)


def test_a_spec_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_spec(SMALL).shards = 2  # type: ignore[misc]


def test_a_delta_source_is_written_as_before_there_were_others() -> None:
    assert parse_spec(SMALL).source.model_dump_json() == '{"kind":"delta","table":"data/notes"}'


def test_how_a_snowflake_table_is_reached_is_no_part_of_which_it_is() -> None:
    one = SourceSpec(kind="snowflake", table='A."b".C', connection="x", warehouse="W", paths={"o": "a:b"})

    assert one.rows == one.model_copy(update={"connection": "y", "role": "R"}).rows
    assert one.rows != one.model_copy(update={"paths": {}}).rows
    assert SourceSpec.model_validate_json(one.model_dump_json()) == one


def test_tenants_are_kept_apart_by_a_column_of_the_key_and_that_needs_a_rebuild() -> None:
    text = SMALL + "isolation: {tenant: team}\n"
    with pytest.raises(SpecError, match=r"isolation\.tenant: 'team' must be in 'key', or .* make it key: \[team, id\]"):
        parse_spec(text)
    apart = parse_spec(text.replace("key: [id]", "key: [team, id]"))
    together = parse_spec(SMALL.replace("key: [id]", "key: [team, id]"))
    assert (apart.tenant, together.tenant) == ("team", None)
    assert apart.fingerprint != together.fingerprint
    assert "isolation" not in together.model_dump_json()
    assert CollectionSpec.model_validate_json(apart.model_dump_json()) == apart

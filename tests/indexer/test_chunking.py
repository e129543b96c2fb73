from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.chunking import chunk_rows, token_windows
from indexer.embedding import HashEmbedder
from indexer.errors import BuildError
from indexer.spec import ChunkSpec, CollectionSpec

WORDS = HashEmbedder(8)


def spec(
    *, fields: tuple[str, ...] = ("title", "body"), vector: dict[str, Any] | None = None, **chunk: int | bool
) -> CollectionSpec:
    return CollectionSpec.model_validate(
        {
            "name": "notes",
            "source": {"table": "notes"},
            "key": ("id",),
            "text": {"fields": dict.fromkeys(fields, 1.0), "chunk": chunk},
            "vector": vector or {"model": "hash:8"},
        }
    )


def rows(*pairs: tuple[str | None, str | None]) -> pa.Table:
    columns = {"title": [title for title, _ in pairs], "body": [body for _, body in pairs]}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def rebuilt(chunks: pa.Table, row: int, field: str) -> str | None:
    """Return the field as its portions give it, checking that each lies where it says and that none leaves a gap."""
    text: str | None = None
    for chunk in chunks.to_pylist():
        portion, start = chunk[f"text.{field}"], chunk[f"start.{field}"]
        assert (portion is None) == (start is None)
        if chunk["_row"] != row or portion is None:
            continue
        text = text or ""
        assert start <= len(text), "a gap"
        assert text[start:] == portion[: len(text) - start], "an overlap that differs"
        text = text[:start] + portion
    return text


def test_each_field_by_itself_when_asked() -> None:
    table = chunk_rows(
        rows(("A title", "Some text."), (None, "b"), ("", "c"), (None, None), ("", ""), ("", None), ("t", "")),
        spec(per_field=True),
        WORDS,
    )

    assert [tuple(chunk.values()) for chunk in table.to_pylist()] == [
        (0, 0, "A title", None, 0, None, "A title"),
        (0, 1, None, "Some text.", None, 0, "Some text."),
        (1, 0, None, "b", None, 0, "b"),
        (2, 0, "", "c", 0, 0, "c"),
        (3, 0, None, None, None, None, ""),
        (4, 0, "", "", 0, 0, ""),
        (5, 0, "", None, 0, None, ""),
        (6, 0, "t", "", 0, 0, "t"),
    ]
    assert table.schema == chunk_rows(rows(("A", "B")), spec(), WORDS).schema


def test_a_long_field_by_itself_is_cut_into_windows_that_the_others_do_not_share() -> None:
    table = chunk_rows(
        rows(("t " * 40, "b " * 40), ("short", "b " * 20)),
        spec(max_tokens=16, overlap_tokens=0, per_field=True),
        WORDS,
    )

    chunks = table.to_pylist()
    assert [(chunk["_row"], chunk["_chunk"]) for chunk in chunks] == [
        *((0, number) for number in range(6)),
        *((1, number) for number in range(3)),
    ]
    assert all(chunk["text.title"] is None or chunk["text.body"] is None for chunk in chunks)
    assert rebuilt(table, 0, "title") == "t " * 40
    assert rebuilt(table, 0, "body") == "b " * 40
    assert rebuilt(table, 1, "body") == "b " * 20


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(*[st.none() | st.text(" ab.\n", max_size=60)] * 2), min_size=1, max_size=5),
    st.integers(0, 8),
)
def test_fields_cut_apart_are_rebuilt_exactly(pairs: list[tuple[str | None, str | None]], overlap: int) -> None:
    table = chunk_rows(rows(*pairs), spec(max_tokens=16, overlap_tokens=overlap, per_field=True), WORDS)

    for row, pair in enumerate(pairs):
        assert (rebuilt(table, row, "title"), rebuilt(table, row, "body")) == pair
    assert set(table["_row"].to_pylist()) == set(range(len(pairs)))
    assert not any(chunk["text.title"] and chunk["text.body"] for chunk in table.to_pylist())


def test_a_short_row_is_one_chunk_with_its_fields_joined() -> None:
    assert chunk_rows(rows(("A title", "Some text. ")), spec(), WORDS).to_pylist() == [
        {
            "_row": 0,
            "_chunk": 0,
            "text.title": "A title",
            "start.title": 0,
            "text.body": "Some text. ",
            "start.body": 0,
            "embed_text": "A title\n\nSome text.",
        }
    ]


def test_the_columns_have_their_types() -> None:
    table = chunk_rows(rows(("A title", "word " * 50)), spec(max_tokens=16, overlap_tokens=4), WORDS)
    assert {field.name: str(field.type) for field in table.schema} == {
        "_row": "uint32",
        "_chunk": "uint32",
        "text.title": "string",
        "text.body": "string",
        "start.title": "int64",
        "start.body": "int64",
        "embed_text": "string",
    }


def test_a_null_field_has_no_portion_and_an_empty_one_has_an_empty_portion() -> None:
    table = chunk_rows(rows((None, "b"), ("", "b"), (None, None), ("", "")), spec(), WORDS)
    assert table["text.title"].to_pylist() == [None, "", None, ""]
    assert table["start.title"].to_pylist() == [None, 0, None, 0]
    assert table["embed_text"].to_pylist() == ["b", "b", "", ""]


def test_an_empty_field_of_a_long_row_goes_to_the_first_chunk() -> None:
    table = chunk_rows(rows(("", "word " * 20)), spec(max_tokens=16, overlap_tokens=0), WORDS)
    assert table["text.title"].to_pylist() == ["", None]
    assert table["start.title"].to_pylist() == [0, None]


def test_white_space_alone_is_kept_and_not_embedded() -> None:
    table = chunk_rows(rows((None, " \n\t ")), spec(), WORDS)
    assert table.select(["text.body", "embed_text"]).to_pylist() == [{"text.body": " \n\t ", "embed_text": ""}]


def test_a_long_row_is_cut_into_overlapping_windows() -> None:
    body = " ".join(str(number) for number in range(40))
    table = chunk_rows(rows((None, body)), spec(max_tokens=16, overlap_tokens=4), WORDS)
    assert [text.split()[0] + "-" + text.split()[-1] for text in table["embed_text"].to_pylist()] == [
        "0-15",
        "12-27",
        "24-39",
    ]
    assert table["start.body"].to_pylist() == [0, body.index("12"), body.index("24")]


def test_windows_run_over_the_border_of_two_fields() -> None:
    table = chunk_rows(rows(("t " * 10, "b " * 10)), spec(max_tokens=16, overlap_tokens=0), WORDS)
    assert table["text.title"].to_pylist() == ["t " * 10, None]
    assert table["text.body"].to_pylist() == ["b " * 6, "b " * 4]
    assert table["start.body"].to_pylist() == [0, 12]


def test_a_window_ends_with_a_sentence_that_ends_in_its_last_quarter() -> None:
    body = "one two three four five six seven eight nine ten eleven twelve. " + "more " * 20
    table = chunk_rows(rows((None, body)), spec(max_tokens=16, overlap_tokens=0), WORDS)
    assert table["text.body"][0].as_py() == "one two three four five six seven eight nine ten eleven twelve. "


def test_a_window_ends_with_a_word_where_no_sentence_does() -> None:
    text = "aaa aa aaa cccc"
    spans = np.array([(at, at + 1) for at in range(15) if text[at] != " "], np.int32)
    assert token_windows(text, spans, 9, ChunkSpec(overlap_tokens=0)) == [(0, 11), (11, 15)]


def test_rows_keep_their_order_and_their_chunks_stay_together() -> None:
    table = chunk_rows(
        rows((None, "a"), (None, "w " * 40), (None, "c"), (None, "w " * 20)),
        spec(max_tokens=16, overlap_tokens=4),
        WORDS,
    )
    pairs = list(zip(table["_row"].to_pylist(), table["_chunk"].to_pylist(), strict=True))
    assert pairs == sorted(pairs)
    assert {row for row, _ in pairs} == {0, 1, 2, 3}


def test_an_empty_table_gives_no_chunks() -> None:
    table = chunk_rows(rows(), spec(), WORDS)
    assert (table.num_rows, len(table.column_names)) == (0, 7)


def test_many_arrow_chunks_and_other_string_types_are_read_alike() -> None:
    pieces = pa.concat_tables([rows(("t", "w " * 40)), rows((None, "é")), rows(("", None))])
    kinds = pa.schema([("title", pa.large_string()), ("body", pa.dictionary(pa.int32(), pa.string()))])
    assert chunk_rows(pieces.cast(kinds), spec(max_tokens=16, overlap_tokens=4), WORDS).equals(
        chunk_rows(pieces.combine_chunks(), spec(max_tokens=16, overlap_tokens=4), WORDS)
    )


def test_the_sources_own_vectors_mean_one_chunk_per_row_and_no_tokenizer() -> None:
    table = chunk_rows(
        rows(("t", "word " * 5000), (None, None)), spec(vector={"column": "v"}, max_tokens=16, overlap_tokens=4), None
    )
    assert table["_row"].to_pylist() == [0, 1]
    assert table["text.body"].to_pylist() == ["word " * 5000, None]


def test_windows_hold_no_more_than_the_model_reads() -> None:
    class Short(HashEmbedder):
        max_tokens = 16

    table = chunk_rows(rows((None, "word " * 64)), spec(max_tokens=256, overlap_tokens=128), Short(8))
    assert max(len(text.split()) for text in table["embed_text"].to_pylist()) == 16
    assert rebuilt(table, 0, "body") == "word " * 64


def test_a_missing_field_is_named() -> None:
    with pytest.raises(BuildError, match=r"text\.fields names 'summary', which the table lacks; it has title, body"):
        chunk_rows(rows(), spec(fields=("title", "summary")), WORDS)


def test_a_field_that_is_not_text_is_named() -> None:
    with pytest.raises(BuildError, match=r"text\.fields names 'body', which is int64 and not text"):
        chunk_rows(pa.table({"title": ["t"], "body": [1]}), spec(), WORDS)


def test_chunking_without_a_tokenizer_says_what_is_missing() -> None:
    with pytest.raises(BuildError, match="load the collection's embedder"):
        chunk_rows(rows(("t", "b")), spec(), None)


AWKWARD = st.lists(
    st.sampled_from(
        [
            *"ab.!? \n\t\u00a0-_",
            "é",
            "e\u0301",
            "각",
            "\u1112\u1161",
            "🐦",
            "👩\u200d🚀",
            "ש",
            "لا",
            "\u202e",
            "。",
            "東",
            "\x00",
        ]
    ),
    max_size=300,
).map("".join)
LONG_WORD = st.integers(0, 2000).map(lambda n: "x" * n)
WIDE_SPACE = st.integers(0, 2000).map(lambda n: " " * n)
TEXT = st.none() | st.lists(AWKWARD | LONG_WORD | WIDE_SPACE | st.text(max_size=50), max_size=4).map("".join)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=4), st.integers(16, 40), st.integers(0, 8))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_portions_rebuild_every_field_exactly(
    pairs: list[tuple[str | None, str | None]], max_tokens: int, overlap_tokens: int
) -> None:
    table = chunk_rows(rows(*pairs), spec(max_tokens=max_tokens, overlap_tokens=overlap_tokens), WORDS)
    given_back = [(rebuilt(table, row, "title"), rebuilt(table, row, "body")) for row in range(len(pairs))]
    assert given_back == pairs
    counts = [len(spans) for spans in WORDS.token_spans(table["embed_text"].to_pylist())]
    assert max(counts, default=0) <= max_tokens


@given(st.lists(st.integers(0, 60), max_size=60), st.integers(16, 24), st.integers(0, 12), st.integers(0, 300))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_windows_cover_the_text_whatever_the_spans(starts: list[int], size: int, overlap: int, length: int) -> None:
    spans = np.array([(start, start + 1) for start in sorted(starts) if start < length], np.int32).reshape(-1, 2)
    windows = token_windows("x" * length, spans, size, ChunkSpec(max_tokens=24, overlap_tokens=overlap))
    assert windows[0][0] == 0
    assert windows[-1][1] == length
    assert all(after[0] <= before[1] and after[1] > before[1] for before, after in pairwise(windows))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        " " * 1_000_000,
        "a word and. " * 83_334,
        '.)"\n ' * 200_000,
        "東" * 1_000_000,
        "🐦\u202eש" * 333_334,
    ],
    ids=["one word", "white space", "prose", "marks", "no spaces", "emoji and right to left"],
)
def test_a_million_characters_are_cut_in_seconds_into_small_chunks(text: str) -> None:
    began = time.process_time()
    table = chunk_rows(rows((None, text)), spec(max_tokens=256), WORDS)
    assert time.process_time() - began < 10
    assert max(len(portion) for portion in table["text.body"].to_pylist()) <= 256 * 32
    assert rebuilt(table.slice(0, 3), 0, "body") == text[: len(rebuilt(table.slice(0, 3), 0, "body") or "")]

"""Cutting rows into chunks: windows of the embedding model's own tokens over a row's joined text fields.

A window ends where a sentence or at least a word ends, if one does in its last quarter. A chunk carries its portion of
each field with the offset where the portion begins, so that the portions of a row rebuild every field exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.embedding import Spans, Tokenizer
from indexer.errors import BuildError
from indexer.spec import ChunkSpec, CollectionSpec

SEPARATOR = "\n\n"
"""What stands between two fields of a row in its joined text."""
CHARACTERS_PER_TOKEN = 32
"""A longer token or gap counts as several tokens, so that a chunk is never much text: a model may see one unknown token
in a million characters without white space."""
SENTENCE_END = re.compile(r"[.!?\u061f\u0964][\"')\]\u201d\u2019]*\s+|[\u3002\uff01\uff1f]|\n\s*")
"""Western, Arabic and Devanagari marks before white space, Chinese and Japanese ones, and line ends."""
SPACE = re.compile(r"\s+")

Starts = npt.NDArray[np.int64]


def chunk_rows(rows: pa.Table, spec: CollectionSpec, tokenizer: Tokenizer | None) -> pa.Table:
    """Return one row per chunk of ``rows`` (the source's columns), a row's chunks together and in order.

    ========================  ============  ===================================================================
    column                    type          what
    ========================  ============  ===================================================================
    ``_row``                  uint32        position of the row in ``rows``
    ``_chunk``                uint32        0, 1, … within the row
    ``text.<field>``          string        the chunk's portion of the field; null where it has none
    ``start.<field>``         int64         where in the field the portion begins, in characters (code points)
    ``embed_text``            string        what is embedded and hashed; empty when there is nothing to embed
    ========================  ============  ===================================================================

    A row has at least one chunk. A null field has no portion; an empty one has one, "" at 0. With
    ``text.chunk.per_field`` each field is cut by itself, so that no chunk has text of two. Windows hold
    ``text.chunk.max_tokens`` tokens, or as many as the model reads if that is fewer, and share ``overlap_tokens``. A
    collection with the source's own vectors has one chunk per row and needs no ``tokenizer``. The document prompt is
    not in ``embed_text``.

    Raises BuildError when a text field is missing or not text, or when a tokenizer is needed and not given.
    """
    fields = {name: _text_column(rows, name) for name in spec.text.fields}
    if spec.vector.column is not None:
        return _whole(fields, _joined(list(fields.values())), np.arange(rows.num_rows))
    if tokenizer is None:
        raise BuildError("chunking by a model's tokens needs the model; load the collection's embedder")
    if spec.text.chunk.per_field:
        return _each_apart(fields, spec.text.chunk, tokenizer)
    return _together(fields, spec.text.chunk, tokenizer)


def _each_apart(fields: Mapping[str, pa.ChunkedArray], chunk: ChunkSpec, tokenizer: Tokenizer) -> pa.Table:
    """Return the chunks of each field by itself, a row's in the fields' order; a row without text has one."""
    parts = []
    without = np.ones(len(next(iter(fields.values()))), dtype=np.bool_)
    for name, column in fields.items():
        holds = pc.fill_null(pc.greater(pc.binary_length(column), 0), False).to_numpy()
        without &= ~holds
        places = np.flatnonzero(holds)
        cut = _together({name: column.take(pa.array(places))}, chunk, tokenizer)
        parts.append(cut.set_column(0, "_row", pa.array(places[cut["_row"].to_numpy()].astype(np.uint32))))
    parts.append(_whole(fields, _joined(list(fields.values())), np.flatnonzero(without)))
    chunks = pa.concat_tables(parts, promote_options="default").select(parts[-1].column_names)
    order = np.argsort(chunks["_row"].to_numpy(), kind="stable")
    rows = chunks["_row"].to_numpy()[order]
    first = np.diff(rows, prepend=np.uint32(0xFFFFFFFF)) != 0
    numbers = np.arange(len(rows)) - np.flatnonzero(first)[np.cumsum(first) - 1]
    ordered = chunks.take(pa.array(order)).set_column(1, "_chunk", pa.array(numbers.astype(np.uint32)))
    return _with_empty_fields(ordered, fields, first)


def _with_empty_fields(
    chunks: pa.Table, fields: Mapping[str, pa.ChunkedArray], first: npt.NDArray[np.bool_]
) -> pa.Table:
    """Put the empty fields of a row, which have no chunk of their own, into its ``first``."""
    for name, column in fields.items():
        empty = pc.fill_null(pc.equal(column, ""), False).take(chunks["_row"])
        here = pc.and_(empty, pa.array(first))
        for prefix, value in (("text", ""), ("start", 0)):
            place = chunks.schema.get_field_index(f"{prefix}.{name}")
            filled = pc.if_else(here, value, chunks.column(place)).cast(chunks.schema.field(place).type)
            chunks = chunks.set_column(place, f"{prefix}.{name}", filled)
    return chunks


def _together(fields: Mapping[str, pa.ChunkedArray], chunk: ChunkSpec, tokenizer: Tokenizer) -> pa.Table:
    """Return the chunks of the joined ``fields``."""
    n_rows = len(next(iter(fields.values())))
    joined = _joined(list(fields.values()))
    size = min(chunk.max_tokens, tokenizer.max_tokens)
    candidates = _maybe_long(joined, size)
    texts = joined.take(pa.array(candidates)).to_pylist()
    cut = _Cut(list(fields))
    for row, text, spans in zip(candidates.tolist(), texts, tokenizer.token_spans(texts), strict=True):
        windows = token_windows(text, spans, size, chunk)
        if len(windows) > 1:
            cut.add(row, text, windows, {name: column[row].as_py() for name, column in fields.items()})
    if not cut.rows:
        return _whole(fields, joined, np.arange(n_rows))
    short = np.setdiff1d(np.arange(n_rows), cut.rows)
    chunks = pa.concat_tables([_whole(fields, joined, short), cut.table()])
    return chunks.take(np.lexsort((chunks["_chunk"].to_numpy(), chunks["_row"].to_numpy())))


def token_windows(text: str, spans: Spans, size: int, chunk: ChunkSpec) -> list[tuple[int, int]]:
    """Return the windows ``(begin, end)`` of ``text`` in characters: in order, without gaps, the last one to its end.

    ``spans`` are the text's tokens, ``(n_tokens, 2)``; a window holds at most ``size`` of them and begins up to
    ``overlap_tokens`` before the end of the one before it (at most half a window).
    """
    starts = _starts(spans, len(text))
    if len(starts) <= size:
        return [(0, len(text))]
    sentences = np.searchsorted(starts, [match.end() for match in SENTENCE_END.finditer(text)])
    words = np.searchsorted(starts, [match.end() for match in SPACE.finditer(text)])
    overlap = min(chunk.overlap_tokens, size // 2)
    first, windows = 0, []
    while len(starts) - first > size:
        last = _cut_before(first + size, size // 4, sentences, words)
        windows.append((int(starts[first]), int(starts[last])))
        first = _resume_at(last, overlap, words)
    windows.append((int(starts[first]), len(text)))
    return [(begin, end) for begin, end in windows if begin < end]


def _cut_before(limit: int, room: int, sentences: Starts, words: Starts) -> int:
    """Return the last token that begins a sentence, else a word: at most ``limit``, less than ``room`` before it."""
    for boundaries in (sentences, words):
        found = int(np.searchsorted(boundaries, limit, side="right")) - 1
        if found >= 0 and boundaries[found] > limit - room:
            return int(boundaries[found])
    return limit


def _resume_at(last: int, overlap: int, words: Starts) -> int:
    """Return where the window after one that ended before ``last`` begins: at a word within the overlap, if any."""
    found = int(np.searchsorted(words, last - overlap))
    return int(words[found]) if found < len(words) and words[found] < last else last - overlap


def _starts(spans: Spans, length: int) -> Starts:
    """Return where each token begins, the first at 0, with pseudo-tokens in stretches that have too few."""
    starts = np.sort(spans[:, 0].astype(np.int64)) if len(spans) else np.zeros(1, np.int64)
    starts[0] = 0
    gaps = np.diff(starts, append=length)
    wide = np.flatnonzero(gaps > CHARACTERS_PER_TOKEN)
    extra = [np.arange(starts[i] + CHARACTERS_PER_TOKEN, starts[i] + gaps[i], CHARACTERS_PER_TOKEN) for i in wide]
    return np.sort(np.concatenate([starts, *extra])) if extra else starts


@dataclass
class _Cut:
    """The chunks of rows longer than one window, column by column."""

    names: Sequence[str]
    rows: list[int] = field(default_factory=list)
    row_of_chunk: list[int] = field(default_factory=list)
    chunk: list[int] = field(default_factory=list)
    embed_text: list[str] = field(default_factory=list)
    portions: dict[str, list[tuple[str | None, int | None]]] = field(default_factory=dict)

    def add(self, row: int, text: str, windows: list[tuple[int, int]], values: dict[str, str | None]) -> None:
        """Append one row's chunks."""
        self.rows.append(row)
        self.row_of_chunk += [row] * len(windows)
        self.chunk += range(len(windows))
        self.embed_text += [text[begin:end].strip() for begin, end in windows]
        at = 0
        for name in self.names:
            value = values[name]
            self.portions.setdefault(name, []).extend(_portions(value, at, windows))
            at += len(value) + len(SEPARATOR) if value else 0

    def table(self) -> pa.Table:
        """Return the chunks, typed as :func:`chunk_rows` says."""
        texts = {
            f"text.{name}": pa.array([text for text, _ in self.portions[name]], pa.string()) for name in self.names
        }
        starts = {f"start.{name}": pa.array([at for _, at in self.portions[name]], pa.int64()) for name in self.names}
        return _table(self.row_of_chunk, self.chunk, texts | starts, pa.array(self.embed_text, pa.string()))


def _portions(value: str | None, at: int, windows: list[tuple[int, int]]) -> list[tuple[str | None, int | None]]:
    """Return, per window, the part of the field ``value`` that it covers and where that part begins in the field.

    ``at`` is where the field begins in the joined text; an empty field lies in no window and goes to the first.
    """
    if not value:
        return [(value, None if value is None else 0), *[(None, None)] * (len(windows) - 1)]
    ranges = [(max(begin - at, 0), min(end - at, len(value))) for begin, end in windows]
    return [(value[begin:end], begin) if begin < end else (None, None) for begin, end in ranges]


def _whole(fields: Mapping[str, pa.ChunkedArray], joined: pa.ChunkedArray, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Return one chunk for each of ``rows``, with all its text."""
    places = pa.array(rows)
    texts = {f"text.{name}": column.take(places) for name, column in fields.items()}
    zeros = pa.array(np.zeros(len(rows), np.int64))
    nothing = pa.scalar(None, pa.int64())
    starts = {f"start.{name}": pc.if_else(texts[f"text.{name}"].is_null(), nothing, zeros) for name in fields}
    embed_text = pc.utf8_trim_whitespace(joined.take(places))
    return _table(rows, np.zeros(len(rows)), texts | starts, embed_text)


def _table(rows: npt.ArrayLike, chunk: npt.ArrayLike, columns: dict[str, pa.Array], embed_text: pa.Array) -> pa.Table:
    numbers = {"_row": pa.array(np.asarray(rows, np.uint32)), "_chunk": pa.array(np.asarray(chunk, np.uint32))}
    return pa.table(numbers | columns | {"embed_text": embed_text})


def _text_column(rows: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in rows.column_names:
        raise BuildError(f"text.fields names '{name}', which the table lacks; it has {', '.join(rows.column_names)}")
    column = rows[name]
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise BuildError(
            f"text.fields names '{name}', which is {kind} and not text; cast it at the source or leave it out"
        )
    return column.cast(pa.string())


def _joined(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    """Return each row's fields joined; null and empty ones are passed over."""
    # Not by null_handling="skip": pyarrow 26 drops the rows whose values are all null.
    texts = [pc.fill_null(column, "") for column in columns]
    joined = texts[0]
    for text in texts[1:]:
        both = pc.and_(pc.not_equal(joined, ""), pc.not_equal(text, ""))
        joined = pc.binary_join_element_wise(joined, pc.if_else(both, SEPARATOR, ""), text, "")
    return joined


def _maybe_long(joined: pa.ChunkedArray, size: int) -> npt.NDArray[np.int64]:
    """Return the rows whose text may exceed ``size`` tokens.

    An ASCII character makes at most one token, and a model may put one before the text. Others may make many (Hangul is
    taken apart, byte-level models see bytes), so those texts are counted.
    """
    n_bytes = pc.binary_length(joined).to_numpy()
    ascii_only = n_bytes == pc.utf8_length(joined).to_numpy()
    return np.flatnonzero(~ascii_only | (n_bytes >= size))

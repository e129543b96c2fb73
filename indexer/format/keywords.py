"""The keyword index of a segment, and how many of them open as one.

Each segment carries one tantivy segment with one document per chunk: the text fields, and the unsigned fast field
``row`` (:func:`indexer.format.records.keyword_row`). At load all segments' files are linked into one folder under a
composed ``meta.json``, so that scores share the statistics of the whole collection.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import tantivy

from indexer.errors import BuildError, CorruptFile
from indexer.format import cjk
from indexer.format.records import POSITION_BITS
from indexer.spec import CollectionSpec, Language, StoppedLanguage, TextSpec

ROW_FIELD = "row"
META_FILE = "meta.json"

LONGEST_TERM_BYTES = 128
"""Longer runs of letters and digits are not indexed: they are encoded data, not words."""

_BATCH_CHUNKS = 4096
_SMALLEST_HEAP_BYTES = 32_000_000
_LARGEST_HEAP_BYTES = 4_000_000_000
"""Just under tantivy's limit for one thread. A heap that overflows gives a second tantivy segment."""


def keyword_field(spec: CollectionSpec, field: str) -> str:
    """Return the index's name of a text field: ``text_<place in the spec>``, safe whatever the column is called."""
    return f"text_{list(spec.text.fields).index(field)}"


def analyser_name(text: TextSpec) -> str:
    """Return the name that the schema gives the analyser of ``text``."""
    return f"grebe_{text.language}" + ("_folded" if text.fold_accents else "")


def analyser(language: Language, *, fold_accents: bool = False) -> tantivy.TextAnalyzer:
    """Build the analyser: words in lower case, then the language's stop words and stemmer, as far as it has them.

    Accents are folded first, so that a word is the same with them and without; stop words that have some then stay.
    Texts come to it as :func:`indexed` has them.
    """
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(LONGEST_TERM_BYTES + 1)).filter(tantivy.Filter.lowercase())
    if fold_accents:
        builder = builder.filter(tantivy.Filter.ascii_fold())
    if language in get_args(StoppedLanguage):
        builder = builder.filter(tantivy.Filter.stopword(language))
    if language not in ("cjk", "none"):
        builder = builder.filter(tantivy.Filter.stemmer(language))
    return builder.build()


_TURKISH_LOWER = str.maketrans("İI", "iı")  # noqa: RUF001


def normalised(text: str, language: Language) -> str:
    """Return ``text``, of a row or a query, as what the analyser cannot do leaves it."""
    if language == "cjk":
        return cjk.normalised(text)
    return text.translate(_TURKISH_LOWER) if language == "turkish" else text


def indexed(text: str, language: Language) -> list[str]:
    """Return the values that stand for ``text`` in the index: itself or, of ``cjk``, its characters and its pairs."""
    text = normalised(text, language)
    return [cjk.apart(text), cjk.pairs(text)] if language == "cjk" else [text]


def register_analysers(index: tantivy.Index, text: TextSpec) -> None:
    """Give ``index`` the analyser that its schema names; an index forgets it between openings."""
    index.register_tokenizer(analyser_name(text), analyser(text.language, fold_accents=text.fold_accents))


def keyword_schema(spec: CollectionSpec) -> tantivy.Schema:
    """Return the schema, the same for every segment of one fingerprint: nothing stored, positions for phrases."""
    builder = tantivy.SchemaBuilder()
    for field in spec.text.fields:
        name = keyword_field(spec, field)
        builder.add_text_field(name, tokenizer_name=analyser_name(spec.text), index_option="position")
    builder.add_unsigned_field(ROW_FIELD, indexed=True, fast=True)
    return builder.build()


def write_keywords(folder: Path, chunks: pa.Table, spec: CollectionSpec, number: int) -> None:
    """Index the text of ``chunks`` into the new directory ``folder``, one document per chunk, in order.

    A chunk without text has a document without terms. Raises :class:`indexer.errors.BuildError`.
    """
    texts = chunks.select([f"text.{field}" for field in spec.text.fields])
    names = [keyword_field(spec, field) for field in spec.text.fields]
    folder.mkdir(parents=True)
    try:
        index = tantivy.Index(keyword_schema(spec), path=str(folder))
        register_analysers(index, spec.text)
        writer = index.writer(heap_size=_heap_bytes(texts, spec.text.language), num_threads=1)
        _add_documents(writer, texts, names, number << POSITION_BITS, spec.text.language)
        writer.commit()
        writer.wait_merging_threads()
    except (ValueError, OSError) as error:
        raise BuildError(f"the keyword index of segment {number} could not be written: {error}") from error
    for leftover in folder.glob(".*"):  # tantivy's locks and its list for garbage collection, of use to writers only
        leftover.unlink()


def _add_documents(
    writer: tantivy.IndexWriter, texts: pa.Table, names: Sequence[str], row: int, language: Language
) -> None:
    for batch in texts.to_batches(max_chunksize=_BATCH_CHUNKS):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            document = tantivy.Document()
            document.add_unsigned(ROW_FIELD, row)
            for name, value in zip(names, values, strict=True):
                if value:
                    for part in indexed(value, language):
                        document.add_text(name, part)
            writer.add_document(document)
            row += 1


def _heap_bytes(texts: pa.Table, language: Language) -> int:
    """Memory enough that the writer never flushes half-way: postings and hash table are within six times the text."""
    text_bytes = texts.nbytes * (4 if language == "cjk" else 1)  # a character of three bytes is a pair and itself
    return int(min(max(6 * text_bytes + 200 * texts.num_rows, _SMALLEST_HEAP_BYTES), _LARGEST_HEAP_BYTES))


def compose(folders: Iterable[Path], into: Path, spec: CollectionSpec) -> tantivy.Index:
    """Open the keyword indexes in ``folders`` as one index, in the new directory ``into``.

    The files are hard links, or copies where ``into`` is on another file system; ``into`` must outlive the index. An
    empty list gives an empty index. Raises :class:`indexer.errors.CorruptFile` if a folder has no readable index.
    """
    into.mkdir(parents=True)
    segments: list[dict[str, Any]] = []
    meta = json.loads(_empty_meta(spec, into))
    for folder in folders:
        found = _read_meta(folder)
        if found["schema"] != meta["schema"]:
            raise CorruptFile(f"{folder}: its schema is not that of collection {spec.name!r}; rebuild the collection")
        segments.extend(found["segments"])
        for file in folder.iterdir():
            if file.name != META_FILE:
                _link(file, into / file.name)
    (into / META_FILE).write_text(json.dumps({**meta, "segments": segments}))
    index = tantivy.Index.open(str(into))
    index.config_reader("manual", 0)
    register_analysers(index, spec.text)
    return index


def _empty_meta(spec: CollectionSpec, into: Path) -> str:
    """Let tantivy write the ``meta.json`` of an empty index with the spec's schema."""
    tantivy.Index(keyword_schema(spec), path=str(into))
    return (into / META_FILE).read_text()


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads((folder / META_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{folder / META_FILE}: not a keyword index: {error}") from error
    return meta


def _link(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(file, target)

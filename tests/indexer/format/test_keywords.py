from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest
import tantivy

from indexer.errors import CorruptFile
from indexer.format.keywords import ROW_FIELD, analyser, compose, keyword_field, write_keywords
from indexer.format.records import keyword_row
from indexer.spec import Language
from tests.indexer.format.tables import spec_of

SPEC = spec_of()


def texts(bodies: list[str | None], titles: list[str | None] | None = None) -> pa.Table:
    titles = titles or [None] * len(bodies)
    return pa.table({"text.title": pa.array(titles, pa.string()), "text.body": pa.array(bodies, pa.string())})


def hits(index: tantivy.Index, query: str, field: str = "body") -> dict[int, float]:
    """Return row → score of all that match."""
    searcher = index.searcher()
    parsed = index.parse_query(query, [keyword_field(SPEC, field)])
    found = searcher.search(parsed, 100).hits
    rows = searcher.fast_field_values(ROW_FIELD, [address for _, address in found])
    return {int(row): round(score, 4) for row, (score, _) in zip(rows, found, strict=True) if row is not None}


def composed(tmp_path: Path, *tables: pa.Table) -> tantivy.Index:
    folders = [tmp_path / f"part{at}" for at in range(len(tables))]
    for at, (folder, table) in enumerate(zip(folders, tables, strict=True)):
        write_keywords(folder, table, SPEC, number=at)
    return compose(folders, tmp_path / "composed", SPEC)


def test_every_chunk_is_a_document_named_by_its_place(tmp_path: Path) -> None:
    index = composed(tmp_path, texts(["a grebe", None, "two grebes", ""]), texts(["no bird", "the grebe"]))
    assert index.searcher().num_docs == 6
    assert set(hits(index, "grebe")) == {keyword_row(0, 0), keyword_row(0, 2), keyword_row(1, 1)}


def test_scores_are_those_of_one_index_over_everything(tmp_path: Path) -> None:
    bodies: list[str | None] = [f"grebe number {at} " + "heron " * (at % 5) for at in range(40)]
    whole = composed(tmp_path / "whole", texts(bodies))
    parts = composed(tmp_path / "parts", *(texts(bodies[at : at + 8]) for at in range(0, 40, 8)))
    assert parts.searcher().num_segments == 5
    assert sorted(hits(parts, "heron").values()) == sorted(hits(whole, "heron").values())


def test_the_fields_are_searched_apart(tmp_path: Path) -> None:
    index = composed(tmp_path, texts(["heron", "grebe"], ["grebe", None]))
    assert set(hits(index, "grebe", "title")) == {0}
    assert set(hits(index, "grebe", "body")) == {1}


def test_phrases_hold_within_a_chunk(tmp_path: Path) -> None:
    index = composed(tmp_path, texts(["great crested grebe", "crested is the great grebe", "the great"]))
    assert set(hits(index, '"great crested"')) == {0}


def test_the_largest_segment_number_fits_the_row_field(tmp_path: Path) -> None:
    number = (1 << 40) - 1
    write_keywords(tmp_path / "part", texts(["grebe"]), SPEC, number=number)
    index = compose([tmp_path / "part"], tmp_path / "composed", SPEC)
    assert set(hits(index, "grebe")) == {keyword_row(number, 0)}


def test_a_term_set_on_the_row_field_finds_its_chunks(tmp_path: Path) -> None:
    index = composed(tmp_path, texts(["a"] * 10), texts(["b"] * 10))
    wanted = [keyword_row(0, 3), keyword_row(1, 7)]
    found = index.searcher().search(tantivy.Query.term_set_query(index.schema, ROW_FIELD, wanted)).hits
    assert index.searcher().fast_field_values(ROW_FIELD, [address for _, address in found]) == wanted


def test_one_segment_is_written_and_nothing_that_only_a_writer_needs(tmp_path: Path) -> None:
    write_keywords(tmp_path / "part", texts([f"text {at}" for at in range(10_000)]), SPEC, number=1)
    names = {file.name for file in (tmp_path / "part").iterdir()}
    stems = {name.split(".")[0] for name in names - {"meta.json"}}
    assert len(stems) == 1
    assert {name.split(".")[1] for name in names} == {"json", "fast", "fieldnorm", "idx", "pos", "store", "term"}


def test_no_segments_open_as_an_empty_index(tmp_path: Path) -> None:
    index = composed(tmp_path)
    assert (index.searcher().num_docs, hits(index, "grebe")) == (0, {})


def test_field_names_of_any_shape_are_safe(tmp_path: Path) -> None:
    name = "Ünïts.of: the -page"
    spec = spec_of(text={"fields": {name: 1.0}})
    write_keywords(tmp_path / "part", pa.table({f"text.{name}": ["grebe"]}), spec, number=0)
    index = compose([tmp_path / "part"], tmp_path / "composed", spec)
    assert set(hits(index, "grebe", "title")) == {0}


@pytest.mark.parametrize(
    ("language", "text", "terms"),
    [
        ("english", "The Grebes were diving", ["grebe", "were", "dive"]),
        ("french", "Les grèbes plongeaient", ["greb", "plong"]),
        ("german", "Die Häuser der Vögel", ["haus", "vogel"]),
        ("russian", "Птицы и их гнёзда", ["птиц", "гнезд"]),
        ("turkish", "Kuşlar ve yuvaları", ["kuş", "ve", "yuva"]),  # noqa: RUF001
        ("none", "The Grebes were diving", ["the", "grebes", "were", "diving"]),
        ("cjk", "The Grebes were diving", ["the", "grebes", "were", "diving"]),
    ],
)
def test_each_language_has_its_stop_words_and_stems(language: str, text: str, terms: list[str]) -> None:
    assert analyser(language).analyze(text) == terms  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("language", "accented", "plain"),
    [
        ("english", "Cafés naïve résumés Łódź", "cafes naive resumes lodz"),
        ("french", "L'école française où même nous étudiâmes", "l'ecole francaise ou meme nous etudiames"),
        ("german", "Häuser am Café", "hauser am cafe"),
        ("none", "Ångström", "angstrom"),
    ],
)
def test_folded_words_are_the_same_with_and_without_accents(language: Language, accented: str, plain: str) -> None:
    folded = analyser(language, fold_accents=True)
    assert folded.analyze(accented) == folded.analyze(plain)
    assert analyser(language).analyze(accented) != analyser(language).analyze(plain)


@pytest.mark.parametrize("language", get_args(Language))
def test_every_language_of_the_spec_is_indexed_and_found(tmp_path: Path, language: str) -> None:
    spec = spec_of(text={"fields": {"title": 1.0, "body": 1.0}, "language": language})
    write_keywords(tmp_path / "part", texts(["قطة 🦆 חתול 123"]), spec, number=0)
    index = compose([tmp_path / "part"], tmp_path / "composed", spec)
    assert [set(hits(index, query)) for query in ("قطة", "חתול", "123", "🦆")] == [{0}, {0}, {0}, set()]


def test_words_too_long_to_be_words_are_left_out(tmp_path: Path) -> None:
    index = composed(tmp_path, texts(["x" * 128 + " " + "y" * 129]))
    assert (len(hits(index, "x" * 128)), len(hits(index, "y" * 129))) == (1, 0)


def test_a_missing_keyword_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptFile, match=r"absent/meta\.json: not a keyword index"):
        compose([tmp_path / "absent"], tmp_path / "composed", SPEC)


def test_an_index_of_another_schema_is_refused(tmp_path: Path) -> None:
    write_keywords(tmp_path / "part", texts(["grebe"]), SPEC, number=0)
    french = spec_of(text={"fields": {"title": 2.0, "body": 1.0}, "language": "french"})
    with pytest.raises(CorruptFile, match="its schema is not that of collection 'birds'"):
        compose([tmp_path / "part"], tmp_path / "composed", french)


@pytest.fixture
def other_file_system(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    if not memory.is_dir() or os.stat(memory).st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("needs two file systems")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def test_files_are_copied_to_another_file_system(tmp_path: Path, other_file_system: Path) -> None:
    write_keywords(tmp_path / "part", texts(["grebe"]), SPEC, number=0)
    assert set(hits(compose([tmp_path / "part"], other_file_system / "composed", SPEC), "grebe")) == {0}

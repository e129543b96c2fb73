from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from jobs.sample import SAMPLE_CHARACTERS, SAMPLE_ROWS, sample_of


def test_a_sample_has_the_beginnings_of_the_first_values_that_there_are(tmp_path: Path) -> None:
    texts = [None, "é" * 2 * SAMPLE_CHARACTERS, *["x"] * SAMPLE_ROWS]
    write_deltalake(str(tmp_path), pa.table({'the "text"': pa.array(texts, pa.string()), "n": range(len(texts))}))

    (values,) = sample_of(str(tmp_path), ['the "text"']).values()

    assert (values[0], len(values)) == ("é" * SAMPLE_CHARACTERS, SAMPLE_ROWS - 1)


def test_rows_that_cannot_be_read_say_nothing(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path), pa.table({"a": ["x"]}))
    assert sample_of(str(tmp_path), []) == {}
    for file in tmp_path.glob("*.parquet"):
        file.unlink()
    assert sample_of(str(tmp_path), ["a"]) == {}

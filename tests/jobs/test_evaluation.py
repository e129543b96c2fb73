from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from jobs.errors import EvaluationError
from jobs.evaluation import load_set


def write_set(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines: dict[str, list[dict[str, object]]] = {
        "corpus": [{"id": 1, "title": "a", "text": "b", "extra": 0}, {"id": "2", "text": None}],
        "queries": [{"id": "q", "text": "what"}],
    }
    for name, rows in lines.items():
        with gzip.open(folder / f"{name}.jsonl.gz", "wt") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    (folder / "qrels.tsv").write_text("q\t1\t1\nq\t2\t0\n")


def test_a_set_is_read_with_missing_texts_as_empty(tmp_path: Path) -> None:
    write_set(tmp_path / "tiny")
    found = load_set(tmp_path, "tiny")
    assert found.documents == ({"id": "1", "title": "a", "text": "b"}, {"id": "2", "title": "", "text": ""})
    assert (found.queries, found.judgements) == ({"q": "what"}, {"q": {"1": 1, "2": 0}})


def test_a_missing_set_names_those_that_are_there(tmp_path: Path) -> None:
    write_set(tmp_path / "tiny")
    with pytest.raises(EvaluationError, match=r"has no corpus.jsonl.gz.*the sets in .* are tiny"):
        load_set(tmp_path, "absent")


def test_a_missing_folder_says_which_variable_names_it(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="set GREBE_DATA"):
        load_set(tmp_path / "nowhere", "scifact")

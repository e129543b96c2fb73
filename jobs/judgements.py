"""Judged queries: texts by query, and which documents answer them how well, as evaluation sets have them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.errors import EvaluationError

EXAMPLE = '"id": "q1", "text": "..."'

Judgements = dict[str, dict[str, int]]
"""By query, each judged document's grade: 0 for one that does not answer it."""


def read_queries(path: Path) -> dict[str, str]:
    """Read queries, a JSON object with ``id`` and ``text`` a line; raises EvaluationError."""
    queries = {}
    for number, line in enumerate(read_lines(path), 1):
        if "id" not in line or not isinstance(line.get("text"), str):
            raise EvaluationError(f"{path}:{number}: expected {{{EXAMPLE}}}")
        queries[str(line["id"])] = line["text"]
    return queries


def read_judgements(path: Path) -> Judgements:
    """Read judgements, query, document and grade a line, parted by tabs; raises EvaluationError."""
    judgements: Judgements = {}
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            for number, fields in enumerate(csv.reader(lines, delimiter="\t"), 1):
                if len(fields) != 3 or not fields[2].strip().removeprefix("-").isdigit():
                    expected = "a query, a document and a whole number, parted by tabs, and no header"
                    raise EvaluationError(f"{path}:{number}: expected {expected}")
                query, document, grade = fields
                judgements.setdefault(query, {})[document] = int(grade)
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error
    return judgements


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read a JSON object a line, of a file that may be gzipped; raises EvaluationError."""
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    value = json.loads(line)
                except ValueError:
                    value = None
                if not isinstance(value, dict):
                    raise EvaluationError(f"{path}:{number}: expected a JSON object, as in {{{EXAMPLE}}}")
                yield value
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from error

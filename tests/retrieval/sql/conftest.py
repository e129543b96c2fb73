"""Asking the shelf in SQL."""

from __future__ import annotations

from typing import Any

import pytest

from retrieval.errors import FilterError
from retrieval.policies import OPERATOR, Caller
from retrieval.snapshot import Snapshot
from retrieval.sql import SqlAnswer, parse_statement, run_statement


def ask(
    snapshot: Snapshot, text: str, *, dialect: str = "databricks", caller: Caller = OPERATOR, **params: Any
) -> SqlAnswer:
    return run_statement(snapshot, parse_statement(text, dialect), params=params, caller=caller)


def refusal(snapshot: Snapshot, text: str, **asked: Any) -> FilterError:
    with pytest.raises(FilterError) as caught:
        ask(snapshot, text, **asked)
    return caught.value


def place(error: FilterError) -> str:
    """Return the stretch of the text that an error points at."""
    return error.text[error.start : error.start + error.length]

"""Asking a collection in SQL, as it lies on one machine and as if each of its segments lay on another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from retrieval.cache import LocalCache
from retrieval.distributed.nearby import NearbyNodes
from retrieval.distributed.select import select_from_nodes
from retrieval.errors import FilterError
from retrieval.keyword_legs import KeywordLegs
from retrieval.passing import SearchCaches
from retrieval.policies import OPERATOR, Caller
from retrieval.snapshot import Snapshot
from retrieval.sql import SqlAnswer, Statement, parse_statement, run_statement

Run = Callable[..., SqlAnswer]
_run: list[Run] = [run_statement]


@pytest.fixture(scope="module", params=["one machine", "nodes"])
def wherever(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ask every statement of the module twice: of the snapshot itself, and of nodes that have a segment each."""
    if request.param == "one machine":
        yield
        return
    with ExitStack() as stack:
        _run.append(_Nodes(LocalCache(tmp_path_factory.mktemp("nodes")), stack))
        yield
        _run.pop()


def on_one_machine() -> bool:
    return _run[-1] is run_statement


def run_anywhere(snapshot: Snapshot, statement: Statement, **asked: Any) -> SqlAnswer:
    """Run a statement wherever this module's tests have theirs run."""
    return _run[-1](snapshot, statement, **asked)


def ask(
    snapshot: Snapshot, text: str, *, dialect: str = "databricks", caller: Caller = OPERATOR, **params: Any
) -> SqlAnswer:
    return run_anywhere(snapshot, parse_statement(text, dialect), params=params, caller=caller)


def refusal(snapshot: Snapshot, text: str, **asked: Any) -> FilterError:
    with pytest.raises(FilterError) as caught:
        ask(snapshot, text, **asked)
    return caught.value


def place(error: FilterError) -> str:
    """Return the stretch of the text that an error points at."""
    return error.text[error.start : error.start + error.length]


class _Nodes:
    """Runs statements on nodes that have one segment of a snapshot each, the first none; they stay for the module."""

    def __init__(self, cache: LocalCache, stack: ExitStack) -> None:
        self._cache = cache
        self._stack = stack
        self._known: dict[int, tuple[Snapshot, list[Snapshot]]] = {}

    def __call__(self, snapshot: Snapshot, statement: Statement, **asked: Any) -> SqlAnswer:
        known = self._known.get(id(snapshot))
        parts = self._opened(snapshot) if known is None else known[1]
        for part in parts:
            part.govern(snapshot.spec)
        return select_from_nodes(NearbyNodes(parts).version(), statement, **asked)

    def _opened(self, snapshot: Snapshot) -> list[Snapshot]:
        shares = [(), *((view.retain(),) for view in snapshot.views)]
        parts = [Snapshot(snapshot.state, views, KeywordLegs(self._cache), SearchCaches()) for views in shares]
        for part in parts:
            self._stack.enter_context(part)
        self._known[id(snapshot)] = snapshot, parts
        return parts
